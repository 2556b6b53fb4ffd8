import { type MappingField, proposeType, TYPE_ROWS } from "@es-to-pg/staging";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import type { MappingColumn } from "../src/mapping/mapping.ts";
import { type Harness, openHarness, told } from "./load-harness.ts";

/** One target of a field: the type, a piece of the value or settings where it needs them, and what is stored. */
interface Target {
  type: string;
  piece?: string;
  settings?: Partial<MappingColumn>;
  /** As text; undefined: as the first target. */
  stored: (string | null)[];
}

/** What the documents may hold in fields of these types. Where a mapping needs parameters, they are as recorded. */
interface Row {
  types: string[];
  field?: Partial<MappingField>;
  values: string[];
  targets: Target[];
  /** Values that stay out of the first target, each with its reason. */
  refused?: [value: string, reason: string][];
}

const text = (stored: (string | null)[], type = "text"): Target => ({ type, stored });

const rows: Row[] = [
  {
    types: ["keyword", "wildcard", "counted_keyword"],
    field: { parameters: { ignore_above: 8 } },
    values: ['"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', "null", '["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]'],
    targets: [
      text(["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", null, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
      text(["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", null, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], "varchar(36)"),
      text(["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", null, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], "uuid"),
    ],
    refused: [
      ['"\\u0000"', "nul"],
      ['"\\ud800"', "lone_surrogate"],
      ['["a","b"]', "is_array"],
    ],
  },
  {
    types: ["keyword"],
    values: ['"happy"', '"so so"'],
    targets: [{ type: "mood", stored: ["happy", "so so"] }],
    refused: [['"glad"', "unknown_label"]],
  },
  {
    types: ["keyword"],
    values: ['"10.0.0.1"', '"::1"'],
    targets: [{ type: "inet", stored: ["10.0.0.1/32", "::1/128"] }],
    refused: [['"host"', "not_an_ip"]],
  },
  {
    types: ["constant_keyword"],
    field: { constant: "product", parameters: { value: "product" } },
    values: ["", "null", '"product"'],
    targets: [text(["product", "product", "product"]), text(["product", "product", "product"], "varchar(10)")],
  },
  {
    types: ["text", "match_only_text", "search_as_you_type", "annotated_text", "pattern_text"],
    values: ['"Häuser\\t1"', '""', "5", "null"],
    targets: [
      text(["Häuser\t1", "", "5", null]),
      text(["Häuser\t1", "", "5", null], "varchar(20)"),
      {
        type: "tsvector",
        settings: { expression: "to_tsvector('simple', %)" },
        stored: ["'1':2 'häuser':1", "", "'5':1", null],
      },
    ],
    refused: [["{}", "is_object"]],
  },
  {
    types: ["long"],
    values: ["9007199254740993", '"12"', '""', "1e3", "[7]", "null"],
    targets: [
      text(["9007199254740993", "12", null, "1000", "7", null], "bigint"),
      text(["9007199254740993", "12", null, "1000", "7", null], "numeric"),
    ],
    refused: [
      ["12.7", "fraction"],
      ["9223372036854775808", "out_of_range"],
      ['"x"', "not_an_integer"],
    ],
  },
  {
    types: ["integer"],
    values: ["2147483647", '"-12"', '""'],
    targets: ["integer", "bigint", "numeric"].map((type) => text(["2147483647", "-12", null], type)),
    refused: [["2147483648", "out_of_range"]],
  },
  {
    types: ["short", "byte"],
    values: ["127", '"-12"', '""'],
    targets: ["smallint", "integer", "bigint"].map((type) => text(["127", "-12", null], type)),
    refused: [["32768", "out_of_range"]],
  },
  {
    types: ["unsigned_long"],
    values: ["18446744073709551615", '"9223372036854775808"', "0"],
    targets: [text(["18446744073709551615", "9223372036854775808", "0"], "numeric(20,0)")],
    refused: [["100000000000000000000", "out_of_range"]],
  },
  {
    types: ["unsigned_long"],
    values: ["9223372036854775807"],
    targets: [text(["9223372036854775807"], "bigint")],
    refused: [["9223372036854775808", "out_of_range"]],
  },
  {
    types: ["double"],
    values: ["0.1", '"1.5"', '""', "1e2"],
    targets: [
      text(["0.1", "1.5", null, "100"], "double precision"),
      text(["0.1", "1.5", null, "100"], "numeric"),
      text(["0.10", "1.50", null, "100.00"], "numeric(10,2)"),
    ],
    refused: [['"NaN"', "not_a_number"]],
  },
  {
    types: ["float", "half_float"],
    values: ["0.1", '"1.5"', '""', "1.23456789"],
    targets: [
      text(["0.1", "1.5", null, "1.2345679"], "real"),
      text(["0.1", "1.5", null, "1.23456789"], "numeric"),
      text(["0.1", "1.5", null, "1.23456789"], "double precision"),
    ],
    refused: [["true", "wrong_kind"]],
  },
  {
    types: ["scaled_float"],
    field: { scaling_factor: 100 },
    values: ["12.345", "1", '"2.5"'],
    targets: [
      text(["12.35", "1.00", "2.50"], "numeric(19,2)"),
      text(["12.345", "1", "2.5"], "numeric"),
      text(["12.345", "1", "2.5"], "double precision"),
    ],
    refused: [['"a"', "not_a_number"]],
  },
  {
    types: ["boolean"],
    values: ["true", '"false"', '"true"', '""', "null"],
    targets: [text(["true", "false", "true", "false", null], "boolean"), text(["true", "false", "true", "", null])],
    refused: [
      ["1", "not_a_boolean"],
      ['"yes"', "not_a_boolean"],
    ],
  },
  {
    types: ["date"],
    field: { format: "yyyy/MM/dd||epoch_second" },
    values: ['"2024/02/29"', "86400", '"86400"', "null"],
    targets: [
      text(["2024-02-29 00:00:00+00", "1970-01-02 00:00:00+00", "1970-01-02 00:00:00+00", null], "timestamptz"),
      text(["2024-02-29", "1970-01-02", "1970-01-02", null], "date"),
      text(["2024-02-29 00:00:00", "1970-01-02 00:00:00", "1970-01-02 00:00:00", null], "timestamp"),
    ],
    refused: [
      ['"2024-02-29"', "not_a_date"],
      ['"2023/02/29"', "not_a_date"],
    ],
  },
  {
    types: ["date_nanos"],
    values: ['"2023-01-01T00:00:00.123456789Z"', "1672531200000", '"1969-12-31T23:59:59.999999999Z"'],
    targets: [
      text(["2023-01-01 00:00:00.123457+00", "2023-01-01 00:00:00+00", "1970-01-01 00:00:00+00"], "timestamptz"),
      text(["1672531200123456789", "1672531200000000000", "-1"], "bigint"),
      text(["2023-01-01T00:00:00.123456789Z", "1672531200000", "1969-12-31T23:59:59.999999999Z"]),
    ],
    refused: [['"yesterday"', "not_a_date"]],
  },
  {
    types: ["ip"],
    values: ['"10.0.0.1"', '"2001:DB8::1"', '"::ffff:1.2.3.4"'],
    targets: [
      text(["10.0.0.1/32", "2001:db8::1/128", "::ffff:1.2.3.4/128"], "inet"),
      text(["10.0.0.1", "2001:DB8::1", "::ffff:1.2.3.4"]),
    ],
    refused: [
      ['"fe80::1%eth0"', "not_an_ip"],
      ['"10.0.0.0/8"', "not_an_ip"],
    ],
  },
  {
    types: ["integer_range"],
    values: [
      '{"gte":1,"lt":5}',
      '{"gt":1.9}',
      '{"lte":2147483647}',
      "{}",
      '{"gte":null,"lte":"7"}',
      '{"gte":1,"gt":3}',
    ],
    targets: [
      {
        type: "int4range",
        settings: { round: "round" },
        stored: ["[1,5)", "[2,)", "(,)", "(,)", "(,8)", "[4,)"],
      },
      {
        type: "jsonb",
        stored: [
          '{"lt": 5, "gte": 1}',
          '{"gt": 1.9}',
          '{"lte": 2147483647}',
          "{}",
          '{"gte": null, "lte": "7"}',
          '{"gt": 3, "gte": 1}',
        ],
      },
      { type: "integer", piece: "lower", stored: ["1", "2", null, null, null, "4"] },
      { type: "bigint", piece: "upper", stored: ["4", null, "2147483647", null, "7", null] },
      { type: "integer", piece: "gt", stored: [null, "1", null, null, null, "3"], settings: { round: "round" } },
    ],
    refused: [
      ['{"gt":1,"lt":2}', "not_a_range"],
      ['{"gte":5,"lte":1}', "not_a_range"],
      ['{"gt":2147483647}', "not_a_range"],
      ['{"from":1,"to":2}', "not_a_range"],
      ['{"gte":""}', "not_a_range"],
      ["5", "not_a_range"],
    ],
  },
  {
    types: ["long_range"],
    values: ['{"gte":9007199254740993,"lte":9223372036854775807}'],
    targets: [
      text(["[9007199254740993,)"], "int8range"),
      { type: "jsonb", stored: ['{"gte": 9007199254740993, "lte": 9223372036854775807}'] },
    ],
    refused: [['{"gte":9223372036854775808}', "out_of_range"]],
  },
  {
    types: ["float_range", "double_range"],
    values: ['{"gte":1.10,"lt":2}', '{"gt":"0.5"}', '{"gte":1,"lte":1}'],
    targets: [
      text(["[1.10,2)", "(0.5,)", "[1,1]"], "numrange"),
      { type: "jsonb", stored: ['{"lt": 2, "gte": 1.10}', '{"gt": "0.5"}', '{"gte": 1, "lte": 1}'] },
      { type: "numeric", piece: "lower", stored: ["1.10", "0.5", "1"] },
    ],
    refused: [['{"gt":1,"lt":1}', "not_a_range"]],
  },
  {
    types: ["date_range"],
    field: { format: "yyyy-MM-dd||epoch_millis" },
    values: ['{"gte":"2024-01-01","lte":"2024-01-31"}', '{"lt":86400000}'],
    targets: [
      text(['["2024-01-01 00:00:00+00","2024-01-31 00:00:00+00"]', '(,"1970-01-02 00:00:00+00")'], "tstzrange"),
      { type: "jsonb", stored: ['{"gte": "2024-01-01", "lte": "2024-01-31"}', '{"lt": 86400000}'] },
      { type: "daterange", stored: ["[2024-01-01,2024-02-01)", "(,1970-01-02)"] },
      { type: "timestamptz", piece: "upper", stored: ["2024-01-31 00:00:00+00", "1970-01-02 00:00:00+00"] },
      { type: "date", piece: "gte", stored: ["2024-01-01", null] },
    ],
    refused: [
      ['{"gt":"2024-01-01","lte":"2024-01-01"}', "not_a_range"],
      ['{"gte":"now/d"}', "not_a_date"],
    ],
  },
  {
    types: ["ip_range"],
    values: ['"10.1.0.0/8"', '"2001:db8::1/32"', '"0.0.0.0/0"'],
    targets: [
      text(["10.1.0.0/8", "2001:db8::1/32", "0.0.0.0/0"]),
      text(["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"], "cidr"),
      { type: "jsonb", stored: ['"10.1.0.0/8"', '"2001:db8::1/32"', '"0.0.0.0/0"'] },
      { type: "inet", piece: "lower", stored: ["10.0.0.0/32", "2001:db8::/128", "0.0.0.0/32"] },
      {
        type: "inet",
        piece: "upper",
        stored: ["10.255.255.255/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128", "255.255.255.255/32"],
      },
    ],
  },
  {
    types: ["ip_range"],
    values: ['{"gte":"10.0.0.0","lte":"10.0.0.255"}', '{"gt":"10.0.0.7","lt":"10.0.0.16"}'],
    targets: [
      text(["10.0.0.0/24", "10.0.0.8/29"], "cidr"),
      { type: "inet", piece: "lower", stored: ["10.0.0.0/32", "10.0.0.8/32"] },
      { type: "inet", piece: "upper", stored: ["10.0.0.255/32", "10.0.0.15/32"] },
    ],
    refused: [
      ['{"gte":"10.0.0.1","lte":"10.0.0.255"}', "not_an_ip"],
      ['{"gte":"10.0.0.5","lte":"10.0.0.1"}', "not_a_range"],
      ['"10.0.0.1"', "not_an_ip"],
      ['"::ffff:10.0.0.0/104"', "not_an_ip"],
      ['"10.0.0.0/33"', "not_an_ip"],
    ],
  },
  {
    types: ["geo_point"],
    values: [
      '{"lat":1.5,"lon":"2"}',
      '"1.5, 2"',
      "[2,1.5]",
      '"s000"',
      '"point (2 1.5)"',
      '{"type":"Point","coordinates":[2,1.5]}',
      '{"geohash":"s"}',
      "[[2,1.5]]",
      "null",
    ],
    targets: [
      text(["(2,1.5)", "(2,1.5)", "(2,1.5)", "(0,0)", "(2,1.5)", "(2,1.5)", "(0,0)", "(2,1.5)", null], "point"),
      {
        type: "jsonb",
        stored: [
          '{"lat": 1.5, "lon": "2"}',
          '"1.5, 2"',
          "[2, 1.5]",
          '"s000"',
          '"point (2 1.5)"',
          '{"type": "Point", "coordinates": [2, 1.5]}',
          '{"geohash": "s"}',
          "[[2, 1.5]]",
          null,
        ],
      },
      { type: "double precision", piece: "lat", stored: ["1.5", "1.5", "1.5", "0", "1.5", "1.5", "0", "1.5", null] },
      { type: "double precision", piece: "lon", stored: ["2", "2", "2", "0", "2", "2", "0", "2", null] },
    ],
    refused: [
      ['{"lat":91,"lon":0}', "not_a_point"],
      ['{"lat":1}', "not_a_point"],
      ['"S000"', "not_a_point"],
      ['""', "not_a_point"],
      ["[[2,1.5],[3,4]]", "is_array"],
    ],
  },
  {
    types: ["geo_shape", "shape", "point"],
    values: ['{"type":"polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}', '"POLYGON ((0 0, 1 0, 1 1, 0 0))"'],
    targets: [
      {
        type: "jsonb",
        stored: [
          '{"type": "polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}',
          '"POLYGON ((0 0, 1 0, 1 1, 0 0))"',
        ],
      },
      {
        type: "text",
        settings: { array: "json" },
        stored: ['{"type":"polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}', "POLYGON ((0 0, 1 0, 1 1, 0 0))"],
      },
    ],
  },
  {
    types: ["object", "passthrough"],
    values: ['{"a":1.10}', "[]"],
    targets: [
      { type: "jsonb", stored: ['{"a": 1.10}', "[]"] },
      { type: "text", settings: { array: "json" }, stored: ['{"a":1.10}', "[]"] },
    ],
    refused: [['{"a":"\\u0000"}', "nul"]],
  },
  {
    types: ["nested"],
    values: ['[{"a":1},{"a":2}]', '{"a":1}'],
    targets: [{ type: "jsonb", stored: ['[{"a": 1}, {"a": 2}]', '{"a": 1}'] }],
  },
  {
    types: ["flattened"],
    values: ['{"a":{"b":"x\\"y"},"c":1,"d":null}'],
    targets: [
      { type: "jsonb", stored: ['{"a": {"b": "x\\"y"}, "c": 1, "d": null}'] },
      { type: "hstore", stored: ['"c"=>"1", "d"=>NULL, "a.b"=>"x\\"y"'] },
    ],
  },
  {
    types: ["dense_vector"],
    field: { parameters: { dims: 3 } },
    values: ["[0.123456789012,-2,1e-3]"],
    targets: [text(["{0.12345679,-2,0.001}"], "real[]"), { type: "jsonb", stored: ["[0.123456789012, -2, 0.001]"] }],
    refused: [['["a"]', "not_a_number"]],
  },
  {
    types: ["dense_vector"],
    field: { parameters: { dims: 3, element_type: "byte" } },
    values: ["[1,-2,3]", '"01fe03"'],
    targets: [text(["{1,-2,3}", "{1,-2,3}"], "smallint[]")],
    refused: [["[1.5]", "fraction"]],
  },
  {
    types: ["sparse_vector", "rank_features"],
    values: ['{"token":0.5,"other":2}'],
    targets: [{ type: "jsonb", stored: ['{"other": 2, "token": 0.5}'] }],
  },
  {
    types: ["binary"],
    values: ['"3q2+\\r\\n7w=="', '""', "null"],
    targets: [text(["\\xdeadbeef", "\\x", null], "bytea"), text(["3q2+\r\n7w==", "", null])],
    refused: [
      ['"3q2-7w=="', "not_base64"],
      ['"3q2+7w"', "not_base64"],
    ],
  },
  {
    types: ["version"],
    values: ['"1.10.0-rc.1"'],
    targets: [text(["1.10.0-rc.1"])],
  },
  {
    types: ["histogram", "aggregate_metric_double", "tdigest", "exponential_histogram"],
    values: ['{"values":[0.1,2],"counts":[3,7]}'],
    targets: [
      { type: "jsonb", stored: ['{"counts": [3, 7], "values": [0.1, 2]}'] },
      { type: "double precision[]", piece: "values", stored: ["{0.1,2}"] },
      { type: "bigint[]", piece: "counts", stored: ["{3,7}"] },
    ],
  },
  {
    types: ["join"],
    field: { parameters: { relations: { question: "answer" } } },
    values: ['"question"', '{"name":"question"}', '{"name":"answer","parent":"1"}'],
    targets: [
      text(["question", "question", "answer"]),
      {
        type: "jsonb",
        stored: ['"question"', '{"name": "question"}', '{"name": "answer", "parent": "1"}'],
      },
      { type: "text", piece: "name", stored: ["question", "question", "answer"] },
      { type: "bigint", piece: "parent", stored: [null, null, "1"] },
    ],
    refused: [['{"parent":"1"}', "is_object"]],
  },
  {
    types: ["rank_feature"],
    values: ["8.123456789", '"2.5"'],
    targets: [text(["8.123457", "2.5"], "real"), text(["8.123456789", "2.5"], "numeric")],
    refused: [['"x"', "not_a_number"]],
  },
  {
    types: ["completion", "percolator", "semantic_text"],
    values: ['"Nevermind"', '["Nirvana","Nevermind"]', '{"input":["a"],"weight":3}'],
    targets: [{ type: "jsonb", stored: ['"Nevermind"', '["Nirvana", "Nevermind"]', '{"input": ["a"], "weight": 3}'] }],
  },
];

/** Types of extensions that the test's server lacks; the encoder's own test has what is written for them. */
const extensions = /^(?:geography|geometry|vector)\b/;

/** Types that `_source` does not hold: there is nothing to store. */
const withoutValues = ["alias", "token_count", "murmur3", "runtime"];

interface Column {
  name: string;
  row: Row;
  target: Target;
  field: MappingField;
}

const columns: Column[] = rows.flatMap((row, number) =>
  row.types.flatMap((type) =>
    row.targets.map((target, index) => ({
      name: `${type}_${number}_${index}`,
      row,
      target,
      field: { path: `${type}_${number}`, type, ...row.field },
    })),
  ),
);
const fields: MappingField[] = [...new Map(columns.map(({ field }) => [field.path, field])).values()];

let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
  // Two files that create it at once meet a unique violation in the one that comes second.
  await harness.sql("CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public").catch(() => {});
  await harness.sql(`CREATE TYPE ${harness.schema}.mood AS ENUM ('happy', 'so so', 'sad')`);
});

afterAll(() => harness.close());

function typeName(type: string): string {
  return type === "mood" ? `${harness.schema}.mood` : type === "hstore" ? "public.hstore" : type;
}

function mappingOf(chosen: readonly Column[]) {
  return {
    columns: [
      { column: "id", from: "_id" },
      ...chosen.map(({ name, field, target }) => ({
        column: name,
        from: target.piece === undefined ? field.path : `${field.path}.${target.piece}`,
        ...target.settings,
        ...(target.settings?.expression === undefined
          ? {}
          : { expression: target.settings.expression.replace("%", name), staged_as: "text" }),
      })),
    ],
    key: ["id"],
  };
}

async function createTable(table: string, chosen: readonly Column[]): Promise<void> {
  const lines = chosen.map(({ name, target }) => `"${name}" ${typeName(target.type)}`);
  await harness.sql(`CREATE TABLE ${harness.schema}.${table} (id text PRIMARY KEY, ${lines.join(", ")})`);
}

describe("the type table", () => {
  it("is covered: every type, its default and each alternative", () => {
    const tested = new Map<string, Set<string>>();
    for (const { field, target } of columns) {
      if (target.piece !== undefined) continue;
      tested.set(field.type, (tested.get(field.type) ?? new Set()).add(target.type));
    }
    const missing = TYPE_ROWS.flatMap(({ types }) => types)
      .filter((type) => !withoutValues.includes(type))
      .flatMap((type) => {
        const recorded = fields.find((field) => field.type === type);
        const { type: proposed, alternatives } = proposeType(recorded ?? { path: type, type });
        return [proposed, ...alternatives]
          .filter((wanted) => !extensions.test(wanted) && tested.get(type)?.has(wanted) !== true)
          .map((wanted) => `${type} as ${wanted}`);
      });
    expect(missing).toEqual([]);
    expect(withoutValues.map((type) => proposeType({ path: "f", type }).type)).toEqual(withoutValues.map(() => "none"));
  });

  describe("stores what the documents hold", () => {
    const count = Math.max(...rows.map(({ values }) => values.length));
    let stored: Map<string, (string | null)[]>;
    let figures: Record<string, unknown>;

    beforeAll(async () => {
      // Packages of PostgreSQL without its contributed modules lack hstore.
      const [[hasHstore] = []] = await harness.sql("SELECT to_regtype('public.hstore') IS NOT NULL");
      const present = columns.filter(({ target }) => hasHstore === true || target.type !== "hstore");
      await createTable("good", present);
      const documents = Array.from({ length: count }, (_, index) => {
        const members = fields.flatMap(({ path }) => {
          const value = columns.find(({ field }) => field.path === path)?.row.values[index];
          return value === undefined || value === "" ? [] : [`${JSON.stringify(path)}:${value}`];
        });
        return { id: String(index), source: `{${members.join(",")}}` };
      });
      const exportId = await harness.stage([documents], fields);
      const answer = await harness.load({ table: "good", exportId, mapping: mappingOf(present) });
      figures = { ...told(answer), rejects: answer.rejects ?? [] };
      const texts = present.map(({ name }) => `"${name}"::text`);
      const found = await harness.sql(`SELECT ${texts.join(", ")} FROM ${harness.schema}.good ORDER BY id::int`);
      stored = new Map(
        present.map(({ name, row }, index) => [
          name,
          found.slice(0, row.values.length).map((cells) => {
            const cell = cells[index];
            return typeof cell === "string" ? cell : null;
          }),
        ]),
      );
    });

    it("and rejects none of them", () => {
      expect(figures).toEqual({ expected: count, staged: count, inserted: count, rejects: [] });
    });

    it.each(
      columns.map((column) => [column.field.type, column.target.piece ?? "value", column.target.type, column] as const),
    )("%s: its %s as %s", (_type, _piece, _target, column) => {
      if (column.target.type === "hstore" && !stored.has(column.name)) return;
      expect(stored.get(column.name)).toEqual(column.target.stored);
    });
  });

  it("refuses what is no value of the type, each with its reason", async () => {
    const first = columns.filter(({ name }) => name.endsWith("_0"));
    await createTable("bad", first);
    const bad = first.flatMap(({ field, row }) =>
      (row.refused ?? []).map(([value, reason]) => ({ field, value, reason })),
    );
    const exportId = await harness.stage(
      [
        bad.map(({ field, value }, index) => ({
          id: `${index} ${field.type} ${value}`,
          source: `{"${field.path}":${value}}`,
        })),
      ],
      fields,
    );
    const answer = await harness.load({ table: "bad", exportId, mapping: mappingOf(first) });
    const rejects = await harness.sql(
      `SELECT document_id, column_name, reason FROM ${harness.schema}_state.rejects WHERE load_id = $1 ORDER BY line`,
      [answer.load_id],
    );
    expect(rejects).toEqual(
      bad.map(({ field, value, reason }, index) => [`${index} ${field.type} ${value}`, `${field.path}_0`, reason]),
    );
    expect(answer.figures.rejected).toBe(bad.length);
  });
});
