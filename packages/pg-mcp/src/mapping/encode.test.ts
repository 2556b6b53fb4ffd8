import type { MappingField } from "@es-to-pg/staging";
import { array, assert, boolean, constantFrom, jsonValue, nat, oneof, property, tuple } from "fast-check";
import { describe, expect, it } from "vitest";
import type { Table } from "../postgres/index.ts";
import { createEncoder, type Encoded } from "./encode.ts";
import type { MappingColumn } from "./mapping.ts";
import type { LoadPlan } from "./plan.ts";
import { planColumn } from "./plan-column.ts";
import { parseValueType } from "./value-type.ts";

interface ColumnOptions extends Partial<MappingColumn> {
  /** Type of the column as `format_type` spells it. */
  type: string;
  field?: Partial<MappingField> & { type: string };
  notNull?: boolean;
}

const table: Table = {
  oid: "1",
  schema: "public",
  table: "t",
  kind: "table",
  persistence: "permanent",
  rowSecurity: false,
  rowsEstimate: null,
  comment: null,
  partitionOf: null,
  partitionKey: null,
  partitions: 0,
  columns: [],
  primaryKey: null,
  uniques: [],
  checks: [],
  foreignKeys: [],
  indexes: [],
  triggers: [],
  rules: [],
};

function planOf(columns: Record<string, ColumnOptions>, key: string[] = []): LoadPlan {
  return {
    table,
    columns: Object.entries(columns).map(([name, { type, field, notNull = false, ...column }]) =>
      planColumn({
        column: { column: name, ...column },
        targetType: type,
        valueType: parseValueType(type),
        from: column.constant === undefined ? (column.from ?? name) : null,
        field: field === undefined ? null : { path: column.from ?? name, ...field },
        notNull: notNull || key.includes(name),
      }),
    ),
    key,
    versionFrom: null,
    mapping: { columns: [] },
    unmapped: [],
    children: [],
  };
}

function line(source: string, head = '"_index":"products","_id":"1","_seq_no":7,"_primary_term":1'): Buffer {
  return Buffer.from(`{${head},"_source":${source}}`);
}

function encode(columns: Record<string, ColumnOptions>, source: string | Buffer): Encoded {
  const bytes = typeof source === "string" ? line(source) : source;
  return createEncoder(planOf(columns)).encode(bytes, { part: 3, line: 14 });
}

/** The cells of the plan's own columns as COPY text, or the reason of the reject. */
function cells(columns: Record<string, ColumnOptions>, source: string | Buffer): string[] | string {
  const encoded = encode(columns, source);
  if (encoded.reject !== undefined) return encoded.reject.reason;
  return encoded.copy.toString().split("\t").slice(0, Object.keys(columns).length);
}

function cell(options: ColumnOptions, value: string): string {
  const result = cells({ x: options }, `{"x":${value}}`);
  return typeof result === "string" ? `!${result}` : (result[0] ?? "");
}

const int = { field: { type: "integer" } };
const long = { field: { type: "long" } };
const keyword = { field: { type: "keyword" } };
const date = { field: { type: "date" } };

describe("one value per type: what is encoded, or !reason", () => {
  const values: [options: ColumnOptions, value: string, expected: string][] = [
    [{ type: "integer", ...int }, "12", "12"],
    [{ type: "integer", ...int }, '"12"', "12"],
    [{ type: "integer", ...int }, '"+012"', "12"],
    [{ type: "integer", ...int }, '""', "\\N"],
    [{ type: "integer", ...int }, "12.0", "12"],
    [{ type: "integer", ...int }, "1e3", "1000"],
    [{ type: "integer", ...int }, "12.7", "!fraction"],
    [{ type: "integer", round: "round", ...int }, "12.7", "12"],
    [{ type: "integer", round: "round", ...int }, "-12.7", "-12"],
    [{ type: "integer", round: "round", field: { type: "double" } }, "12.5", "13"],
    [{ type: "integer", ...int }, "2147483647", "2147483647"],
    [{ type: "integer", ...int }, "2147483648", "!out_of_range"],
    [{ type: "integer", ...int }, "-2147483648", "-2147483648"],
    [{ type: "smallint", ...int }, "32768", "!out_of_range"],
    [{ type: "integer", ...int }, "true", "!wrong_kind"],
    [{ type: "integer", ...int }, "-0", "0"],
    [{ type: "integer", ...int }, "{}", "!is_object"],
    [{ type: "integer", ...int }, "[7]", "7"],
    [{ type: "integer", ...int }, "[null,[7]]", "7"],
    [{ type: "integer", ...int }, "[]", "\\N"],
    [{ type: "integer", ...int }, "[7,8]", "!is_array"],
    [{ type: "integer", array: "first", ...int }, "[null,7,8]", "7"],
    [{ type: "integer", ...keyword }, '"007"', "!not_an_integer"],
    [{ type: "integer", ...keyword }, '"0x10"', "!not_an_integer"],
    [{ type: "integer", ...keyword }, '"1_000"', "!not_an_integer"],
    [{ type: "integer", ...keyword }, '""', "!not_an_integer"],
    [{ type: "bigint", ...long }, "9007199254740993", "9007199254740993"],
    [{ type: "bigint", ...long }, "9223372036854775808", "!out_of_range"],
    [{ type: "numeric(10,2)", field: { type: "float" } }, "1.10", "1.10"],
    [{ type: "numeric(10,2)", field: { type: "float" } }, "1.005", "!too_precise"],
    [{ type: "numeric(10,2)", round: "round", field: { type: "float" } }, "1.005", "1.01"],
    [{ type: "numeric(10,2)", field: { type: "scaled_float" } }, "-1.005", "-1.01"],
    [{ type: "numeric(10,2)", field: { type: "float" } }, "1.1000", "1.10"],
    [{ type: "numeric(3,2)", field: { type: "float" } }, "10", "!out_of_range"],
    [{ type: "numeric(3,2)", round: "round", field: { type: "float" } }, "9.999", "!out_of_range"],
    [{ type: "numeric(2,4)", field: { type: "float" } }, "0.0012", "0.0012"],
    [{ type: "numeric(2,4)", field: { type: "float" } }, "0.0123", "!out_of_range"],
    [
      { type: "numeric", field: { type: "double" } },
      "123456789012345678901234567890.12345",
      "123456789012345678901234567890.12345",
    ],
    [{ type: "numeric", field: { type: "double" } }, "1.5e-3", "0.0015"],
    [{ type: "numeric", field: { type: "double" } }, "1e999999999", "!out_of_range"],
    [{ type: "numeric", ...keyword }, '"NaN"', "!not_a_number"],
    [{ type: "numeric", ...keyword }, '"Infinity"', "!not_a_number"],
    [{ type: "double precision", field: { type: "double" } }, "1.10", "1.10"],
    [{ type: "double precision", field: { type: "double" } }, "0.1234567890123456789", "0.12345678901234568"],
    [{ type: "double precision", field: { type: "double" } }, "9223372036854775809", "!too_precise"],
    [{ type: "double precision", field: { type: "double" } }, "1e400", "!out_of_range"],
    [{ type: "real", field: { type: "float" } }, "1.23456789", "1.2345679"],
    [{ type: "real", field: { type: "double" } }, "1.23456789", "!too_precise"],
    [{ type: "boolean", field: { type: "boolean" } }, "true", "true"],
    [{ type: "boolean", field: { type: "boolean" } }, '"false"', "false"],
    [{ type: "boolean", field: { type: "boolean" } }, '""', "false"],
    [{ type: "boolean", ...keyword }, '""', "!not_a_boolean"],
    [{ type: "boolean", ...keyword }, '"tru"', "!not_a_boolean"],
    [{ type: "boolean", ...keyword }, "1", "!not_a_boolean"],
    [{ type: "text", ...keyword }, '"a\\tb\\\\c\\nd"', "a\\tb\\\\c\\nd"],
    [{ type: "text", ...keyword }, '"\\u0041\\u00e9\\ud83d\\ude00"', "Aé😀"],
    [{ type: "text", ...keyword }, '"\\u005cN"', "\\\\N"],
    [{ type: "text", ...keyword }, "1.10", "1.10"],
    [{ type: "text", ...keyword }, "true", "true"],
    [{ type: "text", ...keyword }, "{}", "!is_object"],
    [{ type: "text", array: "json", ...keyword }, '{"a": 1}', '{"a": 1}'],
    [{ type: "text", array: "join", ...keyword }, '["a","b",1]', "a,b,1"],
    [{ type: "text", ...keyword }, '"a\\u0000b"', "!nul"],
    [{ type: "text", nul: "strip", ...keyword }, '"a\\u0000b"', "ab"],
    [{ type: "text", nul: "replace", ...keyword }, '"a\\u0000b"', "a\uFFFDb"],
    [{ type: "text", ...keyword }, '"\\ud800"', "!lone_surrogate"],
    [{ type: "text", encoding: "replace", ...keyword }, '"\\ud800"', "\uFFFD"],
    [{ type: "character varying(3)", ...keyword }, '"äöü"', "äöü"],
    [{ type: "character varying(3)", ...keyword }, '"😀😀😀"', "😀😀😀"],
    [{ type: "character varying(3)", ...keyword }, '"abcd"', "!too_long"],
    [{ type: "character varying(3)", ...keyword }, '"abc "', "!too_long"],
    [{ type: "timestamp with time zone", ...date }, '"2023-01-15T10:00:00.123Z"', "2023-01-15T10:00:00.123Z"],
    [{ type: "timestamp with time zone", ...date }, '"2023-01-15"', "2023-01-15 00:00:00Z"],
    [{ type: "timestamp with time zone", ...date }, '"2023-01-15T10:00"', "2023-01-15T10:00Z"],
    [{ type: "timestamp with time zone", ...date }, '"2023-01-15T10"', "2023-01-15 10:00:00+00"],
    [{ type: "timestamp with time zone", ...date }, '"2023-02-29"', "!not_a_date"],
    [{ type: "timestamp with time zone", ...date }, '"2023-01-15T24:00:00Z"', "!not_a_date"],
    [{ type: "timestamp with time zone", ...date }, '"now"', "!not_a_date"],
    [{ type: "timestamp with time zone", ...date }, '"2024-001"', "!not_a_date"],
    [{ type: "timestamp with time zone", ...date }, "20240101", "1970-01-01 05:37:20.101+00"],
    [{ type: "timestamp with time zone", ...date }, '"20240101"', "1970-01-01 05:37:20.101+00"],
    [{ type: "timestamp with time zone", ...date }, "-1", "1969-12-31 23:59:59.999+00"],
    [{ type: "timestamp with time zone", ...date }, "99999999999999999", "!out_of_range"],
    [{ type: "timestamp with time zone", ...date }, '"-0044-03-15"', "0045-03-15 00:00:00+00 BC"],
    [
      { type: "timestamp with time zone", field: { type: "date", format: "epoch_second" } },
      "1",
      "1970-01-01 00:00:01+00",
    ],
    [
      { type: "timestamp with time zone", field: { type: "date", format: "yyyy/MM/dd||epoch_millis" } },
      '"2023/01/15"',
      "2023-01-15 00:00:00+00",
    ],
    [
      { type: "timestamp with time zone", field: { type: "date", format: "dd.MM.yyyy HH:mm:ss" } },
      '"15.01.2023 10:11:12"',
      "2023-01-15 10:11:12+00",
    ],
    [
      { type: "timestamp with time zone", field: { type: "date", format: "yyyyMMdd" } },
      "20240101",
      "2024-01-01 00:00:00+00",
    ],
    [{ type: "timestamp with time zone", field: { type: "date", format: "QQ" } }, '"1"', "!unknown_date_format"],
    [
      { type: "timestamp with time zone", field: { type: "date_nanos" } },
      '"2023-01-15T10:00:00.123456789Z"',
      "2023-01-15 10:00:00.123457+00",
    ],
    [{ type: "timestamp with time zone", ...keyword }, '"2023-01-15T10:00:00.1234567Z"', "!too_precise"],
    [{ type: "timestamp with time zone", ...keyword }, "1673776800000", "!not_a_date"],
    [{ type: "timestamp with time zone", ...keyword }, '"2024-01-31 10:00"', "2024-01-31 10:00:00+00"],
    [{ type: "timestamp with time zone" }, '"2024-01-31 10:00:00.5+02"', "2024-01-31 08:00:00.5+00"],
    [{ type: "timestamp with time zone" }, '"2024-02-30 10:00:00"', "!not_a_date"],
    [{ type: "timestamp with time zone", ...date }, '"2024-01-31 10:00:00"', "!not_a_date"],
    [{ type: "timestamp with time zone", format: "dd/MM/yyyy", ...keyword }, '"15/01/2023"', "2023-01-15 00:00:00+00"],
    [{ type: "timestamp without time zone", ...date }, '"2023-01-15T10:00:00+02:00"', "2023-01-15 08:00:00"],
    [{ type: "timestamp without time zone", ...date }, '"2023-01-15T10:00:00Z"', "2023-01-15T10:00:00"],
    [{ type: "date", ...date }, '"2023-01-15"', "2023-01-15"],
    [{ type: "date", ...date }, '"2023-01-15T00:00:00Z"', "2023-01-15"],
    [{ type: "date", ...date }, '"2023-01-15T10:00:00Z"', "!time_of_day"],
    [{ type: "date", round: "round", ...date }, '"2023-01-15T10:00:00Z"', "2023-01-15"],
    [{ type: "time without time zone", ...keyword }, '"10:30"', "10:30:00"],
    [{ type: "time without time zone", ...keyword }, '"25:30"', "!not_a_time"],
    [{ type: "interval", ...keyword }, '"P1DT2H"', "P1DT2H"],
    [{ type: "interval", ...keyword }, '"1 day"', "!not_an_interval"],
    [{ type: "uuid", ...keyword }, '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    [{ type: "uuid", ...keyword }, '"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"', "!not_a_uuid"],
    [{ type: "inet", field: { type: "ip" } }, '"10.0.0.1"', "10.0.0.1"],
    [{ type: "inet", field: { type: "ip" } }, '"fe80::1%eth0"', "!not_an_ip"],
    [{ type: "inet", field: { type: "ip" } }, '"10.0.0"', "!not_an_ip"],
    [{ type: "cidr", field: { type: "ip_range" } }, '"10.0.0.0/8"', "10.0.0.0/8"],
    [{ type: "cidr", field: { type: "ip_range" } }, '"10.0.0.1/8"', "10.0.0.0/8"],
    [{ type: "cidr", field: { type: "ip_range" } }, '"2001:db8::/32"', "2001:db8:0:0:0:0:0:0/32"],
    [{ type: "cidr", ...keyword }, '"10.0.0.1/8"', "!not_an_ip"],
    [{ type: "macaddr", ...keyword }, '"08:00:2b:01:02:03"', "08:00:2b:01:02:03"],
    [{ type: "bytea", field: { type: "binary" } }, '"3q2+\\n7w=="', "\\\\xdeadbeef"],
    [{ type: "bytea", field: { type: "binary" } }, '"3q2"', "!not_base64"],
    [{ type: "bytea" }, '"\\\\x0aFF"', "\\\\x0aFF"],
    [{ type: "bytea" }, '"\\\\x0aF"', "!not_base64"],
    [{ type: "bytea", field: { type: "binary" } }, '"\\\\x0aff"', "!not_base64"],
    [{ type: "jsonb", field: { type: "object" } }, '{"a": [1.10, "\\n\\\\"]}', '{"a": [1.10, "\\\\n\\\\\\\\"]}'],
    [{ type: "jsonb", field: { type: "object" } }, "null", "\\N"],
    [{ type: "jsonb", field: { type: "object" } }, '{"a":"\\u0000"}', "!nul"],
    [{ type: "jsonb", nul: "strip", field: { type: "object" } }, '{"a":"x\\u0000","b":1.10}', '{"a":"x","b":1.10}'],
    [{ type: "jsonb", field: { type: "object" } }, '{"a":1e400000}', "!out_of_range"],
    [{ type: "jsonb", field: { type: "object" } }, "[".repeat(1002) + "]".repeat(1002), "!too_deep"],
    [{ type: "point", field: { type: "geo_point" } }, '{"lat":41.12,"lon":-71.34}', "(-71.34,41.12)"],
    [{ type: "point", field: { type: "geo_point" } }, '"41.12,-71.34"', "(-71.34,41.12)"],
    [{ type: "point", field: { type: "geo_point" } }, "[-71.34,41.12]", "(-71.34,41.12)"],
    [{ type: "point", field: { type: "geo_point" } }, '"POINT (-71.34 41.12)"', "(-71.34,41.12)"],
    [
      { type: "point", field: { type: "geo_point" } },
      '{"type":"Point","coordinates":[-71.34,41.12]}',
      "(-71.34,41.12)",
    ],
    [{ type: "point", field: { type: "geo_point" } }, '"s"', "(0,0)"],
    [{ type: "geography(Point,4326)", field: { type: "geo_point" } }, "[2,1.5]", "SRID=4326;POINT(2 1.5)"],
    [{ type: "geography(Point,4326)", field: { type: "geo_point" } }, '{"lat":1}', "!not_a_point"],
    [{ type: "public.geometry", field: { type: "geo_shape" } }, '"POINT (2 1.5)"', "POINT (2 1.5)"],
    [
      { type: "public.geometry", field: { type: "geo_shape" } },
      '{"type":"point","coordinates":[2,1.5]}',
      '{"type":"point","coordinates":[2,1.5]}',
    ],
    [{ type: "vector(3)", field: { type: "dense_vector" } }, "[0.123456789,-2,1e-3]", "[0.12345679,-2,0.001]"],
    [{ type: "vector(3)", field: { type: "dense_vector" } }, '["a"]', "!not_a_number"],
    [{ type: "point", field: { type: "geo_point" } }, '"91,0"', "!not_a_point"],
    [{ type: "point[]", field: { type: "geo_point" } }, "[[1,2],[3,4]]", '{"(1,2)","(3,4)"}'],
    [{ type: "int4range", field: { type: "integer_range" } }, '{"gte":1,"lt":10}', '["1","10")'],
    [{ type: "int4range", field: { type: "integer_range" } }, '{"gt":1}', '("1",)'],
    [{ type: "int4range", field: { type: "integer_range" } }, '{"gte":10,"lte":1}', "!not_a_range"],
    [{ type: "int4range", field: { type: "integer_range" } }, '{"from":1}', "!not_a_range"],
    [
      { type: "tstzrange", field: { type: "date_range" } },
      '{"gte":"2023-01-01","lt":1704067200000}',
      '["2023-01-01 00:00:00+00","2024-01-01 00:00:00+00")',
    ],
    [{ type: "text[]", ...keyword }, '["a","b\\"c","d\\\\e",null,""]', '{"a","b\\\\"c","d\\\\\\\\e",NULL,""}'],
    [{ type: "text[]", ...keyword }, '"a"', '{"a"}'],
    [{ type: "text[]", ...keyword }, "[]", "{}"],
    [{ type: "text[]", ...keyword }, "null", "\\N"],
    [{ type: "text[]", ...keyword }, '[["a","b"],"c"]', '{"a","b","c"}'],
    [{ type: "text[]", ...keyword }, '["a",{"b":1}]', "!is_object"],
    [{ type: "text[]", ...keyword }, '["NULL","{}"]', '{"NULL","{}"}'],
    [{ type: "character varying(2)[]", ...keyword }, '["ab","abc"]', "!too_long"],
    [{ type: "integer[]", ...int }, "[1,2]", "{1,2}"],
    [{ type: "integer[]", ...int }, '[1,"2",3.0]', '{"1","2","3"}'],
    [{ type: "real[]", field: { type: "dense_vector" } }, "[0.5,-1]", "{0.5,-1}"],
    [{ type: "jsonb[]", field: { type: "nested" } }, '[{"a":1},null]', '{"{\\\\"a\\\\":1}",NULL}'],
    [{ type: "text", field: { type: "join" } }, '{"name":"answer","parent":"1"}', "answer"],
    [{ type: "text", field: { type: "constant_keyword", constant: "logs" } }, '"logs"', "logs"],
  ];
  it.each(values)("%j %s -> %s", (options, value, expected) => {
    expect(cell(options, value)).toBe(expected);
  });
});

describe("a row", () => {
  it("ends with where the document comes from", () => {
    const encoded = encode(
      { name: { type: "text" } },
      line('{"name":"x"}', '"_index":"a\\tb","_id":"i\\\\1","_routing":"r","_seq_no":7,"_primary_term":1'),
    );
    expect(encoded.reject).toBeUndefined();
    expect(encoded.reject === undefined && encoded.copy.toString()).toBe("x\t3\t14\ta\\tb\ti\\\\1\tr\t7\n");
  });

  it("names the stage's own columns so that they never meet the plan's", () => {
    const encoder = createEncoder(planOf({ _id: { type: "text", from: "_id" } }));
    expect(encoder.columns).toEqual(["_id", "_part", "_line", "_index", "__id", "_routing", "_seq_no"]);
    const encoded = encoder.encode(line("{}"), { part: 0, line: 0 });
    expect(encoded.reject === undefined && encoded.copy.toString()).toBe("1\t0\t0\tproducts\t1\t\\N\t7\n");
  });

  it("keeps its bytes when later rows are encoded", () => {
    const encoder = createEncoder(planOf({ name: { type: "text" } }));
    const first = encoder.encode(line('{"name":"first"}'), { part: 0, line: 0 });
    encoder.encode(line('{"name":"second"}'), { part: 0, line: 1 });
    const huge = encoder.encode(line(`{"name":"${"x".repeat(3_000_000)}"}`), { part: 0, line: 2 });
    expect(first.reject === undefined && first.copy.toString()).toMatch(/^first\t/);
    expect(huge.reject === undefined && huge.copy.length).toBeGreaterThan(3_000_000);
  });

  it("finds nested, dotted and array-borne paths, and takes a path met twice for several values", () => {
    const columns = { "off.x": { type: "integer[]" }, "p.q.r": { type: "text" } };
    expect(cells(columns, '{"off.x":1,"off":{"x":2},"p":{"q":{"r":"deep"}}}')).toEqual(['{"1","2"}', "deep"]);
    expect(cells(columns, '{"off":[{"x":1},{"y":0},{"x":[2,3]}],"p.q":{"r":"dotted"}}')).toEqual([
      '{"1","2","3"}',
      "dotted",
    ]);
    expect(cells({ "off.x": { type: "integer" } }, '{"off.x":1,"off":{"x":2}}')).toBe("is_array");
    expect(cells({ "off.x": { type: "integer", array: "first" } }, '{"off.x":1,"off":{"x":2}}')).toEqual(["1"]);
  });

  it("puts an object together from its dotted pieces", () => {
    expect(cells({ o: { type: "jsonb" } }, '{"o.p":1,"o":{"q":2.50}}')).toEqual(['{"p":1,"q":2.50}']);
    expect(cells({ o: { type: "jsonb" } }, '{"o.a.b":1,"o.a.c":2}')).toEqual(['{"a":{"b":1,"c":2}}']);
    expect(cells({ o: { type: "jsonb" } }, '{"o.p":1,"o":{"p":2}}')).toEqual(['{"p":[1,2]}']);
  });

  it("finds names that are written with escapes, and documents whose order changes", () => {
    const encoder = createEncoder(planOf({ a: { type: "integer" }, b: { type: "integer" } }));
    const rows = ['{"a":1,"b":2}', '{"b":2,"a":1}', '{"\\u0061":1,"z":{"a":9},"b":2}', '{ "a" : 1 , "b" : 2 }'];
    for (const row of rows) {
      const encoded = encoder.encode(line(row), { part: 0, line: 0 });
      expect(encoded.reject === undefined && encoded.copy.toString()).toMatch(/^1\t2\t0/);
    }
  });

  it("tells missing from null by policy", () => {
    const columns: Record<string, ColumnOptions> = {
      kept: { type: "text", on_missing: "keep" },
      defaulted: { type: "text", on_missing: "default" },
      filled: { type: "integer", on_null: 0 },
      plain: { type: "integer" },
    };
    const encoder = createEncoder(planOf(columns));
    expect(encoder.columns.slice(-2)).toEqual(["_keep", "_default"]);
    const missing = encoder.encode(line("{}"), { part: 0, line: 0 });
    expect(missing.reject === undefined && missing.copy.toString()).toBe(
      '\\N\t\\N\t0\t\\N\t0\t0\tproducts\t1\t\\N\t7\t{"kept"}\t{"defaulted"}\n',
    );
    const nulls = encoder.encode(line('{"kept":null,"defaulted":null,"filled":null}'), { part: 0, line: 0 });
    expect(nulls.reject === undefined && nulls.copy.toString()).toBe(
      "\\N\t\\N\t0\t\\N\t0\t0\tproducts\t1\t\\N\t7\t\\N\t\\N\n",
    );
  });

  it("refuses null where the column is NOT NULL or the key, and says which", () => {
    expect(cells({ x: { type: "text", notNull: true } }, "{}")).toBe("null_not_allowed");
    expect(cells({ x: { type: "text", notNull: true, on_null: "none" } }, "{}")).toEqual(["none"]);
    const encoded = createEncoder(planOf({ id: { type: "text" } }, ["id"])).encode(line('{"id":null}'), {
      part: 0,
      line: 0,
    });
    expect(encoded.reject).toMatchObject({ documentId: "1", column: "id", reason: "null_key", sqlstate: "23502" });
  });

  it("turns errors into null or the default by policy, and counts them as replaced", () => {
    const nulled = encode({ x: { type: "integer", on_error: "null" } }, '{"x":"abc"}');
    expect(nulled).toMatchObject({ replaced: ["x"], rounded: [] });
    const defaulted = encode({ x: { type: "integer", on_error: "default" } }, '{"x":"abc"}');
    expect(defaulted.reject === undefined && defaulted.copy.toString()).toMatch(/^\\N\t.*\t\{"x"\}\n$/);
  });

  it("counts what was rounded and what was replaced", () => {
    const columns: Record<string, ColumnOptions> = {
      r: { type: "numeric(5,1)", round: "round" },
      s: { type: "text", nul: "strip" },
      t: { type: "text" },
    };
    expect(encode(columns, '{"r":1.25,"s":"a\\u0000","t":"b"}')).toMatchObject({ rounded: ["r"], replaced: ["s"] });
    expect(encode(columns, '{"r":1.2,"s":"a","t":"b"}')).toMatchObject({ rounded: [], replaced: [] });
  });

  it("judges only the values whose bytes are not UTF-8", () => {
    const bytes = Buffer.concat([
      Buffer.from('{"_index":"i","_id":"1","_seq_no":7,"_primary_term":1,"_source":{"good":"é","bad":"'),
      Buffer.from([0xc0, 0x80]),
      Buffer.from('"}}'),
    ]);
    expect(cells({ good: { type: "text" } }, bytes)).toEqual(["é"]);
    expect(cells({ bad: { type: "text" } }, bytes)).toBe("invalid_utf8");
    expect(cells({ bad: { type: "text", encoding: "replace" } }, bytes)).toEqual(["\uFFFD\uFFFD"]);
  });

  it("says what is wrong with a value, clipped and on one line", () => {
    const encoded = encode({ x: { type: "integer" } }, `{"x":"${"y\\n".repeat(400)}"}`);
    expect(encoded.reject).toMatchObject({
      documentId: "1",
      column: "x",
      reason: "not_an_integer",
      sqlstate: "22P02",
      message: "The value is not a number, and the column is integer.",
    });
    expect(Array.from(encoded.reject?.value ?? "").length).toBe(200);
  });

  it.each(["", "{", '{"a"', '{"a":', '{"a":1', '{"a":1}x', '{"a":"x}', "[1]", '{"a":1,}', "{a:1}", '{"a":tru}'])(
    "refuses the broken document %s and goes on",
    (source) => {
      const encoder = createEncoder(planOf({ a: { type: "integer" }, b: { type: "jsonb" } }));
      const broken = encoder.encode(line(source), { part: 0, line: 0 });
      expect(broken.reject?.reason).toMatch(/invalid_json|invalid_line/);
      const next = encoder.encode(line('{"a":1}'), { part: 0, line: 1 });
      expect(next.reject === undefined && next.copy.toString()).toMatch(/^1\t\\N\t/);
    },
  );

  it("stages a constant in every row", () => {
    expect(cells({ source: { type: "text", constant: "a\tb" }, n: { type: "jsonb", constant: 5 } }, "{}")).toEqual([
      "a\\tb",
      "5",
    ]);
  });
});

describe("documents that are like the first of their part", () => {
  const plan = planOf({
    key: { type: "text", from: "_id" },
    source: { type: "text", constant: "es" },
    n: { type: "integer", notNull: true },
    word: { type: "character varying(5)" },
    price: { type: "numeric(5,2)", on_null: 7 },
    tags: { type: "text[]" },
    flag: { type: "boolean" },
    at: { type: "timestamp with time zone", field: { type: "date" } },
    data: { type: "jsonb" },
    never: { type: "text" },
  });
  const like = line(
    '{"word":"w","other":{"x":[1,"]"]},"n":1,"data":{},"tags":["a"],"price":1,"flag":true,"at":"2024-01-01"}',
  );
  const at = { part: 3, line: 9 };
  const texts = constantFrom(
    "",
    "a",
    "ab\\",
    'q"',
    "long text",
    `${"long".repeat(40)}\\ \n`,
    `${"é".repeat(60)}\u0001`,
    "é",
    "é€é",
    "\t\n",
    "\u0001",
    "\u0000",
    "\ud800",
    "null",
    "1",
  );
  const anything = oneof(
    texts,
    constantFrom(0, -0, 1, 12, 1.5, 1.25, 1.255, 1e21, 99_999_999_999, -3.1),
    constantFrom(null, true, false, "2024-02-30", "2024-02-29T10:11:12Z", "1.50", "true", [], {}),
    array(oneof(texts, constantFrom(null, 1, true)), { maxLength: 3 }),
    jsonValue({ maxDepth: 2 }),
  );
  const members = constantFrom("word", "other", "n", "data", "tags", "price", "flag", "at", "never", "word.x", "é", "");

  /** Knows no order; what it writes is held to the exact conversion and to PostgreSQL elsewhere. */
  const general = createEncoder(plan);

  /** The values by their columns, which the two encoders have in different orders. */
  const byColumn = (encoder: ReturnType<typeof createEncoder>, bytes: Buffer): unknown => {
    const encoded = encoder.encode(bytes, at);
    if (encoded.reject !== undefined) return { column: encoded.reject.column, reason: encoded.reject.reason };
    const values = encoded.copy.toString().slice(0, -1).split("\t");
    return Object.fromEntries(encoder.columns.map((column, place) => [column, values[place]]));
  };

  it.each([undefined, 1])("are written as the general way writes them, whatever they hold (spaces: %s)", (space) => {
    assert(
      property(array(tuple(members, anything), { maxLength: 10 }), boolean(), (entries, inOrder) => {
        const encoder = createEncoder(plan, { like });
        const places = encoder.columns;
        const sorted = inOrder
          ? entries.toSorted(([left], [right]) => places.indexOf(left) - places.indexOf(right))
          : entries;
        // Not by way of an object, in which no name comes twice.
        const text = sorted.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value, null, space)}`);
        const bytes = line(`{${text.join(space === undefined ? "," : ", ")}}`);
        expect(byColumn(encoder, bytes)).toEqual(byColumn(general, bytes));
      }),
      { numRuns: 1_000 },
    );
  });

  it("have the columns in the order of their members, and those of no member behind them", () => {
    expect(createEncoder(plan, { like, layout: "target" }).columns).toEqual([
      "word",
      "n",
      "data",
      "tags",
      "price",
      "flag",
      "at",
      "key",
      "source",
      "never",
    ]);
    expect(createEncoder(plan, { like: line('{"x.y":1}'), layout: "target" }).columns[0]).toBe("key");
  });

  it("may be few: the order is given up, and the rows stay the same", () => {
    const few = createEncoder(plan, { like });
    const bytes = line('{"n":1,"word":"w"}');
    for (let n = 0; n < 1_500; n += 1) few.encode(bytes, at);
    expect(byColumn(few, bytes)).toEqual(byColumn(general, bytes));
  });
});

describe("JSON on the fast path", () => {
  const plan = planOf({ x: { type: "jsonb" } });
  const fast = createEncoder(plan, { like: line('{"x":1}') });
  const exact = createEncoder(plan, { exact: true });
  const at = { part: 0, line: 0 };

  it("is written byte for byte as the exact conversion writes it", () => {
    assert(
      property(jsonValue({ maxDepth: 5 }), (value) => {
        const bytes = line(JSON.stringify({ x: value }));
        expect(outcome(fast.encode(bytes, at))).toBe(outcome(exact.encode(bytes, at)));
      }),
      { numRuns: 1_000 },
    );
  });

  it("is refused where a byte is missing or another, exactly when the exact conversion refuses it", () => {
    assert(
      property(jsonValue({ maxDepth: 4 }), nat(), nat(), (value, where, what) => {
        const text = JSON.stringify(value);
        const position = where % (text.length + 1);
        const other = '{}[],:"\\ 1ex'.charAt(what % 13);
        const bytes = line(`{"x":${text.slice(0, position)}${other}${text.slice(position + (what % 2))}}`);
        expect(outcome(fast.encode(bytes, at))).toBe(outcome(exact.encode(bytes, at)));
      }),
      { numRuns: 3_000 },
    );
  });
});

function outcome(encoded: Encoded): string {
  return encoded.reject === undefined ? encoded.copy.toString() : encoded.reject.reason;
}
