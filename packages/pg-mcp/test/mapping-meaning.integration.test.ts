import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { compileConvert } from "../src/mapping/convert.ts";
import { dateReader } from "../src/mapping/dates.ts";
import { parseJsonValue } from "../src/mapping/json-value.ts";
import { planColumn } from "../src/mapping/plan-column.ts";
import { Refusal } from "../src/mapping/refusal.ts";
import { parseValueType } from "../src/mapping/value-type.ts";
import { randomName } from "./support.ts";

const elasticsearch: string = inject("elasticsearchUrl");
const index = randomName("pgm");

const formats = [
  "strict_date_optional_time||epoch_millis",
  "strict_date_optional_time",
  "date_optional_time",
  "epoch_millis",
  "epoch_second",
  "basic_date",
  "basic_date_time",
  "basic_date_time_no_millis",
  "strict_date",
  "date",
  "strict_date_time",
  "date_time_no_millis",
  "strict_date_hour_minute_second",
  "strict_date_hour_minute_second_millis",
  "strict_date_hour_minute_second_fraction",
  "date_hour_minute",
  "strict_year_month_day",
  "strict_year_month",
  "year",
  "strict_ordinal_date",
  "strict_week_date",
  "basic_ordinal_date",
  "strict_hour_minute_second",
  "iso8601",
  "strict_date_time_no_millis",
  "date_time",
  "date_hour",
  "strict_date_hour",
  "date_hour_minute_second",
  "date_hour_minute_second_millis",
  "strict_year",
  "year_month",
  "year_month_day",
  "ordinal_date",
  "ordinal_date_time",
  "strict_ordinal_date_time_no_millis",
  "week_date",
  "strict_weekyear_week_day",
  "strict_weekyear_week",
  "hour",
  "strict_hour_minute",
  "hour_minute_second",
  "hour_minute_second_millis",
  "strict_hour_minute_second_fraction",
  "time",
  "strict_time",
  "time_no_millis",
  "strict_date_optional_time_nanos",
  "yyyy/MM/dd",
  "yyyy/MM/dd||epoch_millis",
  "uuuu-MM-dd HH:mm:ss",
  "dd.MM.yyyy",
  "d/M/yyyy",
  "dd/MMM/yyyy:HH:mm:ss Z",
  "EEE MMM dd HH:mm:ss Z yyyy",
  "MMM d, yyyy h:mm a",
  "yyyyMMdd",
  "yyyyMMddHHmmss",
  "yy-MM-dd",
  "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
  "yyyy-MM-dd'T'HH:mm:ss[.SSS][X]",
  "yyyy-DDD",
];

const texts = [
  "2024-02-29",
  "2023-02-29",
  "2024-13-01",
  "2024-1-5",
  "2024",
  "2024-05",
  "20240101",
  "24-05-06",
  "2024-02-29T10:00:00Z",
  "2024-02-29T10:00:00.123Z",
  "2024-02-29T10:00:00.123456789Z",
  "2024-02-29T10:00:00,5Z",
  "2024-02-29T10:00:00.1+02:00",
  "2024-02-29T10:00:00+0200",
  "2024-02-29T10:00:00-05",
  "2024-02-29T10:00:00+19:00",
  "2024-02-29T10",
  "2024-02-29T10:11",
  "2024-02-29T10:11:12",
  "2024-02-29T10:11Z",
  "2024-02-29T",
  "2024-02-29T24:00:00",
  "2024-02-29T10:60",
  "2024-02-29T10:11:60Z",
  "2024-02-29 10:11:12",
  "20240229T101112.123Z",
  "20240229T101112Z",
  "20240229101112",
  "2024/02/29",
  "29.02.2024",
  "29/2/2024",
  "9/02/2024",
  "29/Feb/2024:10:11:12 +0200",
  "Thu Feb 29 10:11:12 +0000 2024",
  "Feb 29, 2024 10:11 PM",
  "Feb 9, 2024 1:11 AM",
  "2024-060",
  "2024060",
  "2024-366",
  "2023-366",
  "2024-W09-4",
  "2024-W09",
  "10:11:12",
  "1709200800",
  "1709200800000",
  "1709200800000.5",
  "1709200800.25",
  "-1",
  "0",
  "-0044-03-15",
  "+12345-01-01",
  "12345-01-01",
  "0000-01-01",
  "now",
  "",
  " 2024-02-29",
  "2024-02-29Z",
  "2024-02-29+01:00",
  "1.7e12",
  "2024-02-29T10:11:12.5",
  "2024-02-29T10:11:12,5",
  "2024-2-9T1:2:3Z",
  "2024-060T10:11:12Z",
  "2024-060T10:11:12.5Z",
  "10:11",
  "10",
  "10:11:12.5",
  "10:11:12Z",
  "10:11:12.5Z",
  "1:2:3",
];

/** Values as they stand in a document, for one field of each type. */
const values = [
  "12",
  '"12"',
  '"+12"',
  '"012"',
  "12.0",
  "12.7",
  "-12.7",
  '"12.7"',
  '"-12.7"',
  "1e3",
  '"1e3"',
  '"1.5e1"',
  '".5"',
  '"5."',
  '""',
  '" 12"',
  '"12 "',
  '"12d"',
  '"0x10"',
  '"1_000"',
  '"NaN"',
  '"Infinity"',
  '"1,5"',
  "true",
  "false",
  '"true"',
  '"false"',
  '"TRUE"',
  '"t"',
  '"on"',
  "0",
  "1",
  '"0"',
  "-0",
  "null",
  "9223372036854775807",
  "9223372036854775808",
  '"9223372036854775807"',
  "-9223372036854775808",
  "2147483648",
  "32768",
  "[1,[2,null]]",
  "[]",
  "{}",
  '"127.0.0.1"',
  '"127.0.0"',
  '"127.00.0.1"',
  '"::1"',
  '"2001:DB8::A"',
  '"fe80::1%eth0"',
  '"::ffff:1.2.3.4"',
  '"127.0.0.1/8"',
];

const valueFields: { name: string; mapping: { type: string; scaling_factor?: number }; column: string }[] = [
  { name: "long", mapping: { type: "long" }, column: "bigint[]" },
  { name: "integer", mapping: { type: "integer" }, column: "integer[]" },
  { name: "short", mapping: { type: "short" }, column: "smallint[]" },
  { name: "double", mapping: { type: "double" }, column: "double precision[]" },
  { name: "boolean", mapping: { type: "boolean" }, column: "boolean[]" },
  { name: "ip", mapping: { type: "ip" }, column: "inet[]" },
];

const bulkSchema = z.object({ items: z.array(z.object({ index: z.object({ status: z.number() }) })) });
const searchSchema = z.object({
  hits: z.object({
    hits: z.array(z.object({ _id: z.string(), fields: z.record(z.string(), z.array(z.unknown())).optional() })),
  }),
});

async function request(method: string, path: string, body?: string): Promise<unknown> {
  const type = body?.endsWith("\n") === true ? "application/x-ndjson" : "application/json";
  const response = await fetch(`${elasticsearch}/${path}`, {
    method,
    ...(body === undefined ? {} : { body, headers: { "content-type": type } }),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return await response.json();
}

/** What Elasticsearch made of each text by each format: milliseconds, or null where it takes it for malformed. */
const meant = new Map<string, Map<string, number | null>>();

beforeAll(async () => {
  const properties = Object.fromEntries(
    formats.map((format, number) => [`f${number}`, { type: "date", format, ignore_malformed: true }]),
  );
  await request("PUT", index, JSON.stringify({ settings: { number_of_replicas: 0 }, mappings: { properties } }));
  const lines = texts.flatMap((text, number) => [
    JSON.stringify({ index: { _id: String(number) } }),
    JSON.stringify(Object.fromEntries(formats.map((_, field) => [`f${field}`, text]))),
  ]);
  await request("POST", `${index}/_bulk?refresh=true`, `${lines.join("\n")}\n`);
  const answer = await request(
    "POST",
    `${index}/_search?size=${texts.length}`,
    JSON.stringify({
      _source: false,
      docvalue_fields: formats.map((_, field) => ({ field: `f${field}`, format: "epoch_millis" })),
    }),
  );
  const { hits } = searchSchema.parse(answer).hits;
  for (const hit of hits) {
    const byFormat = new Map<string, number | null>();
    for (const [field, format] of formats.entries()) {
      const value = hit.fields?.[`f${field}`]?.[0];
      byFormat.set(format, value === undefined ? null : Number(value));
    }
    meant.set(texts[Number(hit._id)] ?? "", byFormat);
  }
});

afterAll(() => request("DELETE", `${index},${index}_values`));

/**
 * Readings that are refused on purpose: Elasticsearch rolls an impossible day or hour over to the next one, and reads a
 * year of five digits by one format alone.
 */
const refused = new Map([
  ["strict_date", ["2023-02-29", "2024-13-01", "+12345-01-01"]],
  ["strict_date_hour_minute_second", ["2024-02-29T24:00:00"]],
]);

describe("a date of the format", () => {
  it.each(formats)("%s is read as Elasticsearch reads it", (format) => {
    const reader = dateReader(format);
    const readings = texts.map((text) => {
      const instant = reader.read?.(text) ?? null;
      return { text, millis: instant === null ? null : instant.seconds * 1000 + Math.floor(instant.nanos / 1e6) };
    });
    const expected = texts.map((text) => {
      const isRefused = refused.get(format)?.includes(text) === true;
      return { text, millis: isRefused ? null : (meant.get(text)?.get(format) ?? null) };
    });
    expect(readings).toEqual(expected);
  });
});

/**
 * Values that are refused on purpose: Java's number parser takes more than a person calls a number (blanks around it, a
 * trailing d, NaN for the integer 0), and an inet has no zone.
 */
const blanks = ['" 12"', '"12 "', '"12d"'];
const refusedValues = new Map([
  ["double", blanks],
  ["integer", [...blanks, '"NaN"']],
  ["short", [...blanks, '"NaN"']],
  ["ip", ['"fe80::1%eth0"']],
]);

describe("a value of the field", () => {
  const taken = new Map<string, unknown[] | "refused">();

  beforeAll(async () => {
    const properties = Object.fromEntries(valueFields.map(({ name, mapping }) => [name, mapping]));
    await request(
      "PUT",
      `${index}_values`,
      JSON.stringify({ settings: { number_of_replicas: 0 }, mappings: { properties } }),
    );
    const documents = valueFields.flatMap(({ name }) => values.map((value) => ({ name, value })));
    const lines = documents.flatMap(({ name, value }, number) => [
      `{"index":{"_id":"${number}"}}`,
      `{"${name}":${value}}`,
    ]);
    const bulk = bulkSchema.parse(await request("POST", `${index}_values/_bulk?refresh=true`, `${lines.join("\n")}\n`));
    const answer = searchSchema.parse(
      await request(
        "POST",
        `${index}_values/_search?size=1000`,
        JSON.stringify({ _source: false, docvalue_fields: valueFields.map(({ name }) => name) }),
      ),
    );
    const byId = new Map(answer.hits.hits.map((hit) => [hit._id, hit.fields ?? {}]));
    for (const [number, { name, value }] of documents.entries()) {
      const isTaken = (bulk.items[number]?.index.status ?? 500) < 300;
      taken.set(`${name} ${value}`, isTaken ? (byId.get(String(number))?.[name] ?? []) : "refused");
    }
  });

  it.each(valueFields)("$name is read as Elasticsearch reads it", ({ name, mapping, column }) => {
    const convert = compileConvert(
      planColumn({
        column: { column: "x", round: "round" },
        targetType: column,
        valueType: parseValueType(column),
        from: "x",
        field: { path: "x", ...mapping },
        notNull: false,
      }),
    );
    const readings = values.map((value) => {
      const text = convert(parseJsonValue(value), { rounded: false, replaced: false });
      if (text instanceof Refusal) return { value, read: "refused" };
      const items =
        text === null
          ? []
          : text
              .slice(1, -1)
              .split(",")
              .filter((item) => item !== "" && item !== "NULL");
      return { value, read: items.map((item) => comparable(name, item.replaceAll('"', ""))) };
    });
    const expected = values.map((value) => {
      const isRefused = refusedValues.get(name)?.includes(value) === true;
      const read = isRefused ? "refused" : (taken.get(`${name} ${value}`) ?? "refused");
      return { value, read: typeof read === "string" ? read : read.map((item) => comparable(name, String(item))) };
    });
    expect(readings).toEqual(expected);
  });
});

/** One spelling per value: numbers as numbers, addresses in Elasticsearch's form. */
function comparable(name: string, text: string): unknown {
  if (name === "boolean") return text;
  // Elasticsearch shows -0 as 0.
  if (name !== "ip") return Number(text) + 0;
  return text === "::ffff:1.2.3.4" ? "1.2.3.4" : text.toLowerCase();
}
