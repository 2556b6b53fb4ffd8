/** The state to reach, computed from settings alone. It holds no id: those are the platform's. */
import { readFileSync } from "node:fs";
import { kitSettings, readSettings, type SettingsDefinition, SettingsError } from "@es-to-pg/mcp-kit";
import { settingsProblems as esProblems, esSettings, nodesOf } from "es-mcp/dist/config.js";
import { connections, pgSettings } from "pg-mcp/dist/config.js";
import type { providers } from "./api/calls.ts";
import { BundleError } from "./bundle-error.ts";
import {
  deploymentYaml,
  fixedEnvironment,
  HTTP_PATH,
  HTTP_PORT,
  type Manifest,
  networkPolicy,
  networkPolicyName,
  type ObjectName,
  stagingClaim,
} from "./deployment.ts";
import { type BundleSettings, type Environment, repository } from "./settings.ts";

/** Names on the platform: letters, digits and `_`, because tools are named after them. Never rename one. */
const serverNames = ["es_mcp", "pg_mcp"] as const;
export type ServerName = (typeof serverNames)[number];

export const AGENT_NAME = "Data Transformer";
export const GATEWAY_NAME = "Data Transformer gateway";
export const SCHEDULE_NAME = "Data Transformer";
export const LLM_KEY_NAME = "Data Transformer";

/** The variable and the form field that carry the token of a server over HTTP. */
export const TOKEN_VARIABLE = "MCP_HTTP_TOKEN";
export const TOKEN_FIELD = "mcp_http_token";

interface DesiredServerCommon {
  name: ServerName;
  description: string;
  icon: string;
}

export type DesiredServer = DesiredServerCommon &
  (
    | {
        kind: "local";
        image: string;
        transport: "streamable-http" | "stdio";
        /** Given to the platform at installation, and kept by it as a Kubernetes secret. */
        secrets: Readonly<Record<string, string>>;
        yaml: string;
      }
    | { kind: "remote"; url: string; token: string }
  );

export interface Desired {
  servers: readonly DesiredServer[];
  llm:
    | {
        provider: (typeof providers)[number];
        apiKey: string | undefined;
        baseUrl: string | undefined;
        model: string | undefined;
      }
    | undefined;
  agent: {
    description: string;
    icon: string;
    systemPrompt: string;
    suggestedPrompts: readonly { summaryTitle: string; prompt: string }[];
  };
  gateway: { description: string };
  schedule: { cron: string; timezone: string; message: string } | undefined;
  /** What `kubectl` applies; none where no server runs in the cluster. */
  manifests: readonly Manifest[];
  /** What earlier settings may have applied, and is to be there no more. */
  withdrawn: readonly ObjectName[];
  /** What one should know before it is applied. */
  warnings: readonly string[];
}

const descriptions: Record<ServerName, { description: string; icon: string }> = {
  es_mcp: { description: "Reads Elasticsearch and stages exports.", icon: "🔎" },
  pg_mcp: { description: "Loads staged exports into PostgreSQL and proves them.", icon: "🐘" },
};

const suggestedPrompts = [
  { summaryTitle: "Copy an index", prompt: "Copy the products index to PostgreSQL." },
  { summaryTitle: "What is there?", prompt: "Which indices does Elasticsearch have, and which tables PostgreSQL?" },
  {
    summaryTitle: "Plan without loading",
    prompt:
      "Plan a copy of the products index into the table products, and tell me what would be rejected. Load nothing.",
  },
  {
    summaryTitle: "Copy a part, transformed",
    prompt:
      "Copy the products with a price above 100 into the table expensive_products, prices rounded to whole numbers.",
  },
  { summaryTitle: "Verify a load", prompt: "Verify the last load and list what was rejected, by reason." },
];

/** What the servers may wait in a call: over stdio every wait blocks the pipe for all conversations. */
const WAIT_OVER_STDIO = "0";

export function desiredState(settings: BundleSettings, environment: Environment): Desired {
  const transport = settings.ARCHESTRA_TRANSPORT;
  const pods = podSettings(environment, transport);
  const image = { es_mcp: settings.ES_MCP_IMAGE, pg_mcp: settings.PG_MCP_IMAGE };
  const remote = {
    es_mcp: { url: settings.ES_MCP_REMOTE_URL, token: settings.ES_MCP_REMOTE_TOKEN },
    pg_mcp: { url: settings.PG_MCP_REMOTE_URL, token: settings.PG_MCP_REMOTE_TOKEN },
  };
  const servers = serverNames.map((name): DesiredServer => {
    const { url, token } = remote[name];
    if (url !== undefined) return { name, ...descriptions[name], kind: "remote", url, token: token ?? "" };
    const yaml = deploymentYaml({
      image: image[name],
      transport,
      memory: settings.ARCHESTRA_POD_MEMORY,
      environment: pods[name].plain,
    });
    return {
      name,
      ...descriptions[name],
      kind: "local",
      image: image[name],
      transport,
      secrets: pods[name].secrets,
      yaml,
    };
  });
  const local = servers.filter((server) => server.kind === "local");
  const llm = desiredLlm(settings);
  return {
    servers,
    llm,
    agent: {
      description: "Moves data from Elasticsearch to PostgreSQL, and proves that none was lost.",
      icon: "🔁",
      systemPrompt: agentPrompt(),
      suggestedPrompts,
    },
    gateway: {
      description: "The tools of both servers, and the Data Transformer, for Claude Code, Cursor and others.",
    },
    schedule:
      settings.ARCHESTRA_SCHEDULE_CRON === undefined
        ? undefined
        : {
            cron: settings.ARCHESTRA_SCHEDULE_CRON,
            timezone: settings.ARCHESTRA_SCHEDULE_TIMEZONE,
            message: settings.ARCHESTRA_SCHEDULE_MESSAGE,
          },
    manifests:
      local.length === 0
        ? []
        : [
            stagingClaim({ size: settings.ARCHESTRA_STAGING_SIZE, storageClass: settings.ARCHESTRA_STORAGE_CLASS }),
            ...(settings.ARCHESTRA_NETWORK_POLICY
              ? [networkPolicy({ servers: local.map(({ name }) => name), egressPorts: pods.ports })]
              : []),
          ],
    withdrawn: local.length > 0 && !settings.ARCHESTRA_NETWORK_POLICY ? [networkPolicyName] : [],
    warnings: [...warnings(transport, llm), ...local.flatMap(({ name }) => loopbackWarning(name, pods[name]))],
  };
}

/** The system prompt: `agent-prompt.md`, which the platform renders as a Handlebars template. */
export function agentPrompt(file: URL = new URL("agent-prompt.md", repository)): string {
  const prompt = readFileSync(file, "utf8").trim();
  if (prompt.includes("{{")) {
    throw new BundleError("prompt_not_safe", "agent-prompt.md holds {{, which the platform takes for a placeholder.", {
      next: "Write \\{{ for the text {{.",
    });
  }
  return prompt;
}

function warnings(transport: BundleSettings["ARCHESTRA_TRANSPORT"], llm: Desired["llm"]): string[] {
  const lines: string[] = [];
  if (transport === "stdio") {
    lines.push(
      "transport stdio: the platform feeds every conversation into one process and hands answers to the wrong one; hold one conversation at a time",
    );
  }
  if (llm === undefined) {
    lines.push(
      "no LLM key is set (LLM_API_KEY, LLM_PROVIDER): the agent uses the organization's default model, if it has one",
    );
  }
  if (llm?.baseUrl !== undefined && /^https?:\/\/(localhost|127\.|\[::1\])/.test(llm.baseUrl)) {
    lines.push(
      "LLM_BASE_URL names this machine, which to the platform's container is the container itself; host.docker.internal is this machine",
    );
  }
  return lines;
}

/** The address of a database that leads a pod to itself. */
function loopbackWarning(name: ServerName, pod: PodSettings): string[] {
  const hosts = name === "es_mcp" ? nodesOf(esOf(pod)).map(({ hostname }) => hostname) : [pgOf(pod).writer.host];
  const loopback = hosts.find((host) => /^(localhost|127\..*|\[?::1\]?)$/.test(host));
  if (loopback === undefined) return [];
  return [
    `${name} is to reach its database at ${loopback}, which to a pod is the pod itself; use a name that the cluster knows, or this machine's address in its network`,
  ];
}

function desiredLlm(settings: BundleSettings): Desired["llm"] {
  const keys = {
    openai: settings.OPENAI_API_KEY,
    anthropic: settings.ANTHROPIC_API_KEY,
    gemini: settings.GEMINI_API_KEY,
  };
  const found = (["openai", "anthropic", "gemini"] as const).find((provider) => keys[provider] !== undefined);
  const provider =
    settings.LLM_PROVIDER ??
    (settings.LLM_API_KEY === undefined && settings.LLM_BASE_URL === undefined ? found : "openai");
  if (provider === undefined) return undefined;
  const own = provider === "openai" || provider === "anthropic" || provider === "gemini" ? keys[provider] : undefined;
  const apiKey = settings.LLM_API_KEY ?? own;
  const keyless = provider === "ollama" || provider === "vllm";
  const baseUrl = settings.LLM_BASE_URL ?? (provider === "ollama" ? "http://host.docker.internal:11434/v1" : undefined);
  if (apiKey === undefined && !keyless)
    throw new SettingsError([`LLM_API_KEY: is needed with the provider ${provider}`]);
  if (provider === "vllm" && baseUrl === undefined) {
    throw new SettingsError(["LLM_BASE_URL: is needed with the provider vllm"]);
  }
  return { provider, apiKey, baseUrl, model: settings.LLM_MODEL };
}

interface PodSettings {
  plain: Record<string, string>;
  secrets: Record<string, string>;
}

/** Where the databases are for a pod that joined the network of docker-compose.yml. */
function databaseDefaults(environment: Environment): Record<ServerName, Record<string, string | undefined>> {
  const given = (name: string) => environment[`POD_${name}`] ?? environment[`POD_${name}_FILE`];
  return {
    es_mcp: given("ELASTICSEARCH_CLOUD_ID") === undefined ? { ELASTICSEARCH_URL: "http://elasticsearch:9200" } : {},
    pg_mcp:
      given("DATABASE_URL") === undefined
        ? {
            POSTGRES_HOST: "postgres",
            POSTGRES_DB: environment["POSTGRES_DB"] || "transformation_db",
            POSTGRES_USER: environment["POSTGRES_USER"] || "postgres",
            POSTGRES_PASSWORD:
              given("POSTGRES_PASSWORD") === undefined ? environment["POSTGRES_PASSWORD"] || "postgres" : undefined,
          }
        : {},
  };
}

/** The settings of both pods: those that the deployment fixes, the databases of docker-compose.yml, and what `POD_…` says. */
function podSettings(
  environment: Environment,
  transport: BundleSettings["ARCHESTRA_TRANSPORT"],
): Record<ServerName, PodSettings> & { ports: number[] } {
  const fixed = fixedEnvironment(transport);
  const definitions = { es_mcp: { ...esSettings, ...kitSettings }, pg_mcp: { ...pgSettings, ...kitSettings } };
  const defaults = databaseDefaults(environment);
  const given = Object.fromEntries(
    Object.entries(environment)
      .filter(([name, value]) => name.startsWith("POD_") && value !== undefined && value !== "")
      .map(([name, value]) => [name.slice("POD_".length), value]),
  );
  const problems = unknownNames(Object.keys(given), { ...definitions.es_mcp, ...definitions.pg_mcp }, [
    ...Object.keys(fixed),
    TOKEN_VARIABLE,
  ]);
  const tuned = {
    // The agent sees the text alone, and the platform sends a structured copy again and again as a conversation goes on.
    MCP_STRUCTURED_OUTPUT: "off",
    ...(transport === "stdio" ? { MCP_WAIT_SECONDS_DEFAULT: WAIT_OVER_STDIO } : {}),
  };
  const result: Record<ServerName, PodSettings> = {
    es_mcp: { plain: {}, secrets: {} },
    pg_mcp: { plain: {}, secrets: {} },
  };
  for (const name of serverNames) {
    const raw: Environment = { ...tuned, ...defaults[name], ...given, ...fixed };
    // The token is made at installation; the servers refuse to listen on 0.0.0.0 without one.
    const env = { ...raw, ...(transport === "streamable-http" ? { [TOKEN_VARIABLE]: "made-at-installation" } : {}) };
    const definition: SettingsDefinition = definitions[name];
    try {
      const values: Record<string, unknown> = readSettings(definition, env);
      for (const setting of Object.keys(definition)) {
        const isSecret = definition[setting]?.secret === true;
        const value = isSecret || setting.endsWith("_CERT") ? values[setting] : raw[setting];
        if (typeof value !== "string" || setting === TOKEN_VARIABLE) continue;
        if (isSecret || holdsCredentials(value)) result[name].secrets[setting] = value;
        else result[name].plain[setting] = value;
        // The platform fills in ${…} wherever it stands.
        if (value.includes("${")) problems.push(`POD_${setting}: must not hold \${, which the platform replaces`);
      }
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      problems.push(...error.problems.map((problem) => `POD_${problem}`));
    }
  }
  if (problems.length > 0) throw new SettingsError([...new Set(problems)]);
  problems.push(...jointProblems({ ...result }));
  if (problems.length > 0) throw new SettingsError(problems);
  return { ...result, ports: databasePorts(result) };
}

/** Whether a plain setting is an address with a user in it: the YAML and the plan show plain settings to everybody. */
function holdsCredentials(value: string): boolean {
  return /:\/\/[^/\s]*@/.test(value);
}

/** What the settings of one server say together. */
function jointProblems(pods: Record<ServerName, PodSettings>): string[] {
  return esProblems(esOf(pods.es_mcp)).map((problem) => `POD_${problem}`);
}

function esOf({ plain, secrets }: PodSettings) {
  return readSettings(esSettings, { ...plain, ...secrets });
}

function pgOf({ plain, secrets }: PodSettings) {
  return connections(readSettings(pgSettings, { ...plain, ...secrets }));
}

function databasePorts(pods: Record<ServerName, PodSettings>): number[] {
  const esPorts = nodesOf(esOf(pods.es_mcp)).map(({ port, protocol }) =>
    Number(port || (protocol === "https:" ? 443 : 80)),
  );
  return [...new Set([...esPorts, pgOf(pods.pg_mcp).writer.port])].sort((one, other) => one - other);
}

function unknownNames(names: readonly string[], known: SettingsDefinition, fixed: readonly string[]): string[] {
  return names.flatMap((name) => {
    const setting = name.replace(/_FILE$/, "");
    if (fixed.includes(setting)) return [`POD_${name}: is fixed by the deployment`];
    if (setting in known) return [];
    return [`POD_${name}: neither server has a setting ${setting}`];
  });
}

/** The form field by which the platform sends the token of a server with each request. */
export const tokenField = {
  [TOKEN_FIELD]: {
    type: "string",
    title: "HTTP token",
    description: "The server's MCP_HTTP_TOKEN.",
    headerName: "Authorization",
    valuePrefix: "Bearer ",
    required: true,
    sensitive: true,
    promptOnInstallation: true,
  },
} as const;

/** How the catalog describes where a local server comes from. Secrets only: plain settings stand in the YAML. */
export function localConfigOf(server: Extract<DesiredServer, { kind: "local" }>) {
  const http = server.transport === "streamable-http";
  const secrets = [...Object.keys(server.secrets), ...(http ? [TOKEN_VARIABLE] : [])];
  return {
    dockerImage: server.image,
    transportType: server.transport,
    ...(http ? { arguments: ["--http"], httpPort: HTTP_PORT, httpPath: HTTP_PATH } : { arguments: [] }),
    environment: secrets.map((key) => ({ key, type: "secret" as const, promptOnInstallation: true, required: true })),
  };
}
