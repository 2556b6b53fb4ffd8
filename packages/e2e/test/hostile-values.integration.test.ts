import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { Caller, exportIndex, type Load, loadExport } from "../src/course.ts";
import { makePlace, type Place } from "./support.ts";

/** The bytes of `_source` by `_id`; several of them are what a JSON library would not write. */
const documents: Record<string, string | Buffer> = {
  long: '{"id":"long","n":9007199254740993}',
  "long-min": '{"id":"long-min","n":-9223372036854775808}',
  decimal: '{"id":"decimal","d":1.10}',
  exponent: '{"id":"exponent","d":-1.5E-7}',
  "beyond-bigint": '{"id":"beyond-bigint","d":18446744073709551617}',
  "thirty-digits": '{"id":"thirty-digits","d":123456789012345678901234567890.12345}',
  object: '{"id":"object","o":{"x":18446744073709551617,"y":1.10,"z":[1.00,{"e":"😀"}],"back\\\\slash":"a\\tb"}}',
  emoji: '{"id":"emoji","t":"😀 \\ud83d\\ude00 e\\u0301"}',
  quotes: `{"id":"quotes","t":"\\"double\\" 'single' \`back\` $$ $1"}`,
  backslashes: '{"id":"backslashes","t":"\\\\ \\\\\\\\ \\\\N \\\\. \\\\t \\/"}',
  newlines: '{"id":"newlines","t":"a\\nb\\r\\nc\\td\\be\\ff"}',
  "copy-end": '{"id":"copy-end","t":"\\\\."}',
  "null-marker": '{"id":"null-marker","t":"\\\\N"}',
  empty: '{"id":"empty","t":""}',
  tags: '{"id":"tags","tags":["a,b","{}","\\"","\\\\",null,"NULL",""," "]}',
  "nested-array": '{"id":"nested-array","tags":[["a","b"],[],["c",["d"]]]}',
  "path-twice": '{"id":"path-twice","off.x":1,"off":{"x":2}}',
  pretty: '{\n  "id" : "pretty",\r\n\t"n" : 7,\n  "t" : "x"\n}\n',
  comment: '{"id":"comment","t":"a" /* } " { */, "d":1.10}',
  "line-comment": '{"id":"line-comment", // it\'s "unbalanced }\n"n":1}',
  nul: '{"id":"nul","t":"a\\u0000b"}',
  surrogate: '{"id":"surrogate","t":"half \\ud83d pair"}',
  "bad-utf8": Buffer.concat([
    Buffer.from('{"id":"bad-utf8","t":"'),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.from('"}'),
  ]),
  "no-id": '{"n":1}',
  "null-id": '{"id":null,"n":1}',
  "first-of-two": '{"id":"twice","n":1}',
  "second-of-two": '{"id":"twice","n":2}',
};

const table = "(id text PRIMARY KEY, n bigint, d numeric, o jsonb, t text, tags text[], off_x bigint[])";

const mapping = {
  columns: [
    { column: "id", from: "id" },
    { column: "n", from: "n" },
    { column: "d", from: "d" },
    { column: "o", from: "o" },
    { column: "t", from: "t" },
    { column: "tags", from: "tags" },
    { column: "off_x", from: "off.x" },
  ],
  key: ["id"],
};

let place: Place;
let load: Load;
let rejects: Map<string, string>;
let verified: unknown;

beforeAll(async () => {
  place = await makePlace();
  const { index, schema } = place;
  const mappings = {
    dynamic: false,
    properties: {
      id: { type: "keyword" },
      n: { type: "long" },
      d: { type: "double" },
      o: { type: "object", enabled: false },
      t: { type: "text" },
      tags: { type: "keyword" },
      off: { properties: { x: { type: "long" } } },
    },
  };
  await place.es("PUT", index, JSON.stringify({ mappings }));
  for (const [id, source] of Object.entries(documents)) await place.es("PUT", `${index}/_doc/${id}`, source);
  await place.es("POST", `${index}/_refresh`);

  const es = await place.open("es-mcp");
  const pg = await place.open("pg-mcp");
  const caller = new Caller({});
  await place.sql(`CREATE TABLE ${schema}.t ${table}`);
  const { export_id } = await exportIndex(caller, es, index);
  load = await loadExport(caller, pg, { table: "t", schema, export_id, mapping });
  const answer = await caller.call(pg, "list_rejects", { load_id: load.load_id });
  const rejectSchema = z.looseObject({ document_id: z.string(), column: z.string(), reason: z.string() });
  const { rejects: listed } = z.looseObject({ rejects: z.array(rejectSchema) }).parse(answer.data);
  rejects = new Map(listed.map(({ document_id, column, reason }) => [document_id, `${column}: ${reason}`]));
  verified = (await caller.call(pg, "verify_load", { load_id: load.load_id })).data;
});

afterAll(async () => {
  await place[Symbol.asyncDispose]();
});

describe("values that movers of data change, lose or choke on", () => {
  it.each([
    ["long", "n", "9007199254740993"],
    ["long-min", "n", "-9223372036854775808"],
    ["decimal", "d", "1.10"],
    ["exponent", "d", "-0.00000015"],
    ["beyond-bigint", "d", "18446744073709551617"],
    ["thirty-digits", "d", "123456789012345678901234567890.12345"],
    ["object", "o -> 'x'", "18446744073709551617"],
    ["object", "o -> 'y'", "1.10"],
    ["object", "o ->> 'z'", '[1.00, {"e": "😀"}]'],
    ["object", "o ->> 'back\\slash'", "a\tb"],
    ["emoji", "t", "😀 😀 e\u0301"],
    ["quotes", "t", "\"double\" 'single' `back` $$ $1"],
    ["backslashes", "t", "\\ \\\\ \\N \\. \\t /"],
    ["newlines", "t", "a\nb\r\nc\td\be\ff"],
    ["copy-end", "t", "\\."],
    ["null-marker", "t", "\\N"],
    ["empty", "t", ""],
    ["empty", "n", null],
    ["tags", "to_json(tags)", '["a,b","{}","\\"","\\\\",null,"NULL",""," "]'],
    ["nested-array", "to_json(tags)", '["a","b","c","d"]'],
    ["path-twice", "to_json(off_x)", "[1,2]"],
    ["pretty", "json_build_array(n, t)", '[7, "x"]'],
    ["comment", "json_build_array(t, d)", '["a", 1.10]'],
    ["line-comment", "n", "1"],
    ["twice", "n", "2"],
  ])("%s: %s is exact", async (id, expression, value) => {
    const rows = await place.sql(`SELECT (${expression})::text FROM ${place.schema}.t WHERE id = $1`, [id]);
    expect(rows).toEqual([[value]]);
  });

  it("are rejected where PostgreSQL has no such value or the key is missing, each with its column and reason", () => {
    expect(Object.fromEntries(rejects)).toEqual({
      nul: "t: nul",
      surrogate: "t: lone_surrogate",
      "bad-utf8": "t: invalid_utf8",
      "no-id": "id: null_key",
      "null-id": "id: null_key",
    });
  });

  it("are all accounted for, and the table equals the export", () => {
    const staged = Object.keys(documents).length;
    expect(load.figures).toMatchObject({
      expected: staged,
      staged,
      inserted: staged - 6,
      deduplicated: 1,
      rejected: 5,
    });
    expect(verified).toMatchObject({ matched: staged - 6, missing: 0, different: 0 });
  });
});
