import type { JsonValue } from "./json-value.ts";
import { decimalText, parseDecimal } from "./numbers.ts";

/** Longitude and latitude as number texts. */
export interface GeoPoint {
  longitude: string;
  latitude: string;
  /** False where the source says less or more than a pair of numbers: a geohash is a cell, a third number is dropped. */
  exact: boolean;
}

const NUMBER = "[+-]?(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][+-]?\\d+)?";
const LAT_LON = new RegExp(`^\\s*(${NUMBER})\\s*,\\s*(${NUMBER})\\s*(?:,\\s*(${NUMBER})\\s*)?$`);
const WKT = new RegExp(`^\\s*POINT\\s*\\(\\s*(${NUMBER})\\s+(${NUMBER})(?:\\s+(${NUMBER}))?\\s*\\)\\s*$`, "i");
const GEOHASH = /^[0-9bcdefghjkmnp-z]+$/;
/** Elasticsearch reads no more digits of a geohash. */
const GEOHASH_DIGITS_MAX = 12;
const GEOHASH_DIGITS = "0123456789bcdefghjkmnpqrstuvwxyz";

/**
 * Reads one of the six forms of a geo_point: `{lat,lon}`, `"lat,lon"`, `[lon,lat]`, WKT, GeoJSON, geohash (also as `{geohash}`). Null: none
 * of them, or outside of the globe.
 */
export function readGeoPoint(value: JsonValue): GeoPoint | null {
  if (value.kind === "string") {
    const pair = LAT_LON.exec(value.text);
    if (pair !== null) return point(pair[2], pair[1], pair[3] === undefined);
    const wkt = WKT.exec(value.text);
    if (wkt !== null) return point(wkt[1], wkt[2], wkt[3] === undefined);
    return GEOHASH.test(value.text) ? decodeGeohash(value.text) : null;
  }
  if (value.kind === "array") return fromCoordinates(value.items);
  if (value.kind !== "object") return null;
  const entries = new Map(value.entries);
  const coordinates = entries.get("coordinates");
  if (coordinates !== undefined) {
    const type = entries.get("type");
    const isPoint = type?.kind === "string" && type.text.toLowerCase() === "point";
    return isPoint && coordinates.kind === "array" ? fromCoordinates(coordinates.items) : null;
  }
  const hash = entries.get("geohash");
  if (hash?.kind === "string") return GEOHASH.test(hash.text) ? decodeGeohash(hash.text) : null;
  const isFlat = !entries.has("z");
  return point(numberText(entries.get("lon")), numberText(entries.get("lat")), isFlat);
}

/** Whether an array is one point (`[lon,lat]`) and not several. */
export function isCoordinatePair(items: readonly JsonValue[]): boolean {
  return items.length >= 2 && items.length <= 3 && items.every((item) => item.kind === "number");
}

function fromCoordinates(items: readonly JsonValue[]): GeoPoint | null {
  if (!isCoordinatePair(items)) return null;
  return point(numberText(items[0]), numberText(items[1]), items.length === 2);
}

function numberText(value: JsonValue | undefined): string | undefined {
  if (value?.kind === "number") return value.raw;
  return value?.kind === "string" ? value.text : undefined;
}

function point(longitude: string | undefined, latitude: string | undefined, exact: boolean): GeoPoint | null {
  const lon = degrees(longitude, 180);
  const lat = degrees(latitude, 90);
  return lon === null || lat === null ? null : { longitude: lon, latitude: lat, exact };
}

function degrees(text: string | undefined, most: number): string | null {
  if (text === undefined) return null;
  const decimal = parseDecimal(text, { lenient: true });
  if (decimal === null || decimal === "huge") return null;
  return Math.abs(Number(text)) <= most ? decimalText(decimal) : null;
}

/** The corner of the cell in the south-west: the point that Elasticsearch takes. */
function decodeGeohash(hash: string): GeoPoint {
  const longitude: [number, number] = [-180, 180];
  const latitude: [number, number] = [-90, 90];
  let even = true;
  for (const digit of hash.slice(0, GEOHASH_DIGITS_MAX)) {
    const bits = GEOHASH_DIGITS.indexOf(digit);
    for (let bit = 4; bit >= 0; bit -= 1) {
      const range = even ? longitude : latitude;
      const middle = (range[0] + range[1]) / 2;
      range[(bits >> bit) & 1 ? 0 : 1] = middle;
      even = !even;
    }
  }
  return { longitude: String(longitude[0]), latitude: String(latitude[0]), exact: false };
}
