import { Console } from "node:console";
import { Writable } from "node:stream";
import { parseArgs } from "node:util";
import { Cursors } from "./cursor.ts";
import { Jobs } from "./jobs.ts";
import { createLogger, type Logger } from "./log.ts";
import { nodeProblem } from "./node-version.ts";
import type { Offers } from "./offers.ts";
import { serverFactory } from "./server.ts";
import {
  kitSettings,
  readSettings,
  type Settings,
  type SettingsDefinition,
  SettingsError,
  settingsHelp,
} from "./settings.ts";
import { type StdioServing, serveStdio } from "./stdio.ts";
import { configuredTelemetry } from "./telemetry/configured.ts";
import { callDuration, databaseDuration, type Gauge, type Instrument } from "./telemetry/instruments.ts";
import type { Telemetry } from "./telemetry/open-telemetry.ts";
import type { AnyTool } from "./tool.ts";
import type { ToolError } from "./tool-error.ts";

/** Time for answers in flight after the end of input or a signal, in milliseconds. */
const ANSWER_GRACE_MS = 1000;

/** Time for calls that wait for a job to see that it has ended, in milliseconds: they look every half second. */
const JOB_ANSWER_GRACE_MS = 700;

/** Time for the whole way out, in milliseconds: hosts kill after 5 s, and then no lease is given up and nothing is said. */
const EXIT_TIMEOUT_MS = 3500;

/** Time for the last spans and metrics on their way out, in milliseconds. */
const TELEMETRY_GRACE_MS = 800;

/** What a server's `open` gets besides its settings. */
export interface Opening {
  logger: Logger;
  jobs: Jobs;
  /** A server on HTTP lives long and may take up stalled jobs by itself; one on a pipe is started for a look, too. */
  transport: "stdio" | "http";
}

/** What a server is once it is open. */
export interface OpenServer<Context> extends Partial<Offers<Context>> {
  tools: readonly AnyTool<Context>[];
  /** In place of the definition's, where the settings leave out what those speak of. */
  instructions?: string;
  context: Context;
  /** How long the person behind a call may take to answer a question of a tool; 0, which is the default, asks nobody. */
  askSeconds?: number;
  /** What telemetry shows of the server whenever somebody looks. */
  gauges?: readonly Gauge[];
  /** Throws a `ToolError` while a dependency is down. */
  ready(): Promise<void>;
  /** Gives back connections and files. Jobs have ended before. */
  close(): Promise<void>;
}

/** A server, as its `main.ts` states it. */
export interface ServerDefinition<Context, Definition extends SettingsDefinition = SettingsDefinition> {
  name: string;
  title: string;
  version: string;
  /** What a model reads before it sees any tool; under 2,000 characters, because clients cut it. */
  instructions: string;
  settings: Definition;
  /** What the server measures, for telemetry to show before anything has happened. */
  instruments?: readonly Instrument[];
  /** Makes the tools and what they work with, without reaching for any database: tools are listed while those are down. */
  open(settings: Settings<Definition>, opening: Opening): Promise<OpenServer<Context>>;
  /** Makes a `ToolError` of an expected failure that a domain or a driver threw; undefined for anything else. */
  translate?(error: unknown): ToolError | undefined;
  /** Options that print a text made of the settings, and end. */
  prints?: Record<string, { description: string; text(settings: Settings<Definition>): string }>;
}

/** What `--help` and `--version` say of a server. */
type Described = Pick<ServerDefinition<unknown>, "name" | "title" | "version" | "settings"> & {
  prints?: Record<string, { description: string }>;
};

/** A transport in use, as the way out sees it. */
type Serving = Pick<StdioServing, "answered" | "close">;

/**
 * The whole of a server's `main`: options, configuration, transport, and the way out at the end of input, SIGINT or
 * SIGTERM, which takes at most 4 s.
 */
export async function runServer<Context, Definition extends SettingsDefinition = SettingsDefinition>(
  definition: ServerDefinition<Context, Definition>,
): Promise<void> {
  const options = readOptions(definition, process.argv.slice(2));
  if (options === undefined) return;
  const problem = nodeProblem(process.versions.node);
  if (problem !== undefined) {
    process.stderr.write(`${definition.name}: ${problem}.\n`);
    process.exit(1);
  }
  try {
    if (options.print === undefined) await serve(definition, options.http ? "http" : "stdio");
    else process.stdout.write(options.print.text(readSettings(definition.settings, process.env)));
  } catch (error) {
    process.stderr.write(
      `${definition.name}: ${error instanceof SettingsError ? error.message : startFailure(error)}\n`,
    );
    process.exit(error instanceof SettingsError ? 2 : 1);
  }
}

async function serve<Context, Definition extends SettingsDefinition>(
  definition: ServerDefinition<Context, Definition>,
  transport: "stdio" | "http",
): Promise<void> {
  const settings = readSettings({ ...definition.settings, ...kitSettings }, process.env);
  const http = transport === "http" ? await import("./http.ts") : undefined;
  const access = http?.httpAccess(settings);
  const output = keepStdoutForProtocol();
  let telemetry: Telemetry | undefined;
  const logger = createLogger({ level: settings.LOG_LEVEL, always: () => telemetry?.traceIds() ?? {} });
  telemetry = await telemetryFor(definition, settings, { transport, logger });
  const jobs = new Jobs((handle, error) => logger.error("job_failed", { handle, error }));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every name of the definition was read, beside the kit's own
  const own = settings as Settings<Definition>;
  const open = await definition.open(own, { logger, jobs, transport });

  telemetry?.watch(open.gauges ?? []);

  const way = new WayOut({
    jobs,
    logger,
    close: () => open.close(),
    flush: async () => telemetry?.stop(TELEMETRY_GRACE_MS),
  });
  const { name, title, version } = definition;
  const server = serverFactory({
    name,
    title,
    version,
    instructions: open.instructions ?? definition.instructions,
    logger,
    translate: (error) => definition.translate?.(error),
    tools: open.tools,
    prompts: open.prompts ?? [],
    resources: open.resources ?? [],
    page: open.page,
    context: open.context,
    structuredOutput: settings.MCP_STRUCTURED_OUTPUT,
    askMs: (open.askSeconds ?? 0) * 1_000,
    cursors: new Cursors(cursorSecret(settings)),
  });
  if (http !== undefined && access !== undefined) {
    const metrics = telemetry?.metricsText;
    way.serving = await http.serveHttp({
      server,
      settings,
      access,
      logger,
      page: open.page,
      ready: () => open.ready(),
      ...(metrics === undefined ? {} : { metrics }),
    });
  } else {
    way.serving = await serveStdio({
      server,
      input: process.stdin,
      output,
      logger,
      onEnd: () => way.take("end of input", 0),
    });
  }
}

/** Telemetry, where something turns it on: its libraries take 80 ms and 9 MB, and are loaded for nobody else. */
async function telemetryFor(
  { name, version, instruments = [] }: Pick<ServerDefinition<unknown>, "name" | "version" | "instruments">,
  settings: Settings<typeof kitSettings>,
  { transport, logger }: { transport: "stdio" | "http"; logger: Logger },
): Promise<Telemetry | undefined> {
  const configured = configuredTelemetry(settings, transport);
  if (configured === undefined) return undefined;
  try {
    const { startTelemetry } = await import("./telemetry/open-telemetry.ts");
    return await startTelemetry({
      service: { name, version },
      instruments: [callDuration, databaseDuration, ...instruments],
      settings,
      configured,
      logger,
    });
  } catch (error) {
    // What is to be watched is worth more than its being watched.
    logger.error("telemetry_failed", { error });
    return undefined;
  }
}

function cursorSecret(settings: Settings<typeof kitSettings>): string | undefined {
  const { MCP_CURSOR_SECRET: own, MCP_HTTP_TOKEN: token } = settings;
  return own ?? (token === "none" ? undefined : token);
}

/** The way out of the process. It is taken once, whatever calls for it and however often. */
class WayOut {
  serving: Serving | undefined;
  #taken = false;
  readonly #jobs: Jobs;
  readonly #logger: Logger;
  readonly #close: () => Promise<void>;
  readonly #flush: () => Promise<void>;

  constructor(options: { jobs: Jobs; logger: Logger; close: () => Promise<void>; flush: () => Promise<void> }) {
    this.#jobs = options.jobs;
    this.#logger = options.logger;
    this.#close = options.close;
    this.#flush = options.flush;
    // Hosts send SIGINT and, a moment later, SIGTERM: the second must not cut short what the first began.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.take(signal, 0));
    process.on("uncaughtException", (error) => {
      this.#logger.error("uncaught_exception", { error });
      this.take("uncaught exception", 1);
    });
    process.on("unhandledRejection", (error) => {
      this.#logger.error("unhandled_rejection", { error });
      this.take("unhandled rejection", 1);
    });
  }

  /** Starts the way out; returns at once. */
  take(reason: string, exitCode: number): void {
    if (this.#taken) return;
    this.#taken = true;
    this.#logger.debug("stopping", { reason });
    setTimeout(() => {
      this.#logger.error("stop_timed_out", { reason, timeoutMs: EXIT_TIMEOUT_MS });
      process.exit(1);
    }, EXIT_TIMEOUT_MS);
    void this.#walk().then((clean) => process.exit(clean ? exitCode : 1));
  }

  /** Jobs first: they hold leases, and calls that wait for them are answered by their ending. */
  async #walk(): Promise<boolean> {
    const steps: [string, () => Promise<unknown>][] = [
      ["jobs", () => Promise.all([this.#jobs.shutdown(), this.serving?.answered(ANSWER_GRACE_MS)])],
      ["answers", async () => this.serving?.answered(JOB_ANSWER_GRACE_MS)],
      ["transport", async () => this.serving?.close()],
      ["server", this.#close],
      ["telemetry", this.#flush],
    ];
    let clean = true;
    for (const [step, run] of steps) {
      try {
        await run();
      } catch (error) {
        clean = false;
        this.#logger.error("stop_failed", { step, error });
      }
    }
    return clean;
  }
}

/**
 * Turns everything that any code prints away to stderr, and returns the one stream that still reaches stdout. A line
 * of a stray library in the protocol would end the session.
 */
function keepStdoutForProtocol(): Writable {
  const { stdout, stderr } = process;
  const write = stdout.write.bind(stdout);
  const output = new Writable({
    // Back-pressure is that of the pipe below: the callback comes when the chunk is out.
    write: (chunk: Buffer, encoding, callback) => void write(chunk, encoding, (error) => callback(error)),
  });
  stdout.on("error", (error) => output.destroy(error));
  // A host that closes our stderr loses the log, and must not end the server by it.
  stderr.on("error", () => {});
  stdout.write = stderr.write.bind(stderr);
  globalThis.console = new Console({ stdout: stderr, stderr });
  return output;
}

/** The transport to serve, or the text to print; undefined where all is said. */
function readOptions<Print extends { description: string }>(
  definition: Omit<Described, "prints"> & { prints?: Record<string, Print> },
  args: string[],
): { http: boolean; print?: Print } | undefined {
  const { name, version, prints = {} } = definition;
  try {
    const { values } = parseArgs({
      args,
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean" },
        http: { type: "boolean" },
        ...Object.fromEntries(Object.keys(prints).map((option) => [option, { type: "boolean" } as const])),
      },
    });
    const given = new Map(Object.entries(values));
    const print = Object.entries(prints).find(([option]) => given.get(option) === true)?.[1];
    if (given.get("help") === true) process.stdout.write(helpText(definition));
    else if (given.get("version") === true) process.stdout.write(`${name} ${version}\n`);
    else return { http: given.get("http") === true, ...(print === undefined ? {} : { print }) };
  } catch (error) {
    const message = error instanceof Error ? error.message.split(". ")[0] : String(error);
    process.stderr.write(`${name}: ${message}. See ${name} --help.\n`);
    process.exitCode = 2;
  }
  return undefined;
}

function helpText({ name, title, version, settings, prints = {} }: Described): string {
  const options = [
    ["(no option)", "serve MCP on stdin and stdout"],
    ["--http", "serve MCP over streamable HTTP"],
    ...Object.entries(prints).map(([option, { description }]) => [`--${option}`, description]),
    ["--version", "print the version"],
    ["--help", "print this"],
  ] as const;
  const width = Math.max(...options.map(([option = ""]) => option.length));
  return `${name} ${version}: ${title}

Usage: ${name} ${["--http", ...Object.keys(prints).map((option) => `--${option}`)].map((option) => `[${option}]`).join(" ")}

${options.map(([option = "", description = ""]) => `  ${option.padEnd(width)}  ${description}`).join("\n")}

Environment:
${settingsHelp({ ...settings, ...kitSettings })}
`;
}

function startFailure(error: unknown): string {
  return `cannot start: ${error instanceof Error ? error.message : String(error)}`;
}
