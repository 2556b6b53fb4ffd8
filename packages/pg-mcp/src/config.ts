import { readFileSync } from "node:fs";
import {
  choice,
  defineSettings,
  integer,
  kitSettings,
  list,
  type Settings,
  SettingsError,
  stagingSettings,
  text,
} from "@es-to-pg/mcp-kit";
import { z } from "zod";

/** libpq's names, and its meaning of each: `require` encrypts, only the `verify-` modes look at the certificate. */
export type TlsMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

export interface ConnectionOptions {
  host: string;
  port: number;
  database: string;
  user: string;
  password?: string | undefined;
  tls: { mode: TlsMode; ca?: string | undefined; certificate?: string | undefined; key?: string | undefined };
}

const tlsModes = ["disable", "prefer", "require", "verify-ca", "verify-full"] as const satisfies readonly TlsMode[];

/** The settings of this server. Those of the kit (HTTP, logging, waiting) come beside them. */
export const pgSettings = defineSettings({
  DATABASE_URL: {
    schema: z
      .string()
      .optional()
      .superRefine((value, context) => {
        if (value === undefined) return;
        try {
          connectionFromUrl(value);
        } catch (error) {
          context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "cannot be read" });
        }
      }),
    description:
      "Address of the database, with user and password; instead of `POSTGRES_HOST`, `_PORT`, `_DB`, `_USER`.",
    example: "postgres://etl:secret@db.internal:5432/shop?sslmode=verify-full",
    secret: true,
  },
  POSTGRES_HOST: {
    schema: text(),
    description: "Host of the database, or the directory of its socket. Default: 127.0.0.1.",
  },
  POSTGRES_PORT: { schema: integer({ min: 1, max: 65_535 }), description: "Port of the database. Default: 5432." },
  POSTGRES_DB: { schema: text(), description: "Name of the database. Default: the user's name." },
  POSTGRES_USER: { schema: text(), description: "Role that reads and writes. Default: postgres." },
  POSTGRES_PASSWORD: { schema: text(), description: "Its password.", secret: true },
  POSTGRES_READER_USER: {
    schema: text(),
    description: "Role of every read (`execute_query`, `count_rows`, `get_schema`); best one that may only SELECT.",
  },
  POSTGRES_READER_PASSWORD: { schema: text(), description: "Its password.", secret: true },
  POSTGRES_SSLMODE: {
    schema: z
      .string()
      .optional()
      .transform((value, context) => {
        if (value === undefined || isTlsMode(value)) return value;
        context.addIssue({ code: "custom", message: `must be ${tlsModes.join(" or ")}` });
        return z.NEVER;
      }),
    description: "TLS as libpq names it: disable, prefer (default), require, verify-ca or verify-full.",
    example: "verify-full",
  },
  POSTGRES_CA_CERT: {
    schema: pem(),
    description: "Certificate of the authority that signed the server's certificate: PEM text or a path.",
    example: "/certs/ca.crt",
  },
  POSTGRES_CLIENT_CERT: { schema: pem(), description: "Client certificate for mutual TLS: PEM text or a path." },
  POSTGRES_CLIENT_KEY: { schema: pem(), description: "Its key: PEM text or a path.", secret: true },
  PG_MCP_ACCESS: {
    schema: choice(["read-write", "read-only"], "read-write"),
    description: "`read-only` takes away every tool that writes.",
  },
  PG_MCP_SCHEMAS_ALLOW: {
    schema: list(),
    description:
      "Globs of schemas the tools may touch. Unqualified names are looked for in those without a `*`, in order.",
    example: "shop,staging_*",
  },
  PG_MCP_SCHEMAS_DENY: { schema: list(), description: "Globs of schemas the tools may not touch." },
  PG_MCP_TABLES_ALLOW: {
    schema: list(),
    description: "Globs of tables the tools may touch, `name` or `schema.name`.",
    example: "products,shop.order*",
  },
  PG_MCP_TABLES_DENY: { schema: list(), description: "Globs of tables the tools may not touch." },
  PG_MCP_ALLOW_FUNCTIONS: {
    schema: list(),
    description: "Globs of `schema.function` that you vouch for: foreign statements and expressions may call them.",
    example: "shop.net_price",
  },
  PG_MCP_QUERY_TIMEOUT_SECONDS: {
    schema: integer({ min: 1, max: 45, default: 30 }),
    description: "Seconds that `execute_query` and `count_rows` may take where the call does not say.",
  },
  PG_MCP_ASK_SECONDS: {
    schema: integer({ min: 0, max: 600, default: 45 }),
    description:
      "Seconds that a person may take to answer the question before a load that removes rows or leaves many documents out; asked where the client can ask, besides the confirm token. 0 asks nobody.",
  },
  PG_MCP_STATE_SCHEMA: {
    schema: z
      .string()
      .regex(/^[a-z_][a-z0-9_]{0,62}$/, "must be a plain lower-case name")
      .default("data_transformer"),
    description: "Schema for mappings, loads, rejects and stages.",
  },
  PG_MCP_RETENTION_DAYS: {
    schema: integer({ min: 1, max: 3650, default: 14 }),
    description: "Days that finished loads and their rejects are kept.",
  },
  PG_MCP_PARTS_AT_ONCE: {
    schema: integer({ min: 1, max: 4, default: 2 }),
    description:
      "Parts of one load that are worked at a time, each over a connection of its own, as long as the server's other calls keep connections too.",
  },
  ...stagingSettings,
  MCP_WAIT_SECONDS_DEFAULT: kitSettings.MCP_WAIT_SECONDS_DEFAULT,
});

export type PgSettings = Settings<typeof pgSettings>;

/** The two ways into the database, or a `SettingsError` where the settings do not fit together. */
export function connections(settings: PgSettings): {
  writer: ConnectionOptions;
  reader: ConnectionOptions | undefined;
} {
  const problems: string[] = [];
  const given = settings.DATABASE_URL === undefined ? undefined : connectionFromUrl(settings.DATABASE_URL);
  const parts = ["POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER"] as const;
  const both = given === undefined ? [] : parts.filter((name) => settings[name] !== undefined);
  if (both.length > 0) problems.push(`DATABASE_URL: set either it or ${both.join(", ")}, not both`);
  if ((settings.POSTGRES_CLIENT_CERT === undefined) !== (settings.POSTGRES_CLIENT_KEY === undefined)) {
    problems.push("POSTGRES_CLIENT_CERT: is needed together with POSTGRES_CLIENT_KEY");
  }
  if (settings.POSTGRES_READER_PASSWORD !== undefined && settings.POSTGRES_READER_USER === undefined) {
    problems.push("POSTGRES_READER_USER: is needed with POSTGRES_READER_PASSWORD");
  }
  const mode = settings.POSTGRES_SSLMODE ?? given?.tls.mode ?? "prefer";
  const fromUrl = (path: string | undefined, name: string): string | undefined => {
    if (path === undefined) return undefined;
    const content = readPem(path);
    if (content === undefined) problems.push(`DATABASE_URL: its ${name} names no readable PEM file`);
    return content;
  };
  const user = settings.POSTGRES_USER ?? given?.user ?? "postgres";
  const writer: ConnectionOptions = {
    host: settings.POSTGRES_HOST ?? given?.host ?? "127.0.0.1",
    port: settings.POSTGRES_PORT ?? given?.port ?? 5432,
    database: settings.POSTGRES_DB ?? given?.database ?? user,
    user,
    password: settings.POSTGRES_PASSWORD ?? given?.password,
    tls: {
      mode,
      ca: settings.POSTGRES_CA_CERT ?? fromUrl(given?.tls.ca, "sslrootcert"),
      certificate: settings.POSTGRES_CLIENT_CERT ?? fromUrl(given?.tls.certificate, "sslcert"),
      key: settings.POSTGRES_CLIENT_KEY ?? fromUrl(given?.tls.key, "sslkey"),
    },
  };
  if (problems.length > 0) throw new SettingsError(problems);
  const reader = settings.POSTGRES_READER_USER;
  return {
    writer,
    reader: reader === undefined ? undefined : { ...writer, user: reader, password: settings.POSTGRES_READER_PASSWORD },
  };
}

/** PEM text, also with `\n` written out as some hosts keep it, or the content of the file that a path names. */
function pem(): z.ZodType<string | undefined, string | undefined> {
  return z
    .string()
    .optional()
    .transform((value, context) => {
      if (value === undefined) return undefined;
      const content = readPem(value);
      if (content !== undefined) return content;
      context.addIssue({ code: "custom", message: "must be PEM text or the path of a readable PEM file" });
      return z.NEVER;
    });
}

function readPem(textOrPath: string): string | undefined {
  if (textOrPath.includes("-----BEGIN")) return textOrPath.replaceAll("\\n", "\n");
  try {
    const content = readFileSync(textOrPath.trim(), "utf8");
    return content.includes("-----BEGIN") ? content : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a text names one of libpq's TLS modes. */
function isTlsMode(word: string): word is TlsMode {
  return tlsModes.some((mode) => mode === word);
}

/**
 * Reads a `postgres://` URL as libpq does, and forgivingly: a password with `@`, `/`, `#` or `:` in it needs no
 * percent-encoding. The certificates of the query string stay paths for the caller to read.
 */
export function connectionFromUrl(url: string): ConnectionOptions {
  const parts =
    /^postgres(?:ql)?:\/\/(?:(?<userinfo>.*)@)?(?<host>\[[^\]]+\]|[^/:?#@,]*)(?::(?<port>\d+))?(?:\/(?<database>[^?#]*))?(?:\?(?<query>.*))?$/su.exec(
      url,
    )?.groups;
  if (parts === undefined) throw new Error("it must read postgres://user:password@host:port/database");
  const query = new URLSearchParams(parts.query ?? "");
  const [user, password] = splitOnce(parts.userinfo ?? "", ":");
  const mode = query.get("sslmode") ?? (query.get("ssl") === "true" ? "require" : "prefer");
  if (!isTlsMode(mode)) throw new Error(`its sslmode must be one of ${tlsModes.join(", ")}`);
  const name = decode(user) || (query.get("user") ?? "postgres");
  return {
    host: decode((parts.host ?? "").replace(/^\[|\]$/g, "")) || (query.get("host") ?? "127.0.0.1"),
    port: Number(parts.port ?? query.get("port") ?? 5432),
    database: decode(parts.database ?? "") || (query.get("dbname") ?? name),
    user: name,
    password: password === undefined ? (query.get("password") ?? undefined) : decode(password),
    tls: {
      mode,
      ca: query.get("sslrootcert") ?? undefined,
      certificate: query.get("sslcert") ?? undefined,
      key: query.get("sslkey") ?? undefined,
    },
  };
}

function splitOnce(value: string, separator: string): [string, string | undefined] {
  const at = value.indexOf(separator);
  return at < 0 ? [value, undefined] : [value.slice(0, at), value.slice(at + 1)];
}

/** A lone percent sign in a password is a percent sign. */
function decode(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
