import { readFileSync } from "node:fs";
import {
  defineSettings,
  flag,
  integer,
  kitSettings,
  list,
  type Settings,
  stagingSettings,
  text,
} from "@es-to-pg/mcp-kit";
import { z } from "zod";

/** Where Elasticsearch is if nothing says so. */
const NODE_DEFAULT = "http://localhost:9200";

/** The settings of this server, those of staging and of the kit among them. */
export const esSettings = defineSettings({
  ELASTICSEARCH_URL: {
    schema: urls(),
    description: `Address of Elasticsearch, with a path prefix if there is one; several nodes of one cluster by commas. Default: ${NODE_DEFAULT}.`,
    example: "https://es.internal:9200",
  },
  ELASTICSEARCH_CLOUD_ID: {
    schema: z
      .string()
      .transform((value, context) => {
        const node = cloudNode(value.trim());
        if (node !== undefined) return node;
        context.addIssue({
          code: "custom",
          message: "must be the deployment's Cloud ID, a name, a colon and base64 text",
        });
        return z.NEVER;
      })
      .optional(),
    description: "Cloud ID of an Elastic Cloud deployment, instead of `ELASTICSEARCH_URL`.",
  },
  ELASTICSEARCH_API_KEY: {
    schema: z
      .string()
      .transform((value) => value.trim().replace(/^ApiKey\s+/i, ""))
      .refine((value) => !/\s/.test(value), "must be the encoded key, or its id and key joined by a colon")
      .transform((value) => (value.includes(":") ? Buffer.from(value).toString("base64") : value))
      .optional(),
    description: "API key, encoded as Elasticsearch gives it or as `id:key`.",
    secret: true,
  },
  ELASTICSEARCH_USERNAME: { schema: text(), description: "User for basic authentication." },
  ELASTICSEARCH_PASSWORD: { schema: text(), description: "Password for basic authentication.", secret: true },
  ELASTICSEARCH_BEARER: {
    schema: z
      .string()
      .transform((value) => value.trim().replace(/^Bearer\s+/i, ""))
      .refine((value) => !/\s/.test(value), "must be one token without blanks")
      .optional(),
    description: "Bearer token, such as a service token.",
    secret: true,
  },
  ELASTICSEARCH_CA_CERT: {
    schema: pem(),
    description: "Certificate of the authority that signed Elasticsearch's certificate: PEM text or a path.",
    example: "/certs/http_ca.crt",
  },
  ELASTICSEARCH_TLS_FINGERPRINT: {
    schema: z
      .string()
      .regex(/^([0-9a-f]{2}:?){32}$/i, "must be a SHA-256 fingerprint of 64 hex digits")
      .transform((value) => (value.replaceAll(":", "").toUpperCase().match(/../g) ?? []).join(":"))
      .optional(),
    description:
      "SHA-256 fingerprint of the authority's certificate, which Elasticsearch must send along, instead of the certificate itself.",
  },
  ELASTICSEARCH_CLIENT_CERT: { schema: pem(), description: "Client certificate for mutual TLS: PEM text or a path." },
  ELASTICSEARCH_CLIENT_KEY: {
    schema: pem(),
    description: "Key of the client certificate: PEM text or a path.",
    secret: true,
  },
  ELASTICSEARCH_TLS_INSECURE: {
    schema: flag(false),
    description: "`true` takes any certificate. For tests only; every start logs a warning.",
  },
  ES_MCP_INDICES_ALLOW: {
    schema: list(),
    description:
      "Patterns (`*`) of indices and data streams that may be read, judged after aliases and wildcards are expanded. Default: all but system indices.",
    example: "products*,orders",
  },
  ES_MCP_INDICES_DENY: {
    schema: list(),
    description: "Patterns of indices and data streams that are not read, whatever is allowed.",
    example: "*-private",
  },
  ES_MCP_REQUEST_TIMEOUT_SECONDS: {
    schema: integer({ min: 1, max: 600, default: 40 }),
    description: "Seconds that one request to Elasticsearch may take.",
  },
  ES_MCP_SLICES_AT_ONCE: {
    schema: integer({ min: 1, max: 8, default: 2 }),
    description:
      "Slices of an index that an export reads at the same time. More helps where Elasticsearch has shards on several nodes, and takes about 10 MB each.",
  },
  ...stagingSettings,
  ...kitSettings,
});

export type EsSettings = Settings<typeof esSettings>;

/** What the settings say together and not alone; empty where they fit. */
export function settingsProblems(settings: EsSettings): string[] {
  const problems: string[] = [];
  const given = (name: keyof EsSettings): boolean => settings[name] !== undefined;
  const kinds = (["ELASTICSEARCH_API_KEY", "ELASTICSEARCH_BEARER", "ELASTICSEARCH_USERNAME"] as const).filter(given);
  if (kinds.length > 1) problems.push(`${kinds.join(", ")}: set only one way to authenticate`);
  if (given("ELASTICSEARCH_PASSWORD") && !given("ELASTICSEARCH_USERNAME")) {
    problems.push("ELASTICSEARCH_USERNAME: is needed with ELASTICSEARCH_PASSWORD");
  }
  if (given("ELASTICSEARCH_USERNAME") && !given("ELASTICSEARCH_PASSWORD")) {
    problems.push("ELASTICSEARCH_PASSWORD: is needed with ELASTICSEARCH_USERNAME");
  }
  if (given("ELASTICSEARCH_CLOUD_ID") && settings.ELASTICSEARCH_URL.length > 0) {
    problems.push("ELASTICSEARCH_CLOUD_ID: set either it or ELASTICSEARCH_URL, not both");
  }
  if (given("ELASTICSEARCH_CLIENT_CERT") !== given("ELASTICSEARCH_CLIENT_KEY")) {
    problems.push("ELASTICSEARCH_CLIENT_CERT: is needed together with ELASTICSEARCH_CLIENT_KEY");
  }
  const plain = nodesOf(settings).filter(({ protocol }) => protocol === "http:");
  if (given("ELASTICSEARCH_TLS_FINGERPRINT") && plain.length > 0) {
    problems.push("ELASTICSEARCH_TLS_FINGERPRINT: needs https:// in ELASTICSEARCH_URL");
  }
  return problems;
}

/** The nodes to ask. */
export function nodesOf(settings: EsSettings): URL[] {
  if (settings.ELASTICSEARCH_CLOUD_ID !== undefined) return [settings.ELASTICSEARCH_CLOUD_ID];
  return settings.ELASTICSEARCH_URL.length > 0 ? settings.ELASTICSEARCH_URL : [new URL(NODE_DEFAULT)];
}

/** `name:base64(domain[:port]$elasticsearch[:port]$kibana)` as an address; the port defaults to that of HTTPS. */
function cloudNode(cloudId: string): URL | undefined {
  const encoded = /^[^:]*:([A-Za-z0-9+/]+=*)$/.exec(cloudId)?.[1];
  if (encoded === undefined) return undefined;
  const content = Buffer.from(encoded, "base64").toString("utf8");
  const parts = /^([\w.-]+)(:\d+)?\$([\w.-]+)(:\d+)?(?:\$|$)/.exec(content);
  if (parts === null) return undefined;
  const [, domain, domainPort = "", elasticsearch, port = domainPort] = parts;
  return URL.parse(`https://${elasticsearch}.${domain}${port}`) ?? undefined;
}

function urls(): z.ZodType<URL[], string | undefined> {
  return list().transform((items, context) =>
    items.map((item) => {
      const url = URL.parse(item);
      // The text is not repeated: a password can stand in it.
      if (url === null || !/^https?:$/.test(url.protocol)) {
        context.addIssue({ code: "custom", message: "must be http://host:port or https://host:port" });
        return z.NEVER;
      }
      if (url.search !== "" || url.hash !== "") {
        context.addIssue({ code: "custom", message: "must have neither ? nor # in it; encode them in a password" });
      }
      return url;
    }),
  );
}

/** PEM text, also with `\n` written out as some hosts keep it, or the content of the file that a path names. */
function pem(): z.ZodType<string | undefined, string | undefined> {
  return z
    .string()
    .optional()
    .transform((value, context) => {
      if (value === undefined) return undefined;
      const content = value.includes("-----BEGIN") ? value.replaceAll("\\n", "\n") : readFile(value.trim());
      if (content?.includes("-----BEGIN") === true) return content;
      context.addIssue({ code: "custom", message: "must be PEM text or the path of a readable PEM file" });
      return z.NEVER;
    });
}

function readFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
