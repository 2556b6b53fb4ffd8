import { isIPv4, isIPv6 } from "node:net";
import type { JsonValue } from "./json-value.ts";
import { readSides, type Sides } from "./ranges.ts";
import { Refusal } from "./refusal.ts";

/** An address as a number: an IPv4 address stands where IPv6 maps it, as Elasticsearch orders them. */
const MAPPED = 0xffff_0000_0000n;
const LAST = (1n << 128n) - 1n;

/** The bits of an address: 32 or 128; 0 where the text is none, or has a zone, which no table can mean. */
export function addressBits(text: string): 0 | 32 | 128 {
  if (isIPv4(text)) return 32;
  return isIPv6(text) && !text.includes("%") ? 128 : 0;
}

/** The address as a number of its own width. */
export function addressNumber(text: string): bigint {
  if (isIPv4(text)) return join(text.split(".").map(Number), 8n);
  // The URL parser writes an IPv6 address in its one canonical form, without dotted quads.
  const [head = "", tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split("::");
  const left = hexGroups(head);
  const right = hexGroups(tail);
  return join([...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right], 16n);
}

function join(groups: readonly number[], width: bigint): bigint {
  return groups.reduce((sum, group) => (sum << width) | BigInt(group), 0n);
}

function hexGroups(part: string | undefined): number[] {
  return part ? part.split(":").map((group) => Number.parseInt(group, 16)) : [];
}

/**
 * The ends of an ip_range: a prefix such as 10.0.0.0/8, whose bits behind the prefix count for nothing, or an object
 * of bounds. Both ends are inclusive addresses.
 */
export function parseIpRange(value: JsonValue): Sides | Refusal {
  const refusal = new Refusal("not_an_ip", "The value is neither a network nor a range of addresses.", "22P02");
  if (value.kind === "string") {
    const network = parseNetwork(value.text);
    if (network === null) return refusal;
    const { first, last } = network;
    return { lower: { limit: addressValue(first), open: false }, upper: { limit: addressValue(last), open: false } };
  }
  const sides = readSides(value);
  if (sides instanceof Refusal) return sides;
  const ends: { lower: bigint | null; upper: bigint | null } = { lower: null, upper: null };
  for (const name of ["lower", "upper"] as const) {
    const side = sides[name];
    if (side === null) continue;
    if (side.limit.kind !== "string" || addressBits(side.limit.text) === 0) return refusal;
    const number = ordered(side.limit.text);
    ends[name] = side.open ? number + (name === "lower" ? 1n : -1n) : number;
  }
  const { lower, upper } = ends;
  if ((lower ?? 0n) > (upper ?? LAST) || (lower ?? 0n) > LAST || (upper ?? 0n) < 0n) {
    return new Refusal("not_a_range", "The range ends before it starts.", "22000");
  }
  return {
    lower: lower === null ? null : { limit: addressValue(lower), open: false },
    upper: upper === null ? null : { limit: addressValue(upper), open: false },
  };
}

/** The network that a value of an ip_range is, as PostgreSQL writes one; a range that is no network is refused. */
export function networkOf(value: JsonValue): string | Refusal {
  if (value.kind === "string") {
    const network = parseNetwork(value.text);
    if (network !== null) return `${addressText(network.first)}/${network.prefix}`;
    return new Refusal("not_an_ip", "The value is not an IPv4 or IPv6 network.", "22P02");
  }
  const sides = parseIpRange(value);
  if (sides instanceof Refusal) return sides;
  const refusal = new Refusal("not_an_ip", "The range of addresses is not one network.", "22P02");
  const { lower, upper } = sides;
  if (lower?.limit.kind !== "string" || upper?.limit.kind !== "string") return refusal;
  const first = ordered(lower.limit.text);
  const size = ordered(upper.limit.text) - first + 1n;
  const bits = first >> 32n === MAPPED >> 32n ? 32 : 128;
  const hostBits = size.toString(2).length - 1;
  if (size !== 1n << BigInt(hostBits) || first % size !== 0n || hostBits > bits) return refusal;
  return `${lower.limit.text}/${bits - hostBits}`;
}

/** `address/prefix`; Elasticsearch takes no IPv4 address mapped into IPv6 here. */
function parseNetwork(given: string): { first: bigint; last: bigint; prefix: number } | null {
  const [address = "", length = "", ...rest] = given.split("/");
  const bits = addressBits(address);
  if (bits === 0 || rest.length > 0 || !/^\d{1,3}$/.test(length) || Number(length) > bits) return null;
  const number = ordered(address);
  if (bits === 128 && number >> 32n === MAPPED >> 32n) return null;
  const size = 1n << BigInt(bits - Number(length));
  const first = number - (number % size);
  return { first, last: first + size - 1n, prefix: Number(length) };
}

function ordered(address: string): bigint {
  return isIPv4(address) ? MAPPED | addressNumber(address) : addressNumber(address);
}

function addressText(number: bigint): string {
  const isMapped = number >> 32n === MAPPED >> 32n;
  const [count, width] = isMapped ? [4, 8n] : [8, 16n];
  const mask = (1n << width) - 1n;
  const groups = Array.from({ length: count }, (_, index) => (number >> (width * BigInt(count - 1 - index))) & mask);
  return isMapped ? groups.join(".") : groups.map((group) => group.toString(16)).join(":");
}

function addressValue(number: bigint): JsonValue {
  const address = addressText(number);
  return { kind: "string", text: address, raw: JSON.stringify(address) };
}
