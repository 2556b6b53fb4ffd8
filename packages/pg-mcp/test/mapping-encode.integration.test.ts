import { once } from "node:events";
import { finished } from "node:stream/promises";
import type { MappingField } from "@es-to-pg/staging";
import { array, constantFrom, integer, oneof, sample, string, stringMatching, tuple } from "fast-check";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { createEncoder } from "../src/mapping/encode.ts";
import type { Mapping } from "../src/mapping/mapping.ts";
import { type LoadPlan, stageColumns } from "../src/mapping/plan.ts";
import { resolveMapping } from "../src/mapping/resolve.ts";
import { quoteIdentifier, requireTable, type Transaction } from "../src/postgres/index.ts";
import { stagedLine } from "./staged.ts";
import { createDatabase, type TestDatabase } from "./support.ts";

const signal = new AbortController().signal;
let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase(
    inject("databaseUrl"),
    `CREATE TYPE mood AS ENUM ('happy', 'so so', 'sad');
     CREATE DOMAIN short_code AS varchar(4) CHECK (VALUE ~ '^[a-z]+$');
     CREATE DOMAIN shorter_code AS short_code;`,
  );
});

afterAll(() => database.drop());

/** Creates a table of one column `x`, plans it, copies the values into a stage and reads them back through the cast. */
async function store(
  tx: Transaction,
  options: {
    type: string;
    field: MappingField;
    values: readonly string[];
    mapping?: Partial<Mapping["columns"][number]>;
    exact?: boolean;
  },
): Promise<(string | null)[]> {
  const { type, field, values, mapping, exact = false } = options;
  const name = `t_${Math.random().toString(36).slice(2)}`;
  await tx.query(`CREATE TABLE public.${name} (n integer, x ${type})`);
  const table = await requireTable(tx, { table: name });
  const plan = await resolveMapping({
    tx,
    table,
    fields: [field],
    mapping: {
      columns: [
        { column: "n", from: "_seq_no" },
        { column: "x", from: field.path, ...mapping },
      ],
    },
  });
  const stage = `s_${name}`;
  const texts = await copy(tx, plan, stage, values, exact);
  const { rows } = await tx.query(`SELECT n, (x::${type})::text FROM pg_temp.${stage} ORDER BY n`);
  await tx.query(`DROP TABLE public.${name}`);
  for (const row of rows) texts[Number(row[0])] = typeof row[1] === "string" ? row[1] : null;
  return texts;
}

/** Copies the values that the encoder takes, and answers `!reason` at the places of those it refuses. */
async function copy(
  tx: Transaction,
  plan: LoadPlan,
  stage: string,
  values: readonly string[],
  exact: boolean,
): Promise<(string | null)[]> {
  const columns = stageColumns(plan);
  await tx.query(
    `CREATE TEMPORARY TABLE ${stage} (${columns.map(({ name, type }) => `${quoteIdentifier(name)} ${type}`).join(", ")}) ON COMMIT DROP`,
  );
  // The fast path is that of documents which are like the first of their part.
  const encoder = createEncoder(plan, { exact, like: stagedLine('{"x":1}', { id: "like" }) });
  const stream = tx.copyIn(`COPY pg_temp.${stage} (${encoder.columns.map(quoteIdentifier).join(", ")}) FROM STDIN`);
  const answers: (string | null)[] = [];
  for (const [index, value] of values.entries()) {
    const encoded = encoder.encode(stagedLine(`{"x":${value}}`, { id: String(index), seqNo: index }), {
      part: 0,
      line: index,
    });
    answers.push(encoded.reject === undefined ? null : `!${encoded.reject.reason}`);
    if (encoded.reject === undefined && !stream.write(encoded.copy)) await once(stream, "drain");
  }
  stream.end();
  await finished(stream);
  return answers;
}

function fieldOf(type: string, more: Partial<MappingField> = {}): MappingField {
  return { path: "x", type, ...more };
}

describe("what the encoder writes is what PostgreSQL stores", () => {
  const cases: [type: string, field: MappingField, values: [json: string, stored: string | null][]][] = [
    [
      "text",
      fieldOf("keyword"),
      [
        ['"a\\tb\\n\\\\ \\u00e9 \\ud83d\\ude00 \\/ \\b\\f"', "a\tb\n\\ é 😀 / \b\f"],
        ['"\\\\N"', "\\N"],
        ['"\\\\."', "\\."],
        ["1.10", "1.10"],
        ["null", null],
        ['"\\u0000"', "!nul"],
      ],
    ],
    [
      "varchar(3)",
      fieldOf("text"),
      [
        ['"äöü"', "äöü"],
        ['"abcd"', "!too_long"],
        ['"a  "', "a  "],
      ],
    ],
    [
      "char(3)",
      fieldOf("keyword"),
      [
        ['"a"', "a"],
        ['"abcd"', "!too_long"],
      ],
    ],
    [
      "smallint",
      fieldOf("short"),
      [
        ["-32768", "-32768"],
        ["32768", "!out_of_range"],
      ],
    ],
    [
      "integer",
      fieldOf("integer"),
      [
        ['"12"', "12"],
        ["12.7", "!fraction"],
        ["1.0", "1"],
        ['""', null],
      ],
    ],
    [
      "bigint",
      fieldOf("long"),
      [
        ["9007199254740993", "9007199254740993"],
        ["-9223372036854775808", "-9223372036854775808"],
        ["9223372036854775808", "!out_of_range"],
      ],
    ],
    ["numeric(20,0)", fieldOf("unsigned_long"), [["18446744073709551615", "18446744073709551615"]]],
    [
      "numeric(10,2)",
      fieldOf("scaled_float", { scaling_factor: 100 }),
      [
        ["12.345", "12.35"],
        ["1.10", "1.10"],
        ["5", "5.00"],
      ],
    ],
    [
      "numeric(10,2)",
      fieldOf("float"),
      [
        ["1.005", "!too_precise"],
        ["99999999.99", "99999999.99"],
        ["100000000", "!out_of_range"],
      ],
    ],
    [
      "numeric",
      fieldOf("double"),
      [
        ["123456789012345678901234567890.12345", "123456789012345678901234567890.12345"],
        ["-0", "0"],
        ["1e3", "1000"],
        ["1.10", "1.10"],
      ],
    ],
    [
      "double precision",
      fieldOf("double"),
      [
        ["0.1", "0.1"],
        ["1e300", "1e+300"],
        ["5e-324", "5e-324"],
        ["1e-400", "!out_of_range"],
      ],
    ],
    [
      "real",
      fieldOf("half_float"),
      [
        ["0.1", "0.1"],
        ["1.23456789", "1.2345679"],
      ],
    ],
    [
      "boolean",
      fieldOf("boolean"),
      [
        ["true", "true"],
        ['"false"', "false"],
        ['""', "false"],
        ['"on"', "!not_a_boolean"],
      ],
    ],
    [
      "timestamptz",
      fieldOf("date"),
      [
        ['"2024-02-29T10:00:00.123+02:00"', "2024-02-29 08:00:00.123+00"],
        ["20240101", "1970-01-01 05:37:20.101+00"],
        ['"2023-02-29"', "!not_a_date"],
        ['"infinity"', "!not_a_date"],
        ['"-0044-03-15"', "0045-03-15 00:00:00+00 BC"],
        ["327403382400000", "12345-01-01 00:00:00+00"],
      ],
    ],
    [
      "timestamptz",
      fieldOf("date", { format: "yyyy/MM/dd HH:mm:ss||epoch_second" }),
      [
        ['"2024/01/02 03:04:05"', "2024-01-02 03:04:05+00"],
        ["1.5", "1970-01-01 00:00:01.5+00"],
      ],
    ],
    ["timestamptz", fieldOf("date_nanos"), [['"2023-01-01T00:00:00.999999999Z"', "2023-01-01 00:00:01+00"]]],
    [
      "timestamp",
      fieldOf("date"),
      [
        ['"2024-01-01T10:00:00+02:00"', "2024-01-01 08:00:00"],
        ['"2024-01-01"', "2024-01-01 00:00:00"],
      ],
    ],
    ["timestamp(3)", fieldOf("date"), [['"2024-01-01T10:00:00.123Z"', "2024-01-01 10:00:00.123"]]],
    [
      "date",
      fieldOf("date"),
      [
        ['"2024-01-01"', "2024-01-01"],
        ['"2024-01-01T10:00:00Z"', "!time_of_day"],
      ],
    ],
    [
      "time",
      fieldOf("keyword"),
      [
        ['"10:11:12.5"', "10:11:12.5"],
        ['"now"', "!not_a_time"],
      ],
    ],
    [
      "interval",
      fieldOf("keyword"),
      [
        ['"P1Y2M3DT4H5M6.5S"', "P1Y2M3DT4H5M6.5S"],
        ['"1 day"', "!not_an_interval"],
      ],
    ],
    ["uuid", fieldOf("keyword"), [['"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]]],
    [
      "inet",
      fieldOf("ip"),
      [
        ['"10.0.0.1"', "10.0.0.1/32"],
        ['"2001:DB8::1"', "2001:db8::1/128"],
        ['"fe80::1%eth0"', "!not_an_ip"],
        ['"::ffff:1.2.3.4"', "::ffff:1.2.3.4/128"],
      ],
    ],
    [
      "cidr",
      fieldOf("ip_range"),
      [
        ['"10.0.0.0/8"', "10.0.0.0/8"],
        ['"2001:db8::/32"', "2001:db8::/32"],
        ['"10.1.0.0/8"', "10.0.0.0/8"],
      ],
    ],
    ["macaddr", fieldOf("keyword"), [['"08:00:2B:01:02:03"', "08:00:2b:01:02:03"]]],
    [
      "bytea",
      fieldOf("binary"),
      [
        ['"3q2+7w=="', "\\xdeadbeef"],
        ['""', "\\x"],
      ],
    ],
    [
      "jsonb",
      fieldOf("object"),
      [
        ['{"b":1.10,"a":["\\n\\"\\\\\\u00e9",null]}', '{"a": ["\\n\\"\\\\é", null], "b": 1.10}'],
        ['"text"', '"text"'],
        ["[]", "[]"],
        [`${"[".repeat(900)}1${"]".repeat(900)}`, `${"[".repeat(900)}1${"]".repeat(900)}`],
        ['{"a":"\\ud800"}', "!lone_surrogate"],
      ],
    ],
    ["json", fieldOf("flattened"), [['{"b": 1,  "a":"\\\\"}', '{"b": 1,  "a":"\\\\"}']]],
    [
      "point",
      fieldOf("geo_point"),
      [
        ['{"lat":1.5,"lon":2}', "(2,1.5)"],
        ['"1.5,2"', "(2,1.5)"],
        ["[2,1.5]", "(2,1.5)"],
        ['"POINT(2 1.5)"', "(2,1.5)"],
        ['{"type":"Point","coordinates":[2,1.5]}', "(2,1.5)"],
        ['"s000"', "(0,0)"],
      ],
    ],
    [
      "int4range",
      fieldOf("integer_range"),
      [
        ['{"gte":1,"lte":5}', "[1,6)"],
        ['{"gt":1}', "[2,)"],
      ],
    ],
    ["int8range", fieldOf("long_range"), [['{"lt":9007199254740993}', "(,9007199254740993)"]]],
    ["numrange", fieldOf("double_range"), [['{"gte":1.10,"lt":2}', "[1.10,2)"]]],
    [
      "tstzrange",
      fieldOf("date_range"),
      [['{"gte":"2024-01-01","lt":"2024-02-01"}', '["2024-01-01 00:00:00+00","2024-02-01 00:00:00+00")']],
    ],
    ["tsrange", fieldOf("date_range"), [['{"gte":"2024-01-01"}', '["2024-01-01 00:00:00",)']]],
    ["daterange", fieldOf("date_range"), [['{"gte":"2024-01-01","lte":"2024-01-31"}', "[2024-01-01,2024-02-01)"]]],
    [
      "text[]",
      fieldOf("keyword"),
      [
        ['["a\\"b","c\\\\d","e,f","{}",null,"NULL","","\\n"]', '{"a\\"b","c\\\\d","e,f","{}",NULL,"NULL","","\n"}'],
        ['"one"', "{one}"],
        ["[]", "{}"],
        ['[["a"],"b"]', "{a,b}"],
      ],
    ],
    [
      "varchar(2)[]",
      fieldOf("keyword"),
      [
        ['["ab"]', "{ab}"],
        ['["abc"]', "!too_long"],
      ],
    ],
    [
      "integer[]",
      fieldOf("integer"),
      [
        ["[1,2]", "{1,2}"],
        ['["1",2.0]', "{1,2}"],
      ],
    ],
    ["numeric(5,2)[]", fieldOf("float"), [["[1.10,2]", "{1.10,2.00}"]]],
    ["real[]", fieldOf("dense_vector", { parameters: { dims: 3 } }), [["[0.1,-2,3]", "{0.1,-2,3}"]]],
    ["timestamptz[]", fieldOf("date"), [['["2024-01-01",0]', '{"2024-01-01 00:00:00+00","1970-01-01 00:00:00+00"}']]],
    ["jsonb[]", fieldOf("nested"), [['[{"a":"\\"\\\\"},1]', '{"{\\"a\\": \\"\\\\\\"\\\\\\\\\\"}",1}']]],
    [
      "public.mood",
      fieldOf("keyword"),
      [
        ['"so so"', "so so"],
        ['"glad"', "!unknown_label"],
      ],
    ],
    [
      "public.mood[]",
      fieldOf("keyword"),
      [
        ['["sad","so so"]', '{sad,"so so"}'],
        ['["glad"]', "!unknown_label"],
      ],
    ],
    [
      "public.short_code",
      fieldOf("keyword"),
      [
        ['"abcd"', "abcd"],
        ['"abcde"', "!too_long"],
      ],
    ],
    ["public.shorter_code", fieldOf("keyword"), [['"abcde"', "!too_long"]]],
    ["xml", fieldOf("keyword"), [['"<a/>"', "<a/>"]]],
  ];
  it.each(cases)("%s from %o", async (type, source, values) => {
    const stored = await database.postgres.write(
      (tx) => store(tx, { type, field: source, values: values.map(([json]) => json) }),
      { signal },
    );
    expect(
      stored.map((text) => text?.replace(/ +$/, (blanks) => (type.startsWith("char") ? "" : blanks)) ?? null),
    ).toEqual(values.map(([, expected]) => expected));
  });
});

describe("the fast path", () => {
  const digits = stringMatching(/^-?(0|[1-9]\d{0,20})(\.\d{1,12})?([eE][+-]?\d{1,2})?$/);
  const text = oneof(
    string({ unit: "grapheme", maxLength: 12 }),
    string({
      unit: constantFrom("\\", '"', "\n", "\t", "\r", "N", "{", "}", ",", "'", "é", "😀", "\b", "/"),
      maxLength: 8,
    }),
  );
  const quoted = text.map((value) => JSON.stringify(value));
  const day = tuple(integer({ min: 0, max: 9999 }), integer({ min: 0, max: 13 }), integer({ min: 0, max: 32 })).map(
    (parts) => parts.map((part, index) => String(part).padStart(index === 0 ? 4 : 2, "0")).join("-"),
  );
  const date = tuple(
    day,
    constantFrom("", "T10", "T23:59", "T24:00", "T10:11:12", "T10:11:60", "T10:11:12.1234567", "T10:11:12.5"),
    constantFrom("", "Z", "+02:00", "-0130", "+19:00"),
  ).map(([at, time, zone]) => JSON.stringify(`${at}${time}${zone}`));
  const scalar = oneof(
    digits,
    digits.map((value) => `"${value}"`),
    quoted,
    constantFrom("true", "false", "null", '"true"', '""', "{}", "[]"),
    date,
  );
  const value = oneof(
    { weight: 3, arbitrary: scalar },
    array(scalar, { maxLength: 4 }).map((items) => `[${items.join(", ")}]`),
  );

  it.each([
    ["text", "keyword"],
    ["varchar(4)", "keyword"],
    ["smallint", "integer"],
    ["bigint", "long"],
    ["bigint", "keyword"],
    ["numeric(10,2)", "float"],
    ["numeric(4,4)", "keyword"],
    ["numeric", "double"],
    ["double precision", "double"],
    ["real", "float"],
    ["boolean", "boolean"],
    ["timestamptz", "date"],
    ["timestamp", "keyword"],
    ["date", "date"],
    ["text[]", "keyword"],
    ["varchar(3)[]", "keyword"],
    ["integer[]", "integer"],
    ["numeric(6,2)[]", "double"],
    ["jsonb", "object"],
    ["json", "flattened"],
  ])("gives what the exact path gives and PostgreSQL takes, as %s from %s", async (type, fieldType) => {
    const values = sample(value, { numRuns: 600, seed: 42 });
    const options = { type, field: fieldOf(fieldType), values };
    await database.postgres.write(
      async (tx) => {
        expect(await store(tx, options)).toEqual(await store(tx, { ...options, exact: true }));
      },
      { signal },
    );
  });
});
