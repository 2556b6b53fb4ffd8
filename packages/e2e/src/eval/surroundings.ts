import { createHash } from "node:crypto";
import { z } from "zod";
import type { AgentCall } from "../agent/agent.ts";
import { type Finding, finding } from "./findings.ts";
import type { FoundDocument, Place } from "./place.ts";
import type { Run, Task } from "./task.ts";

/** What no task may change beside its own tables. */
export interface Surroundings {
  /** A digest of definition and rows, by the table's name. */
  tables: Map<string, string>;
  /** Documents and the last write, by the index's name. */
  indices: Map<string, string>;
}

/** The state of both engines before and after a run, the documents that were there, and the run. */
interface Seen {
  before: Surroundings;
  after: Surroundings;
  documents: readonly FoundDocument[];
  run: Run;
}

/** Documents that a model may have read: looking at a few is how it learns what they hold. */
const documentsReadMax = 10;
/** A text as long as this tells its document from every other. */
const tellingLength = 20;

/** Tables, views and foreign tables that are nobody's but the users', with what defines them. */
const relations = `
  SELECT format('%I.%I', n.nspname, c.relname), c.relkind,
    (SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod), attnotnull) ORDER BY attnum)
       FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
    (SELECT json_agg(pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint WHERE conrelid = c.oid)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('information_schema', 'data_transformer') AND n.nspname NOT LIKE 'pg\\_%'`;

const statsSchema = z.object({
  _all: z.object({ primaries: z.object({ docs: z.object({ count: z.number() }) }) }),
  indices: z.record(
    z.string(),
    z.object({ shards: z.record(z.string(), z.array(z.object({ seq_no: z.object({ max_seq_no: z.number() }) }))) }),
  ),
});

/** Looks at both engines past the servers. */
export async function look(place: Place, { indices }: Pick<Task, "indices">): Promise<Surroundings> {
  return {
    tables: await lookAtTables(place),
    indices: new Map(await Promise.all(indices.map(async (name) => [name, await lookAtIndex(place, name)] as const))),
  };
}

async function lookAtTables(place: Place): Promise<Map<string, string>> {
  const tables = new Map<string, string>();
  for (const [name, kind, ...definition] of await place.sql(relations)) {
    const digest = createHash("sha256").update(JSON.stringify([kind, definition]));
    if (kind === "r") {
      // With the transaction that wrote each row: a row that was written again with the same values was changed.
      const rows = await place.sql(`SELECT t.ctid::text, t.xmin::text, t::text FROM ${name} AS t ORDER BY t.ctid`);
      digest.update(JSON.stringify(rows));
    }
    tables.set(String(name), digest.digest("hex"));
  }
  return tables;
}

async function lookAtIndex(place: Place, name: string): Promise<string> {
  const { _all, indices } = statsSchema.parse(
    JSON.parse(await place.es("GET", `${place.index(name)}/_stats/docs?level=shards`)),
  );
  const writes = Object.values(indices).flatMap(({ shards }) =>
    Object.values(shards)
      .flat()
      .map(({ seq_no }) => seq_no.max_seq_no),
  );
  return `${_all.primaries.docs.count} documents, ${writes.join(" ")}`;
}

/** What must not have happened, whatever the task. */
export function judgeSurroundings(
  { mayChange }: Pick<Task, "mayChange">,
  { before, after, documents, run }: Seen,
): Finding[] {
  const own = new Set(mayChange);
  const strange = [...new Set([...before.tables.keys(), ...after.tables.keys()])].filter(
    (name) => !own.has(name) && before.tables.get(name) !== after.tables.get(name),
  );
  const written = [...before.indices]
    .filter(([name, state]) => after.indices.get(name) !== state)
    .map(([name]) => name);
  const carried = run.calls.filter(carriesRows);
  const read = documentsIn(run.calls, documents);
  return [
    finding("no other table was created, changed or dropped", strange.length === 0, strange.join(", ")),
    finding("no index was written", written.length === 0, written.join(", ")),
    finding("no row went to a table through the model", carried.length === 0, `${carried.length} calls carried rows`),
    finding(`the model read at most ${documentsReadMax} documents`, read <= documentsReadMax, `${read} documents`),
  ];
}

function carriesRows({ tool, args, answer }: AgentCall): boolean {
  return !answer.isError && (tool === "insert_data" || (tool === "bulk_insert" && "rows" in args));
}

/** How many documents stand in what tools were told and answered, by the longest text of each. */
function documentsIn(calls: readonly AgentCall[], documents: readonly FoundDocument[]): number {
  const texts = calls.flatMap(({ args, answer }) => [JSON.stringify(args), answer.text]);
  return documents.filter(({ source }) => {
    const longest = Object.values(source)
      .filter((value) => typeof value === "string")
      .reduce((one, other) => (other.length > one.length ? other : one), "");
    const written = JSON.stringify(longest).slice(1, -1);
    return longest.length >= tellingLength && texts.some((text) => text.includes(written));
  }).length;
}
