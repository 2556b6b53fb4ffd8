import { readFileSync } from "node:fs";
import { z } from "zod";
import { WAIT_SECONDS_MAX } from "./jobs.ts";
import { logLevels } from "./log.ts";

/** One environment variable: how its text is read, what it is for, and whether its value may be shown. */
export interface Setting<Schema extends z.ZodType = z.ZodType> {
  /** Reads the variable's text, or undefined where it is not set or empty. */
  schema: Schema;
  /** One sentence for the table in docs/settings.md and `--help`. */
  description: string;
  /** A secret also comes by `NAME_FILE`, a file that holds it, and its value is never shown. */
  secret?: true;
  example?: string;
}

export type SettingsDefinition = Record<string, Setting>;

/** The values of a definition, as `readSettings` returns them. */
export type Settings<Definition extends SettingsDefinition> = Readonly<{
  [Name in keyof Definition]: z.output<Definition[Name]["schema"]>;
}>;

/** Configuration that a server cannot start with. The message lists every problem, and no value of a secret. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(["The configuration has problems:", ...problems.map((problem) => `  ${problem}`)].join("\n"));
    this.problems = problems;
  }
}

/** The identity function that types a server's settings. */
export function defineSettings<const Definition extends SettingsDefinition>(definition: Definition): Definition {
  return definition;
}

/** Reads all settings from the environment, or throws a `SettingsError` that lists every problem at once. */
export function readSettings<Definition extends SettingsDefinition>(
  definition: Definition,
  env: Readonly<Record<string, string | undefined>>,
): Settings<Definition> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(definition)) {
    const raw = readText(name, setting, env, problems);
    if (raw.failed) continue;
    const parsed = setting.schema.safeParse(raw.text);
    if (parsed.success) values[name] = parsed.data;
    else for (const issue of parsed.error.issues) problems.push(`${name}: ${issue.message}`);
  }
  if (problems.length > 0) throw new SettingsError(problems);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each name got what its own schema put out, or a problem was thrown
  return Object.freeze(values) as Settings<Definition>;
}

/** The settings as a Markdown table, for docs/settings.md. */
export function settingsTable(definition: SettingsDefinition): string {
  const rows = Object.entries(definition).map(([name, setting]) => {
    const example = setting.example === undefined ? "" : ` Example: \`${setting.example}\`.`;
    const file = setting.secret === true ? ` Secret; or \`${name}_FILE\`.` : "";
    return `| \`${name}\` | ${defaultInTable(setting)} | ${setting.description}${example}${file} |`;
  });
  return ["| variable | default | what it does |", "|---|---|---|", ...rows, ""].join("\n");
}

/** The settings as indented lines, for `--help`. */
export function settingsHelp(definition: SettingsDefinition): string {
  const width = Math.max(0, ...Object.keys(definition).map((name) => name.length));
  return Object.entries(definition)
    .map(([name, { description }]) => `  ${name.padEnd(width)}  ${description}`)
    .join("\n");
}

/** The value of a setting that is not set, as one would write it: empty where there is none, `required` where it must be set. */
export function settingDefault(setting: Setting): string {
  const parsed = setting.schema.safeParse(undefined);
  if (!parsed.success) return "required";
  const { data } = parsed;
  if (data === undefined || data === null || data === "" || (Array.isArray(data) && data.length === 0)) return "";
  return Array.isArray(data) ? data.join(",") : typeof data === "string" ? data : JSON.stringify(data);
}

function defaultInTable(setting: Setting): string {
  const value = settingDefault(setting);
  return value === "" || value === "required" ? value : `\`${value}\``;
}

/** Largest file that a secret is read from, in bytes: a wrong path must not read a disk image into memory. */
const SECRET_FILE_BYTES_MAX = 65_536;

function readText(
  name: string,
  setting: Setting,
  env: Readonly<Record<string, string | undefined>>,
  problems: string[],
): { text: string | undefined; failed: boolean } {
  const text = presence(env[name]);
  const path = setting.secret === true ? presence(env[`${name}_FILE`]) : undefined;
  if (path === undefined) return { text, failed: false };
  if (text !== undefined) {
    problems.push(`${name}: set either ${name} or ${name}_FILE, not both`);
    return { text: undefined, failed: true };
  }
  try {
    const content = readFileSync(path);
    if (content.length > SECRET_FILE_BYTES_MAX) throw new Error(`larger than ${SECRET_FILE_BYTES_MAX} bytes`);
    return { text: presence(content.toString("utf8")), failed: false };
  } catch (error) {
    problems.push(`${name}_FILE: cannot read the file: ${error instanceof Error ? error.message : String(error)}`);
    return { text: undefined, failed: true };
  }
}

/**
 * An empty variable counts as unset: `${NAME:-}` in a compose file sets it to nothing. A last line end is no part of a
 * value: editors and `echo` put it into files and secrets.
 */
function presence(value: string | undefined): string | undefined {
  return value === undefined || value.trim() === "" ? undefined : value.replace(/\r?\n$/, "");
}

type FromText<Output> = z.ZodType<Output, string | undefined>;

/** Text as it stands. */
export function text(): FromText<string | undefined>;
export function text(options: { default: string }): FromText<string>;
export function text(options: { default?: string } = {}): FromText<string | undefined> {
  return options.default === undefined ? z.string().optional() : z.string().default(options.default);
}

/** A whole number within bounds. */
export function integer(options: { min?: number; max?: number; default: number }): FromText<number>;
export function integer(options?: { min?: number; max?: number }): FromText<number | undefined>;
export function integer(options: { min?: number; max?: number; default?: number } = {}): FromText<number | undefined> {
  const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = options;
  const allowed =
    options.max === undefined
      ? options.min === undefined
        ? "a whole number"
        : `a whole number of at least ${min}`
      : `a whole number from ${min} to ${max}`;
  return z
    .string()
    .optional()
    .transform((value, context) => {
      if (value === undefined) return options.default;
      const number = /^\s*-?\d{1,16}\s*$/.test(value) ? Number(value) : Number.NaN;
      if (number >= min && number <= max) return number;
      context.addIssue({ code: "custom", message: `must be ${allowed}` });
      return z.NEVER;
    });
}

/** `true` or `false`, also `1`, `0`, `on`, `off`, `yes`, `no`. */
export function flag(defaultValue: boolean): FromText<boolean> {
  return yesOrNo(defaultValue, []);
}

/** A flag that one word more leaves open, which is also what it is where nothing is set. */
export function flagOr<const Word extends string>(word: Word): FromText<boolean | Word> {
  return yesOrNo<boolean | Word>(word, [word]);
}

function yesOrNo<Value>(defaultValue: Value, words: readonly Value[]): FromText<Value | boolean> {
  return z
    .string()
    .optional()
    .transform((value, context) => {
      if (value === undefined) return defaultValue;
      const word = value.trim().toLowerCase();
      const open = words.find((known) => known === word);
      if (open !== undefined) return open;
      if (["true", "1", "on", "yes"].includes(word)) return true;
      if (["false", "0", "off", "no"].includes(word)) return false;
      context.addIssue({ code: "custom", message: `must be ${["true", "false", ...words].join(" or ")}` });
      return z.NEVER;
    });
}

/** One of several words. */
export function choice<const Word extends string>(words: readonly Word[], defaultWord: Word): FromText<Word> {
  return z
    .string()
    .optional()
    .transform((value, context) => {
      if (value === undefined) return defaultWord;
      const found = words.find((word) => word === value.trim().toLowerCase());
      if (found !== undefined) return found;
      context.addIssue({ code: "custom", message: `must be ${words.join(" or ")}` });
      return z.NEVER;
    });
}

/** Texts parted by commas, blanks around them dropped; empty where the variable is not set. */
export function list(): FromText<string[]> {
  return z
    .string()
    .optional()
    .transform((value) =>
      (value ?? "")
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== ""),
    );
}

function isPercentEncoded(value: string): boolean {
  try {
    decodeURIComponent(value);
    return true;
  } catch {
    return false;
  }
}

/** Where OTLP is sent to. */
function endpoint() {
  return text().refine(
    (value) => value === undefined || /^https?:$/.test(URL.parse(value)?.protocol ?? ""),
    "must be http://host:port or https://host:port; gRPC is not spoken",
  );
}

/** The variables of OpenTelemetry that its libraries do not read by themselves, or that turn it on; and `/metrics`. */
export const telemetrySettings = defineSettings({
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    schema: endpoint(),
    description: "OTLP endpoint (HTTP) that traces and metrics are sent to. Nothing is sent, nor loaded, without one.",
    example: "http://otel-collector:4318",
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    schema: endpoint(),
    description: "OTLP endpoint of the traces alone, with its whole path.",
    example: "http://tempo:4318/v1/traces",
  },
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: {
    schema: endpoint(),
    description: "OTLP endpoint of the metrics alone, with its whole path.",
    example: "http://prometheus:9090/api/v1/otlp/v1/metrics",
  },
  OTEL_TRACES_EXPORTER: {
    schema: choice(["otlp", "none"], "otlp"),
    description: "`none` sends no traces, whatever the endpoint.",
  },
  OTEL_METRICS_EXPORTER: {
    schema: choice(["otlp", "none"], "otlp"),
    description: "`none` sends no metrics, whatever the endpoint; `/metrics` is `MCP_METRICS`.",
  },
  OTEL_EXPORTER_OTLP_PROTOCOL: {
    schema: choice(["http/protobuf", "http/json"], "http/protobuf"),
    description: "Encoding of what is sent: `http/protobuf` or `http/json`.",
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    schema: z
      .string()
      .regex(/^\s*[^=,\s]+=[^,]*(,\s*[^=,\s]+=[^,]*)*$/, "must be name=value pairs parted by commas")
      .refine(isPercentEncoded, "must have a % in a value written as %25")
      .optional(),
    description: "Headers of what is sent, as `name=value` parted by commas.",
    secret: true,
  },
  OTEL_SDK_DISABLED: {
    schema: flag(false),
    description: "`true` turns traces and metrics off, `/metrics` too, whatever else is set.",
  },
  OTEL_TRACES_SAMPLER: {
    schema: choice(
      [
        "parentbased_always_on",
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_off",
        "parentbased_traceidratio",
      ],
      "parentbased_always_on",
    ),
    description: "Which traces are recorded; those by ratio take it from `OTEL_TRACES_SAMPLER_ARG`.",
  },
  OTEL_TRACES_SAMPLER_ARG: {
    schema: z
      .string()
      .regex(/^(0(\.\d+)?|1(\.0+)?)$/, "must be a ratio from 0 to 1")
      .transform(Number)
      .optional(),
    description: "Ratio of the traces that are recorded, where the sampler takes one. Default: 1.",
    example: "0.1",
  },
  OTEL_METRIC_EXPORT_INTERVAL: {
    schema: integer({ min: 100, max: 86_400_000, default: 60_000 }),
    description: "Milliseconds between two pushes of the metrics.",
  },
  MCP_METRICS: {
    schema: flag(false),
    description:
      "`on` serves `/metrics` for Prometheus beside the MCP endpoint, to whoever sends `MCP_METRICS_TOKEN` or `MCP_HTTP_TOKEN`. HTTP only.",
  },
  MCP_METRICS_TOKEN: {
    schema: z
      .string()
      .regex(/^[!-~]+$/, "must be visible ASCII characters without blanks")
      .optional(),
    description: "Bearer token that opens `/metrics` and nothing else, so that a scraper cannot call tools.",
    secret: true,
  },
});

/** What every server of this kit understands. */
export const kitSettings = defineSettings({
  MCP_HTTP_HOST: {
    schema: text({ default: "127.0.0.1" }),
    description: "Address that `--http` binds. Off loopback a token is needed.",
    example: "0.0.0.0",
  },
  MCP_HTTP_PORT: {
    schema: integer({ min: 0, max: 65_535, default: 8080 }),
    description: "Port that `--http` listens on; 0 takes any free one.",
  },
  MCP_HTTP_PATH: {
    schema: z
      .string()
      .regex(/^\/[A-Za-z0-9_\-./]*$/, "must start with / and hold only letters, digits, _ - . /")
      .default("/mcp"),
    description: "Path of the MCP endpoint. `/healthz`, `/readyz` and, at `/`, the page of jobs lie beside it.",
  },
  MCP_HTTP_TOKEN: {
    // What a header can carry; with a blank in it no caller could ever send the token.
    schema: z
      .string()
      .regex(/^[!-~]+$/, "must be visible ASCII characters without blanks")
      .optional(),
    description: "Bearer token that HTTP callers must send; `none` serves everybody, on purpose.",
    secret: true,
  },
  MCP_CURSOR_SECRET: {
    schema: z.string().min(16, "must have at least 16 characters").optional(),
    description:
      "Secret that seals cursors, the same for processes that serve one address. Default: `MCP_HTTP_TOKEN`, else one of the process alone.",
    secret: true,
  },
  MCP_HTTP_ALLOWED_HOSTS: {
    schema: list(),
    description:
      "Host names that HTTP callers may use; `*` is any. Default: with a token any, without one loopback names and IP addresses.",
    example: "es-mcp.internal",
  },
  MCP_HTTP_ALLOWED_ORIGINS: {
    schema: list(),
    description: "Browser origins that may call, besides those on loopback.",
    example: "https://app.example.com",
  },
  MCP_WAIT_SECONDS_DEFAULT: {
    schema: integer({ min: 0, max: WAIT_SECONDS_MAX, default: 20 }),
    description: "Seconds that a call waits for a job where it gives no `wait_seconds`.",
  },
  MCP_STRUCTURED_OUTPUT: {
    schema: flagOr("auto"),
    description:
      "`off` publishes no output schemas and answers with text alone, `on` does neither; `auto` is `off` for Gemini CLI, which misreads errors beside a schema, and `on` for all others.",
  },
  LOG_LEVEL: {
    schema: choice(logLevels, "info"),
    description: "Least level of the JSON lines on stderr: debug, info, warn or error.",
  },
  ...telemetrySettings,
});

/** How both servers find the directory of staged exports. */
export const stagingSettings = defineSettings({
  STAGING_URL: {
    schema: text(),
    description: "Directory of staged exports, the same for both servers. Default: the user's state directory.",
    example: "file:///staging",
  },
  STAGING_MODE: {
    schema: choice(["private", "group"], "private"),
    description: "`private` lets only the same user read staged exports, `group` the same group too.",
  },
  STAGING_TTL_HOURS: {
    schema: integer({ min: 1, max: 87_600, default: 168 }),
    description: "Hours after which a finished export is swept away.",
  },
  STAGING_BYTES_MAX: {
    schema: integer({ min: 1 }),
    description: "Most bytes that all staged exports may take together. Default: no limit but the disk.",
  },
  STAGING_REQUIRE_MOUNT: {
    schema: flag(false),
    description: "`true` keeps the server unready until the staging directory is a mount of its own.",
  },
});
