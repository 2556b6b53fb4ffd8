import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseEnv } from "node:util";
import {
  choice,
  defineSettings,
  flag,
  integer,
  readSettings,
  type Settings,
  SettingsError,
  text,
} from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { providers } from "./api/calls.ts";

/** The folder of the repository. */
export const repository = new URL("../../", import.meta.url);

const webAddress = (fallback?: string) =>
  z
    .string()
    .regex(/^https?:\/\/[^\s/]+/, "must be http://host:port or https://host:port")
    .transform((value) => value.trim().replace(/\/+$/, ""))
    .optional()
    .transform((value) => value ?? fallback);

/** The settings of this program. Those of the two servers come beside them, by their own names after `POD_`. */
export const bundleSettings = defineSettings({
  ARCHESTRA_URL: {
    schema: webAddress("http://localhost:9000").transform((value) => value ?? ""),
    description: "Address of the platform's API.",
  },
  ARCHESTRA_UI_URL: {
    schema: webAddress("http://localhost:3000").transform((value) => value ?? ""),
    description: "Address of the platform's pages, for the links that are printed.",
  },
  ARCHESTRA_API_KEY: {
    schema: text(),
    description: "API key of an administrator; with it nobody signs in and no key is made.",
    secret: true,
  },
  ARCHESTRA_AUTH_ADMIN_EMAIL: {
    schema: text({ default: "admin@example.com" }),
    description: "Administrator who signs in to make an API key, as the platform was started with.",
  },
  ARCHESTRA_AUTH_ADMIN_PASSWORD: {
    schema: text({ default: "password" }),
    description: "The administrator's password.",
    secret: true,
  },
  ARCHESTRA_STATE_FILE: {
    schema: text({ default: "archestra/.state.json" }),
    description: "File, readable by its owner alone, that keeps the API key and the servers' tokens.",
  },
  LLM_PROVIDER: {
    schema: z
      .string()
      .transform((value, context) => {
        const found = providers.find((provider) => provider === value.trim().toLowerCase());
        if (found !== undefined) return found;
        context.addIssue({ code: "custom", message: `must be one of ${providers.join(", ")}` });
        return z.NEVER;
      })
      .optional(),
    description:
      "Provider of the agent's model. Default: that of the key which is set. For another service with OpenAI's interface, `openai` and `LLM_BASE_URL`.",
    example: "anthropic",
  },
  LLM_API_KEY: {
    schema: text(),
    description:
      "Its key; `OPENAI_API_KEY`, `ANTHROPIC_API_KEY` and `GEMINI_API_KEY` do as well. Ollama and vLLM need none.",
    secret: true,
  },
  OPENAI_API_KEY: { schema: text(), description: "Key of OpenAI.", secret: true },
  ANTHROPIC_API_KEY: { schema: text(), description: "Key of Anthropic.", secret: true },
  GEMINI_API_KEY: { schema: text(), description: "Key of Gemini.", secret: true },
  LLM_BASE_URL: {
    schema: webAddress(),
    description:
      "Address of the provider as the platform's container reaches it, `/v1` included. Default: the provider's own; for Ollama `http://host.docker.internal:11434/v1`.",
    example: "https://llm.internal/v1",
  },
  LLM_MODEL: {
    schema: text(),
    description:
      "Model by its provider's name for it. Default: the one that the platform marks as the provider's best.",
    example: "gpt-5.4",
  },
  ARCHESTRA_TRANSPORT: {
    schema: choice(["streamable-http", "stdio"], "streamable-http"),
    description:
      "How the platform talks to the servers; also `--transport`. Over `stdio` it hands answers to the wrong conversation as soon as there are two.",
  },
  ARCHESTRA_CLUSTER: {
    schema: choice(["kind", "kubeconfig"], "kind"),
    description:
      "Where the servers run: `kind` is the cluster that the platform's quickstart makes in Docker, `kubeconfig` one of your own.",
  },
  ARCHESTRA_NODE: {
    schema: text({ default: "archestra-mcp-control-plane" }),
    description: "Container of the cluster's node, with `kind`.",
  },
  ARCHESTRA_KUBECONFIG: {
    schema: text(),
    description: "Path for `kubectl`, with `kubeconfig`. Default: kubectl's own.",
  },
  ARCHESTRA_KUBE_CONTEXT: { schema: text(), description: "Context in it. Default: the current one." },
  ARCHESTRA_NAMESPACE: {
    schema: text({ default: "default" }),
    description: "Namespace that the platform starts servers in.",
  },
  ARCHESTRA_DATABASE_NETWORK: {
    schema: text({ default: "es-to-pg_default" }),
    description: "Docker network of the databases, which the node joins; `none` joins none.",
  },
  ARCHESTRA_NETWORK_POLICY: {
    schema: flag(true),
    description:
      "`false` leaves out the NetworkPolicy that limits the servers' traffic to their port, DNS and the databases' ports.",
  },
  ARCHESTRA_STAGING_SIZE: {
    schema: z
      .string()
      .regex(/^\d+(\.\d+)?(Mi|Gi|Ti)$/, "must be a size such as 10Gi")
      .default("10Gi"),
    description: "Size of the volume that both servers share. Only a new claim takes it.",
  },
  ARCHESTRA_STORAGE_CLASS: { schema: text(), description: "Its storage class. Default: the cluster's default." },
  ARCHESTRA_POD_MEMORY: {
    schema: z
      .string()
      .regex(/^\d+(Mi|Gi)$/, "must be a size such as 512Mi")
      .default("512Mi"),
    description: "Memory limit of each server's pod.",
  },
  ARCHESTRA_READY_SECONDS: {
    schema: integer({ min: 1, max: 3600, default: 180 }),
    description: "Seconds that a server has to start and list its tools.",
  },
  ARCHESTRA_POLL_MS: {
    schema: integer({ min: 1, max: 60_000, default: 2000 }),
    description: "Milliseconds between two looks at something that is starting.",
  },
  ES_MCP_IMAGE: {
    schema: text({ default: "es-mcp:latest" }),
    description:
      "Image of es-mcp. A name with neither `/` nor `.` is never pulled: this program loads it into the cluster.",
  },
  PG_MCP_IMAGE: { schema: text({ default: "pg-mcp:latest" }), description: "Image of pg-mcp." },
  ES_MCP_REMOTE_URL: {
    schema: webAddress(),
    description: "Endpoint of an es-mcp that runs elsewhere; then the platform starts none.",
    example: "https://es-mcp.internal/mcp",
  },
  ES_MCP_REMOTE_TOKEN: { schema: text(), description: "Its `MCP_HTTP_TOKEN`.", secret: true },
  PG_MCP_REMOTE_URL: { schema: webAddress(), description: "Endpoint of a pg-mcp that runs elsewhere." },
  PG_MCP_REMOTE_TOKEN: { schema: text(), description: "Its `MCP_HTTP_TOKEN`.", secret: true },
  ARCHESTRA_SCHEDULE_CRON: {
    schema: text(),
    description:
      "When the agent runs by itself, as a cron expression. Not set: no schedule, and one made before is removed.",
    example: "0 2 * * *",
  },
  ARCHESTRA_SCHEDULE_TIMEZONE: { schema: text({ default: "UTC" }), description: "Time zone of the schedule." },
  ARCHESTRA_SCHEDULE_MESSAGE: {
    schema: text({ default: "Copy the products index to the table products in PostgreSQL and verify the load." }),
    description: "What the agent is told then.",
  },
});

export type BundleSettings = Settings<typeof bundleSettings>;
export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the settings from the environment, or throws one error that lists all problems. */
export function readBundleSettings(environment: Environment): BundleSettings {
  const settings = readSettings(bundleSettings, { ...portsOfCompose(environment), ...setOnes(environment) });
  const problems: string[] = [];
  for (const name of ["ES_MCP", "PG_MCP"] as const) {
    if (settings[`${name}_REMOTE_URL`] !== undefined && settings[`${name}_REMOTE_TOKEN`] === undefined) {
      problems.push(`${name}_REMOTE_TOKEN: is needed with ${name}_REMOTE_URL`);
    }
  }
  if (problems.length > 0) throw new SettingsError(problems);
  return settings;
}

/** The environment with what `.env` of the repository adds to it, as Docker Compose reads it. */
export function withEnvFile(environment: Environment, file: URL | string = new URL(".env", repository)): Environment {
  let content: string;
  try {
    content = readFileSync(typeof file === "string" ? file : fileURLToPath(file), "utf8");
  } catch {
    return environment;
  }
  return { ...parseEnv(content), ...setOnes(environment) };
}

/** Variables that are set to something: `${NAME:-}` in a compose file sets them to nothing. */
function setOnes(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""));
}

/** Where docker-compose.yml publishes the platform when its .env says another port. */
function portsOfCompose({ ARCHESTRA_API_HOST_PORT: api, ARCHESTRA_UI_HOST_PORT: ui }: Environment): Environment {
  return {
    ...(api === undefined ? {} : { ARCHESTRA_URL: `http://localhost:${api}` }),
    ...(ui === undefined ? {} : { ARCHESTRA_UI_URL: `http://localhost:${ui}` }),
  };
}
