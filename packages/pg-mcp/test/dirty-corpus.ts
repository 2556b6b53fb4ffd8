import { Buffer } from "node:buffer";
import type { MappingField } from "@es-to-pg/staging";
import { expect } from "vitest";
import { verifyLoad } from "../src/load/verify-job.ts";
import { openHarness, told } from "./load-harness.ts";

/** A kind of bad value: where it stands, why it stays out, and whether the better mapping lets its document in. */
interface Kind {
  /** Members of the document in place of its own; undefined takes one away. `\xff` stands for that byte. */
  set: Record<string, string | undefined>;
  /** Null where the table, and not a column, refuses it. */
  column: string | null;
  reason: string;
  saved?: true;
}

const bad = (field: string, value: string | undefined, reason: string, more: Partial<Kind> = {}): Kind => ({
  set: { [field]: value },
  column: field,
  reason,
  ...more,
});

const saved = { saved: true } as const;

export const kinds: Kind[] = [
  bad("code", '"abcdef"', "too_long", saved),
  bad("code", '["a","b"]', "is_array", saved),
  bad("code", '{"a":1}', "is_object", saved),
  bad("name", '"nul \\u0000"', "nul", saved),
  bad("name", '"half \\ud83d pair"', "lone_surrogate", saved),
  bad("name", '"byte \xff"', "invalid_utf8", saved),
  bad("name", "null", "null_not_allowed", saved),
  bad("name", undefined, "null_not_allowed", saved),
  bad("name", "[]", "null_not_allowed", saved),
  bad("count", '"many"', "not_an_integer"),
  bad("count", "12.5", "fraction", saved),
  bad("count", "2147483648", "out_of_range"),
  bad("count", "true", "wrong_kind"),
  bad("count", '" 12"', "not_an_integer"),
  bad("count", "-1", "check_violation", { column: null }),
  bad("big", "9223372036854775808", "out_of_range"),
  bad("big", '"0x10"', "not_an_integer"),
  bad("big", "1e400000", "out_of_range"),
  bad("price", "10.005", "too_precise", saved),
  bad("price", '"12,50"', "not_a_number"),
  bad("price", "123456", "out_of_range"),
  bad("price", "[1,2]", "is_array"),
  bad("price", '"NaN"', "not_a_number"),
  bad("ratio", "1e39", "out_of_range"),
  bad("ratio", '"Infinity"', "not_a_number"),
  bad("flag", "1", "not_a_boolean", saved),
  bad("flag", '"on"', "not_a_boolean", saved),
  bad("at", '"now"', "not_a_date"),
  bad("at", '"2024-02-30"', "not_a_date"),
  bad("at", '"15.01.2023"', "not_a_date"),
  bad("at", '"infinity"', "not_a_date"),
  bad("at", "9223372036854775807", "out_of_range"),
  bad("day", '"2024-02-29"', "not_a_date", saved),
  bad("day", '"2024/13/01"', "not_a_date"),
  bad("ip", '"fe80::1%eth0"', "not_an_ip"),
  bad("ip", '"10.0.0"', "not_an_ip"),
  bad("net", '"10.0.0.0/33"', "not_an_ip"),
  bad("net", '"10.0.0.1"', "not_an_ip"),
  bad("span", '{"gte":5,"lte":1}', "not_a_range"),
  bad("span", '{"from":1}', "not_a_range"),
  bad("during", '{"gte":"2024-13-01"}', "not_a_date"),
  bad("place", '{"lat":91,"lon":0}', "not_a_point"),
  bad("place", '"somewhere"', "not_a_point"),
  bad("blob", '"3q2-7w=="', "not_base64"),
  bad("tags", '["a",{"b":1}]', "is_object"),
  bad("doc", '{"a":"\\u0000"}', "nul"),
  bad("doc", '{"a":1e200000}', "out_of_range"),
  bad("vec", '["a"]', "not_a_number"),
  bad("uid", '"a0eebc99"', "not_a_uuid"),
  bad("mood", '"glad"', "unknown_label"),
  bad("lines", '[{"sku":"a","qty":1},{"sku":"b","qty":"two"}]', "not_an_integer", { column: "lines[].qty", ...saved }),
  bad("lines", '[{"sku":"a","qty":-5}]', "check_violation", { column: "lines[]" }),
  bad("lines", "[5]", "wrong_kind", { column: "lines[]" }),
];

const fields: MappingField[] = [
  { path: "code", type: "keyword" },
  { path: "name", type: "text" },
  { path: "count", type: "integer" },
  { path: "big", type: "long" },
  { path: "price", type: "double" },
  { path: "ratio", type: "float" },
  { path: "flag", type: "boolean" },
  { path: "at", type: "date" },
  { path: "day", type: "date", format: "yyyy/MM/dd" },
  { path: "ip", type: "ip" },
  { path: "net", type: "ip_range" },
  { path: "span", type: "integer_range" },
  { path: "during", type: "date_range" },
  { path: "place", type: "geo_point" },
  { path: "blob", type: "binary" },
  { path: "tags", type: "keyword" },
  { path: "doc", type: "object" },
  { path: "vec", type: "dense_vector", parameters: { dims: 2 } },
  { path: "uid", type: "keyword" },
  { path: "mood", type: "keyword" },
  { path: "lines", type: "nested" },
  { path: "lines.sku", type: "keyword", nested: true },
  { path: "lines.qty", type: "integer", nested: true },
];

const good: Record<string, string> = {
  code: '"abc"',
  name: '"a name"',
  count: '"12"',
  big: "9007199254740993",
  price: "12.50",
  ratio: "0.1",
  flag: '"true"',
  at: '"2024-02-29T10:00:00Z"',
  day: '"2024/02/29"',
  ip: '"10.0.0.1"',
  net: '"10.0.0.0/8"',
  span: '{"gte":1,"lt":5}',
  during: '{"gte":"2024-01-01"}',
  place: '"1.5,2"',
  blob: '"3q2+7w=="',
  tags: '["a","b"]',
  doc: '{"a":1.10}',
  vec: "[0.5,1]",
  uid: '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"',
  mood: '"sad"',
  lines: '[{"sku":"a","qty":1}]',
};

/** Every tenth document is bad, in turn of each kind. */
const PERIOD = 10;

function kindOf(number: number): Kind | undefined {
  return number % PERIOD === PERIOD - 1 ? kinds[Math.floor(number / PERIOD) % kinds.length] : undefined;
}

function lineOf(number: number): Buffer {
  const members = { ...good, ...kindOf(number)?.set };
  const source = Object.entries(members).flatMap(([name, value]) =>
    value === undefined ? [] : [`"${name}":${value}`],
  );
  // Every other byte of the corpus is ASCII.
  return Buffer.from(
    `{"_index":"docs","_id":"${number}","_seq_no":${number},"_primary_term":1,"_source":{${source.join(",")}}}\n`,
    "latin1",
  );
}

const columns = Object.keys(good).filter((name) => name !== "lines");
const lines = (qty: object = {}) => [
  {
    from: "lines",
    table: "docs_lines",
    parent_key: ["id"],
    ordinal: "position",
    columns: [{ column: "sku" }, { column: "qty", ...qty }],
  },
];

function mapping(changes: Record<string, object> = {}, children = lines()) {
  return {
    columns: [{ column: "id", from: "_id" }, ...columns.map((column) => ({ column, ...changes[column] }))],
    key: ["id"],
    children,
  };
}

/** What saves the kinds that are `saved`, and no other. */
const better = mapping(
  {
    code: { on_error: "null" },
    name: { nul: "strip", encoding: "replace", on_null: "" },
    count: { round: "round" },
    price: { round: "round" },
    flag: { on_error: "null" },
    day: { format: "yyyy/MM/dd||strict_date" },
  },
  lines({ on_error: "null" }),
);

/** Loads the corpus and replays its rejects; throws where anything but what its kinds say comes out. */
export async function checkDirtyCorpus(databaseUrl: string, documents: number): Promise<void> {
  const harness = await openHarness(databaseUrl);
  const { schema } = harness;
  try {
    await harness.sql(`CREATE TYPE ${schema}.mood AS ENUM ('happy', 'sad')`);
    await harness.sql(`CREATE TABLE ${schema}.docs (id bigint PRIMARY KEY, code varchar(5), name text NOT NULL,
      count integer CHECK (count >= 0), big bigint, price numeric(6,2), ratio real, flag boolean, at timestamptz,
      day date, ip inet, net cidr, span int4range, during tstzrange, place point, blob bytea, tags text[], doc jsonb,
      vec real[], uid uuid, mood ${schema}.mood)`);
    await harness.sql(`CREATE TABLE ${schema}.docs_lines (id bigint REFERENCES ${schema}.docs, position integer, sku text,
      qty integer CHECK (qty > 0), PRIMARY KEY (id, position))`);
    const exportId = await stage(harness, documents);
    const dirty = Array.from({ length: documents }, (_, number) => ({ number, kind: kindOf(number) })).flatMap(
      ({ number, kind }) => (kind === undefined ? [] : [{ number, kind }]),
    );

    const load = await harness.load({ table: "docs", exportId, mapping: mapping(), waitSeconds: 45 });
    expect(told(load)).toEqual({
      expected: documents,
      staged: documents,
      inserted: documents - dirty.length,
      rejected: dirty.length,
    });
    expect(await rejectsOf(load.load_id)).toEqual(
      dirty.map(({ number, kind }) => [String(number), kind.column, kind.reason]),
    );
    expect(await verifyLoad(harness.context, load.load_id, { extra: true, waitSeconds: 45 })).toMatchObject({
      verdict: "equal",
      matched: documents - dirty.length,
    });

    const replay = await harness.load({ table: "", rejectsOf: load.load_id, mapping: better, waitSeconds: 45 });
    const staysOut = dirty.filter(({ kind }) => kind.saved !== true);
    expect(told(replay)).toEqual({
      expected: dirty.length,
      staged: dirty.length,
      inserted: dirty.length - staysOut.length,
      rejected: staysOut.length,
    });
    expect(await rejectsOf(replay.load_id)).toEqual(
      staysOut.map(({ number, kind }) => [String(number), kind.column, kind.reason]),
    );
    const ids = await harness.sql(`SELECT d.id::text FROM ${schema}.docs AS d ORDER BY d.id`);
    const out = new Set(staysOut.map(({ number }) => number));
    expect(ids.flat()).toEqual(
      Array.from({ length: documents }, (_, number) => number)
        .filter((number) => !out.has(number))
        .map(String),
    );
    // Every document has one line but the one whose second line was saved.
    const inTable = await harness.sql(
      `SELECT count(*) FILTER (WHERE position = 1), count(*) FILTER (WHERE position = 2 AND qty IS NULL) FROM ${schema}.docs_lines`,
    );
    const two = dirty.filter(({ kind }) => kind.column === "lines[].qty").length;
    expect(inTable[0]?.map(Number)).toEqual([documents - staysOut.length, two]);
  } finally {
    await harness.close();
  }

  async function rejectsOf(loadId: string): Promise<unknown[][]> {
    return harness.sql(
      `SELECT document_id, column_name, reason FROM ${schema}_state.rejects WHERE load_id = $1 ORDER BY part, line`,
      [loadId],
    );
  }
}

/** Four parts, so that bad values are met in each of them. */
async function stage(harness: Awaited<ReturnType<typeof openHarness>>, documents: number): Promise<string> {
  const writer = await harness.openExport(documents, fields);
  const size = Math.ceil(documents / 4);
  for (let from = 0; from < documents; from += size) {
    const numbers = Array.from({ length: Math.min(size, documents - from) }, (_, index) => from + index);
    const part = await writer.openPart();
    await part.write(Buffer.concat(numbers.map(lineOf)), numbers.length);
    const info = await part.close();
    const { totals } = writer.manifest;
    await writer.commit({
      parts: [...writer.manifest.parts, info],
      totals: { ...totals, documents: totals.documents + info.documents, bytes: totals.bytes + info.bytes },
    });
  }
  await writer.finish("completed");
  return writer.manifest.export_id;
}
