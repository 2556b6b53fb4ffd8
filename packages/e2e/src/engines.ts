/**
 * `npm run engines`: keeps an Elasticsearch with the fifteen products and a PostgreSQL running for a client, where the
 * attachments of this clone look for them, until it is interrupted.
 */
import { parseArgs } from "node:util";
import { servers } from "@es-to-pg/attachments";
import { acquireEngines, type WantedAddress } from "@es-to-pg/engines";
import { createSampleDatabase, seedProducts } from "@es-to-pg/seed";
import { elasticsearchEnvironment } from "./elasticsearch-environment.ts";

const usage = `Usage: npm run engines
Finds or starts Elasticsearch and PostgreSQL as the demo does, writes the index products and the database
transformation_db, prints both addresses, and stops what it started on Ctrl-C. Nothing is kept.
`;

let stop = async (): Promise<void> => {};
/** Whether Ctrl-C is the way out that the reader was told of. */
let isUp = false;
let ending: Promise<never> | undefined;
// Not once: npm and tsx pass on the signal that the terminal has sent already, and the second must not kill the way out.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end(isUp ? 0 : 130));
try {
  const { values } = parseArgs({ options: { help: { type: "boolean", default: false } } });
  if (values.help) process.stdout.write(usage);
  else await keepEngines();
} catch (error) {
  // A start that was interrupted fails on the way out.
  await ending;
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  await end(1);
}

async function keepEngines(): Promise<void> {
  say("Bringing up Elasticsearch and PostgreSQL");
  const engines = await acquireEngines(sampleAddress());
  stop = () => engines.stop();
  const { elasticsearchUrl } = engines;
  const seeded = await seedProducts({ elasticsearchUrl, index: "products" });
  const databaseUrl = await createSampleDatabase(engines.databaseUrl);
  const environment = { ...elasticsearchEnvironment(elasticsearchUrl), DATABASE_URL: databaseUrl };
  // What the reader has set already, a key perhaps, is not shown again.
  const unset = Object.entries(environment).filter(([name, value]) => process.env[name] !== value);
  const lines = unset.map(([name, value]) => `  export ${name}=${quoted(value)}\n`);
  say(`
Elasticsearch: ${new URL(elasticsearchUrl).host}, index products with ${seeded.documents} documents
PostgreSQL:    ${new URL(databaseUrl).host}, database transformation_db

${isWhereClientsLook(environment) ? "A client in this folder finds both without any setting. For everything else:" : "Tell your client where they are, in the terminal that starts it or in its file:"}

${lines.join("")}
They run until Ctrl-C, and what they hold is gone then.`);
  isUp = true;
  // Nothing else keeps this process: engines end with their owner and not the other way round.
  setInterval(() => {}, 2 ** 30);
}

/** Where the attachments look unless they are told. */
function sampleAddress(): WantedAddress {
  const database = new URL(sampleOf("DATABASE_URL") ?? "");
  return {
    elasticsearchPort: Number(new URL(sampleOf("ELASTICSEARCH_URL") ?? "").port),
    postgresPort: Number(database.port),
    postgresPassword: database.password,
  };
}

/** Whether the attachments of this clone need to be told nothing. */
function isWhereClientsLook(environment: Record<string, string>): boolean {
  return Object.entries(environment).every(([name, value]) => {
    const sample = sampleOf(name);
    return sample !== undefined && onLoopback(value) === onLoopback(sample);
  });
}

function onLoopback(url: string): string {
  const address = new URL(url);
  if (address.hostname === "localhost") address.hostname = "127.0.0.1";
  return address.href;
}

function sampleOf(setting: string): string | undefined {
  return servers.flatMap((server) => server.asked).find(({ name }) => name === setting)?.sample;
}

/** A word of the shell. */
function quoted(text: string): string {
  return /^[\w:/.@-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function end(exitCode: number): Promise<never> {
  ending ??= stop()
    .catch((error: unknown) => process.stderr.write(`while stopping: ${String(error)}\n`))
    .then(() => process.exit(exitCode));
  return await ending;
}
