import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { Elasticsearch, IndexName, LeftOut } from "./elasticsearch.ts";
import { inPaths } from "./requests.ts";

/** An index, or a data stream with its backing indices taken together. Null stands for what the credentials do not show. */
export interface IndexRow {
  name: string;
  documents: number | null;
  /** Of primary shards. */
  bytes: number | null;
  health: string | null;
  aliases: string[];
  data_stream: boolean;
  /** Of a data stream; null for an index. */
  backing_indices: number | null;
  hidden: boolean;
}

export interface Listing {
  rows: IndexRow[];
  total: number;
  /** Of all pages: the row with this name is the last. */
  lastName: string | undefined;
  leftOut: LeftOut[];
  /** Columns that the credentials do not permit. */
  notPermitted: string[];
}

const countsSchema = z.object({
  responses: z.array(z.object({ hits: z.object({ total: z.object({ value: z.int() }) }).optional() })),
});
const catSchema = z.array(
  z.object({ index: z.string(), health: z.string().nullish(), "pri.store.size": z.string().nullish() }),
);
const statsSchema = z.object({
  indices: z
    .record(
      z.string(),
      z.object({ primaries: z.object({ store: z.object({ size_in_bytes: z.number() }).optional() }) }),
    )
    .default({}),
});

/** Rows of the indices after `after`, at most `rowsMax` of them. */
export async function listIndices(
  elasticsearch: Elasticsearch,
  options: { pattern: string; includeHidden: boolean; after: string | undefined; rowsMax: number },
  signal: AbortSignal,
): Promise<Listing> {
  const { pattern, includeHidden, after, rowsMax } = options;
  const { indices, leftOut } = await elasticsearch.names(pattern, { includeHidden, allowNone: true, signal });
  const groups = foldStreams(indices);
  const page = groups.filter(({ name }) => after === undefined || name > after).slice(0, rowsMax);
  const [counts, sizes] = await Promise.all([
    countEach(elasticsearch, page, signal),
    sizesOf(
      elasticsearch,
      page.flatMap(({ members }) => members.map(({ name }) => name)),
      signal,
    ),
  ]);
  return {
    rows: page.map((group, at) => rowOf(group, counts[at] ?? null, sizes.byIndex)),
    total: groups.length,
    lastName: groups.at(-1)?.name,
    leftOut,
    notPermitted: sizes.notPermitted,
  };
}

interface Group {
  name: string;
  stream: boolean;
  members: IndexName[];
}

function foldStreams(indices: readonly IndexName[]): Group[] {
  const groups = new Map<string, Group>();
  for (const index of indices) {
    const name = index.dataStream ?? index.name;
    const group = groups.get(name) ?? { name, stream: index.dataStream !== null, members: [] };
    group.members.push(index);
    groups.set(name, group);
  }
  return [...groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Documents by search: the counts of `_cat` include nested ones. */
async function countEach(
  elasticsearch: Elasticsearch,
  groups: readonly Group[],
  signal: AbortSignal,
): Promise<(number | null)[]> {
  if (groups.length === 0) return [];
  const lines = groups.flatMap(({ members }) => [
    { index: members.map(({ name }) => name) },
    { size: 0, track_total_hits: true },
  ]);
  const answer = countsSchema.parse(
    await elasticsearch.json({ method: "POST", path: ["_msearch"], lines }, { signal }),
  );
  return answer.responses.map(({ hits }) => hits?.total.value ?? null);
}

interface Sizes {
  byIndex: Map<string, { health: string | null; bytes: number | null }>;
  notPermitted: string[];
}

async function sizesOf(elasticsearch: Elasticsearch, names: string[], signal: AbortSignal): Promise<Sizes> {
  const byIndex: Sizes["byIndex"] = new Map();
  try {
    for (const path of inPaths(names)) {
      const query = { format: "json", bytes: "b", h: "index,health,pri.store.size" };
      const rows = catSchema.parse(
        await elasticsearch.json({ method: "GET", path: ["_cat", "indices", path], query }, { signal }),
      );
      for (const { index, health, "pri.store.size": size } of rows) {
        byIndex.set(index, { health: health ?? null, bytes: size == null ? null : Number(size) });
      }
    }
    return { byIndex, notPermitted: [] };
  } catch (error) {
    if (!isForbidden(error)) throw error;
  }
  // `_cat/indices` needs rights on the cluster; `_stats` only on the index.
  try {
    for (const path of inPaths(names)) {
      const stats = statsSchema.parse(
        await elasticsearch.json({ method: "GET", path: [path, "_stats", "store"] }, { signal }),
      );
      for (const [name, { primaries }] of Object.entries(stats.indices)) {
        byIndex.set(name, { health: null, bytes: primaries.store?.size_in_bytes ?? null });
      }
    }
    return { byIndex, notPermitted: ["health"] };
  } catch (error) {
    if (!isForbidden(error)) throw error;
    return { byIndex, notPermitted: ["bytes", "health"] };
  }
}

function rowOf({ name, stream, members }: Group, documents: number | null, sizes: Sizes["byIndex"]): IndexRow {
  const own = members.map((member) => sizes.get(member.name));
  const bytes = own.map((size) => size?.bytes ?? null);
  return {
    name,
    documents,
    bytes: bytes.includes(null) ? null : bytes.reduce<number>((sum, each) => sum + (each ?? 0), 0),
    health: worst(own.map((size) => size?.health ?? null)),
    aliases: [...new Set(members.flatMap(({ aliases }) => aliases))],
    data_stream: stream,
    backing_indices: stream ? members.length : null,
    hidden: !stream && members.some(({ hidden }) => hidden),
  };
}

function worst(healths: readonly (string | null)[]): string | null {
  return ["red", "yellow", "green"].find((health) => healths.includes(health)) ?? null;
}

function isForbidden(error: unknown): boolean {
  return error instanceof ToolError && error.code === "forbidden";
}
