import { finding, rowsAre } from "../findings.ts";
import type { EvalDocument } from "../place.ts";
import { createCustomers } from "../products.ts";
import type { Task } from "../task.ts";

const sensors = 60;
const count = 40;
const hour = 3_600_000;

interface Station {
  id: string;
  longitude: number;
  latitude: number;
  serial: bigint;
  from: number;
  to: number;
  since: number;
  until: number;
  address: string;
  readings: number[];
}

function station(number: number): Station {
  const since = Date.UTC(2020, number % 12, 1);
  return {
    id: `S${String(number).padStart(3, "0")}`,
    longitude: -179.5 + number * 8.25,
    latitude: 80 - number * 3.5,
    // Beyond what a double holds.
    serial: 9_007_199_254_740_993n + BigInt(number) * 2n,
    from: -40 + number,
    to: 10 + number,
    since,
    until: since + (number + 1) * 24 * hour,
    address: `10.0.${number}.7`,
    readings: Array.from({ length: sensors }, (_, at) => ((number * 31 + at * 17) % 2000) / 8),
  };
}

const stations = Array.from({ length: count }, (_, number) => station(number));

/** The same point in each way that Elasticsearch takes one, station by station. */
function pointText({ longitude, latitude }: Station, number: number): string {
  const forms = [
    `{"lat":${latitude},"lon":${longitude}}`,
    `"${latitude},${longitude}"`,
    `[${longitude},${latitude}]`,
    `"POINT (${longitude} ${latitude})"`,
  ];
  return forms[number % forms.length] ?? "";
}

function* documents(): Generator<EvalDocument> {
  for (const [number, one] of stations.entries()) {
    const readings = one.readings.map((value, at) => `"sensor_${at}":${value}`).join(",");
    const instants = [one.since, one.until].map((at) => new Date(at).toISOString());
    yield {
      id: one.id,
      source:
        `{"station_id":"${one.id}","serial":${one.serial},"location":${pointText(one, number)},` +
        `"operating_range":{"gte":${one.from},"lte":${one.to}},"service_period":{"gte":"${instants[0]}","lt":"${instants[1]}"},` +
        `"address":"${one.address}","active":${number % 2 === 0},"operator":{"name":"Operator ${number % 4}","country":"NO"},` +
        `"remark":"Station ${one.id} stands on a hill above the old harbour.",${readings}}`,
    };
  }
}

export const wideStations: Task = {
  name: "wide-stations",
  level: "hard",
  wish:
    "Copy the index {stations} with all of its fields to the table shop.stations, key station_id. location as a point " +
    "(longitude first), operating_range as int4range, service_period as tstzrange, serial as bigint, address as inet; the " +
    "fields of operator as operator_name and operator_country.",
  indices: ["stations"],
  mayChange: ["shop.stations"],
  async prepare(place) {
    await createCustomers(place);
    const sensorFields = Array.from({ length: sensors }, (_, at) => [`sensor_${at}`, { type: "double" }]);
    await place.createIndex(
      "stations",
      {
        station_id: { type: "keyword" },
        serial: { type: "long" },
        location: { type: "geo_point" },
        operating_range: { type: "integer_range" },
        service_period: { type: "date_range" },
        address: { type: "ip" },
        active: { type: "boolean" },
        operator: { properties: { name: { type: "keyword" }, country: { type: "keyword" } } },
        remark: { type: "text" },
        ...Object.fromEntries(sensorFields),
      },
      documents(),
    );
  },
  async check(place) {
    const columns = await place.sql(
      "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = 'stations'",
    );
    const names = Array.from({ length: sensors }, (_, at) => `sensor_${at}::double precision`);
    return [
      await rowsAre(place, {
        claim: "points, ranges, addresses and large numbers are what they were",
        sql: `SELECT station_id, serial::text, location[0] AS longitude, location[1] AS latitude,
          operating_range::text, (extract(epoch FROM lower(service_period)) * 1000)::bigint AS since,
          (extract(epoch FROM upper(service_period)) * 1000)::bigint AS until, host(address) AS address, active,
          operator_name, operator_country FROM shop.stations`,
        rows: stations.map((one, number) => ({
          station_id: one.id,
          serial: String(one.serial),
          longitude: one.longitude,
          latitude: one.latitude,
          operating_range: `[${one.from},${one.to + 1})`,
          since: one.since,
          until: one.until,
          address: one.address,
          active: number % 2 === 0,
          operator_name: `Operator ${number % 4}`,
          operator_country: "NO",
        })),
      }),
      await rowsAre(place, {
        claim: "all sixty readings of each station are there",
        sql: `SELECT station_id, array[${names.join(", ")}] AS readings FROM shop.stations`,
        rows: stations.map(({ id, readings }) => ({ station_id: id, readings })),
      }),
      finding(
        "the table has a column for each field",
        Number(columns[0]?.[0]) === sensors + 10,
        `${columns[0]?.[0]} columns`,
      ),
    ];
  },
  recording: [
    [
      ["get_mapping", { index: "{stations}" }],
      ["profile_index", { index: "{stations}" }],
      ["list_tables", { schema: "shop" }],
    ],
    [["bulk_export", { index: "{stations}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.stations" }]],
    [["create_table", { table: "shop.stations", mapping: "$.mapping_id" }]],
    [["bulk_insert", { table: "shop.stations", export_id: "$.export_id", mapping: "$.mapping_id" }]],
    [
      ["verify_load", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.stations" }],
    ],
    "All forty stations are there with all of their fields.",
  ],
};
