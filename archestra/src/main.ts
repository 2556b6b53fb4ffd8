#!/usr/bin/env node
import { parseArgs } from "node:util";
import { SettingsError } from "@es-to-pg/mcp-kit";
import { ApiError } from "./api/client.ts";
import { BundleError } from "./bundle-error.ts";
import { commands, UsageError } from "./commands.ts";
import { openWorld } from "./open.ts";
import { CommandError, openShell } from "./process.ts";
import { withEnvFile } from "./settings.ts";

const help = `Sets up both servers and the agent Data Transformer on Archestra.

  npm run archestra:up                  docker compose up, then apply; run it again after every start
  npm run archestra:plan                what apply would change; changes nothing
  npm run archestra:apply               makes it so; may be stopped anywhere and run again
  npm run archestra:status              what is there, and how to use it
  npm run archestra:doctor              looks for what is wrong, and says what to do
  npm run archestra:chat -- "…"         a message to the Data Transformer
  npm run archestra:destroy             removes everything that apply made
  npm run --silent archestra -- token   prints the token for A2A and the gateway

Options (after --):
  --transport streamable-http|stdio     plan, apply: how the platform talks to the servers
  --wait SECONDS                        how long the platform may take to come up (0)
  --yaml                                plan: prints the deployments too
  --context ID                          chat: goes on with a conversation
  --approve, --decline                  chat: what to answer when the agent asks for approval
  --yes                                 destroy: does not ask

Settings come from the environment and from .env; archestra/README.md lists them.
`;

const options = {
  transport: { type: "string" },
  wait: { type: "string", default: "0" },
  yaml: { type: "boolean", default: false },
  context: { type: "string" },
  approve: { type: "boolean", default: false },
  decline: { type: "boolean", default: false },
  yes: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const;

const stopping = new AbortController();

async function main(): Promise<void> {
  const { values, positionals } = parsed();
  const [name, ...words] = positionals;
  if (values.help || name === undefined) return print(help.trimEnd());
  const command = commands[name];
  if (command === undefined) throw new UsageError(`There is no command ${name}.`);
  const waitSeconds = Number(values.wait);
  if (!(waitSeconds >= 0)) throw new UsageError("--wait takes a number of seconds.");
  const environment = withEnvFile(process.env);
  const opened = await openWorld({
    environment:
      values.transport === undefined ? environment : { ...environment, ARCHESTRA_TRANSPORT: values.transport },
    waitSeconds,
    shell: openShell(process.env),
    signal: stopping.signal,
    say: print,
  });
  await command(opened, values, words);
}

function parsed() {
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** What to do about a refusal that no step of this program expects. */
function adviceFor({ status }: ApiError): string {
  if (status === 403)
    return "The user must be an administrator of the organization: check whom the API key belongs to.";
  if (status >= 500) return "See `docker compose logs archestra`, then run the same command again.";
  return "Compare the versions: npm run check:archestra -- FILE, with the platform's /openapi.json as FILE.";
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stopping.abort());

try {
  await main();
} catch (error) {
  // Where the terminal is asked a question, Ctrl-C goes to the question.
  if (stopping.signal.aborted || (error instanceof Error && error.name === "AbortError")) {
    process.stderr.write("\nStopped. Run the same command again: it goes on where this one was.\n");
    process.exitCode = 130;
  } else if (error instanceof BundleError) {
    process.stderr.write(`${error.message}\n-> ${error.next}\n`);
    process.exitCode = 1;
  } else if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n\n${help}`);
    process.exitCode = 2;
  } else if (error instanceof SettingsError) {
    process.stderr.write(`${error.message}\n-> archestra/README.md lists all settings.\n`);
    process.exitCode = 1;
  } else if (error instanceof ApiError) {
    process.stderr.write(`${error.message}\n-> ${adviceFor(error)}\n`);
    process.exitCode = 1;
  } else if (error instanceof CommandError) {
    process.stderr.write(
      `${error.message}\n-> Run it by hand to see more; then run the same command of this program again.\n`,
    );
    process.exitCode = 1;
  } else {
    throw error;
  }
}
