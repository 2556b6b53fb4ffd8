import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { compileConvert } from "../src/mapping/convert.ts";
import { parseJsonValue } from "../src/mapping/json-value.ts";
import { planColumn } from "../src/mapping/plan-column.ts";
import { Refusal } from "../src/mapping/refusal.ts";
import { parseValueType } from "../src/mapping/value-type.ts";
import { randomName } from "./support.ts";

const elasticsearch: string = inject("elasticsearchUrl");
const index = randomName("pgs");

interface Shape {
  type: string;
  column: string;
  parameters?: Record<string, unknown>;
  values: string[];
  /** Values that Elasticsearch takes and that stay out all the same, because no column can mean them. */
  strict?: string[];
}

const shapes: Shape[] = [
  {
    type: "integer_range",
    column: "int4range",
    values: [
      '{"gte":1,"lte":3}',
      '{"gt":1,"lt":2}',
      '{"gt":1,"lt":3}',
      '{"gte":5,"lte":1}',
      '{"gte":1,"gt":3}',
      '{"gte":1.7,"lte":3.7}',
      '{"lte":2147483647}',
      '{"gte":2147483648}',
      "{}",
      '{"gte":"3"}',
      '{"gte":""}',
      '{"gte":null,"lte":5}',
      '{"from":1,"to":2}',
      '{"gte":true}',
      '{"gt":2147483647}',
      "5",
      '"1-5"',
      "null",
    ],
    // To Elasticsearch this is nothing but a wrapped number.
    strict: ['{"gt":2147483647}'],
  },
  {
    type: "double_range",
    column: "numrange",
    values: [
      '{"gt":1,"lt":1}',
      '{"gte":1,"lte":1}',
      '{"gte":2,"lte":1}',
      '{"gt":"0.5"}',
      '{"gte":"x"}',
      '{"gte":"NaN"}',
    ],
  },
  {
    type: "date_range",
    column: "tstzrange",
    values: [
      '{"gte":"2024-01-01","lte":"2024-01-31"}',
      '{"gt":"2024-01-01","lte":"2024-01-01"}',
      '{"gte":"2024-01","lte":"2024-01"}',
      '{"gte":86400000}',
      '{"gte":"2024-02-30"}',
      '{"gte":"now/d"}',
      '"2024-01-01"',
    ],
  },
  {
    type: "ip_range",
    column: "cidr",
    values: [
      '"10.1.0.0/8"',
      '"10.0.0.1"',
      '"::/0"',
      '"2001:db8::1/32"',
      '"10.0.0.0/33"',
      '"::ffff:10.0.0.0/104"',
      '"10.0.0.0-10.0.0.9"',
      '"10.0.0.0/08"',
      '" 10.0.0.0/8"',
      '{"gt":"10.0.0.7","lt":"10.0.0.16"}',
      '{"gte":"10.0.0.5","lte":"10.0.0.1"}',
      '{"gte":"10.0.0.0","lte":"::1"}',
      '{"gte":"::","lte":"::ffff"}',
      '{"gte":"fe80::1%eth0","lte":"fe80::2"}',
    ],
    // Elasticsearch drops the zone, and PostgreSQL has no address with one.
    strict: ['{"gte":"fe80::1%eth0","lte":"fe80::2"}'],
  },
  {
    type: "binary",
    column: "bytea",
    // Without it Elasticsearch does not look at the value.
    parameters: { doc_values: true },
    values: ['"3q2+7w=="', '"3q2+\\n7w=="', '"3q2+ 7w=="', '"3q2+7w"', '"3q2-7w=="', '""', '"*"', "5", "true"],
  },
  {
    type: "geo_point",
    column: "point",
    values: [
      '{"lat":1.5,"lon":2}',
      '"1.5,2"',
      "[2,1.5]",
      '"s000"',
      '"S000"',
      '"POINT(2 1.5)"',
      '"point (2 1.5)"',
      '{"type":"Point","coordinates":[2,1.5]}',
      '{"geohash":"u173zq37x014"}',
      '{"lat":"1.5","lon":"2"}',
      '"1.5, 2"',
      '"1.5,2,3"',
      "[2,1.5,3]",
      '{"lat":91,"lon":0}',
      '{"lat":1}',
      '{"lat":1,"lon":2,"z":3}',
      '""',
      "[2]",
      '"s00a"',
      '"12"',
      '{"lat":null,"lon":2}',
      '"NaN,1"',
      '{"lat":1,"lon":180.0000001}',
      '{"lat":-90,"lon":-180}',
      '"zzzzzzzzzzzzz"',
    ],
  },
  {
    type: "dense_vector",
    column: "real[]",
    parameters: { dims: 3 },
    values: ["[0.123456789012,1,2]", '["a","b","c"]', "[1,2,true]", "[1e39,0,0]"],
  },
];

async function request(method: string, path: string, body?: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${elasticsearch}/${path}`, {
    method,
    ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } }),
  });
  return { status: response.status, body: await response.json() };
}

/** What Elasticsearch says of a value: refused, or taken, and for a point where it lies. */
async function taken(type: string, value: string): Promise<string> {
  const { status } = await request("PUT", `${index}/_doc/1?refresh=true`, `{"${type}":${value}}`);
  if (status >= 300) return "refused";
  if (type !== "geo_point") return "taken";
  const { body } = await request("POST", `${index}/_search`, '{"docvalue_fields":["geo_point"]}');
  const [point] = pointSchema.parse(body).hits.hits[0]?.fields?.geo_point ?? [];
  const [latitude, longitude] = (point ?? "").split(", ").map(Number);
  return `${longitude?.toFixed(4)} ${latitude?.toFixed(4)}`;
}

const pointSchema = z.object({
  hits: z.object({ hits: z.array(z.object({ fields: z.object({ geo_point: z.array(z.string()) }).optional() })) }),
});

beforeAll(async () => {
  const properties = Object.fromEntries(shapes.map(({ type, parameters }) => [type, { type, ...parameters }]));
  const settings = { number_of_shards: 1, number_of_replicas: 0 };
  await request("PUT", index, JSON.stringify({ settings, mappings: { properties } }));
});

afterAll(async () => {
  await request("DELETE", index);
});

describe("what Elasticsearch takes", () => {
  it.each(shapes)("as $type is taken as $column, and nothing else", async ({ type, column, values, strict = [] }) => {
    const convert = compileConvert(
      planColumn({
        column: { column: "x", round: "round" },
        targetType: column,
        valueType: parseValueType(column),
        from: "x",
        field: { path: "x", type },
        notNull: false,
      }),
    );
    const read = values.map((value) => {
      const converted = convert(parseJsonValue(value), { rounded: false, replaced: false });
      if (converted instanceof Refusal) return `${value} refused`;
      if (type !== "geo_point") return `${value} taken`;
      const [longitude, latitude] = (converted ?? "").slice(1, -1).split(",").map(Number);
      return `${value} ${longitude?.toFixed(4)} ${latitude?.toFixed(4)}`;
    });
    const meant: string[] = [];
    for (const value of values) {
      const answer = await taken(type, value);
      // One that Elasticsearch refuses too is listed for nothing, and the test shows it.
      const kept = strict.includes(value) ? (answer === "refused" ? "not strict" : "refused") : answer;
      meant.push(`${value} ${kept}`);
    }
    expect(read).toEqual(meant);
  });
});
