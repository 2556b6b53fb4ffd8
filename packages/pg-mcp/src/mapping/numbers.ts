/** A decimal number exactly: digits without leading zeros, of which the last `scale` stand after the point. */
export interface Decimal {
  /** True of -0 too, which only floats tell from 0. */
  negative: boolean;
  /** Empty for zero. */
  digits: string;
  /** Negative where an exponent added zeros that are not written. */
  scale: number;
}

/** Beyond this exponent no column can hold the number, and expanding it would only cost memory. */
const EXPONENT_MAX = 200_000;
/** Digits that an unconstrained numeric keeps before and after the point. */
export const NUMERIC_INTEGER_DIGITS_MAX = 131_072;
export const NUMERIC_SCALE_MAX = 16_383;

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** What Java's number parsers read and Elasticsearch therefore accepts in a numeric field. */
const JAVA_NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/** Reads a number's text; `lenient` as Elasticsearch reads a string in a numeric field. Null: not a number. */
export function parseDecimal(text: string, options: { lenient: boolean }): Decimal | "huge" | null {
  if (!(options.lenient ? JAVA_NUMBER : JSON_NUMBER).test(text)) return null;
  const match = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(text);
  if (match === null) return null;
  const [, sign = "", integer = "", fraction = "", exponentText = "0"] = match;
  const digits = `${integer}${fraction}`.replace(/^0+/, "");
  if (digits === "") return { negative: sign === "-", digits: "", scale: Math.min(fraction.length, NUMERIC_SCALE_MAX) };
  const exponent = Number(exponentText);
  if (Math.abs(exponent) > EXPONENT_MAX) return "huge";
  return { negative: sign === "-", digits, scale: fraction.length - exponent };
}

/** Cuts to `scale` digits after the point, away from zero from one half on, or toward zero. */
export function rescale(
  decimal: Decimal,
  scale: number,
  mode: "half-up" | "truncate",
): { decimal: Decimal; exact: boolean } {
  const excess = decimal.scale - scale;
  if (excess <= 0) return { decimal, exact: true };
  const kept = decimal.digits.slice(0, Math.max(0, decimal.digits.length - excess));
  const dropped = decimal.digits.slice(kept.length).padStart(excess, "0");
  const exact = /^0*$/.test(dropped);
  const up = mode === "half-up" && (dropped[0] ?? "0") >= "5";
  const digits = (up ? (BigInt(kept || "0") + 1n).toString() : kept).replace(/^0+/, "");
  return { decimal: { negative: decimal.negative && digits !== "", digits, scale }, exact };
}

/** Digits before the point. */
export function integerDigits(decimal: Decimal): number {
  return Math.max(0, decimal.digits.length - decimal.scale);
}

/** Without exponent and with all its digits: `-0.050`. */
export function decimalText(decimal: Decimal): string {
  const { negative, scale } = decimal;
  const sign = negative ? "-" : "";
  if (decimal.digits === "") return scale > 0 ? `0.${"0".repeat(scale)}` : "0";
  if (scale <= 0) return `${sign}${decimal.digits}${"0".repeat(-scale)}`;
  const digits = decimal.digits.padStart(scale + 1, "0");
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

/** -1, 0 or 1. */
export function compareDecimals(left: Decimal, right: Decimal): number {
  const scale = Math.max(left.scale, right.scale);
  const value = (decimal: Decimal) =>
    BigInt(`${decimal.negative ? "-" : ""}${decimal.digits || "0"}`) * 10n ** BigInt(scale - decimal.scale);
  const difference = value(left) - value(right);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The float that a text means, and whether the float's shortest text is the same number again. */
export function readFloat(decimal: Decimal, bits: number): { text: string; exact: boolean } | "out_of_range" {
  const plain = `${decimal.negative ? "-" : ""}${decimal.digits || "0"}e${-decimal.scale}`;
  const double = Number(plain);
  const value = bits === 24 ? Math.fround(double) : double;
  if (!Number.isFinite(value) || (value === 0 && decimal.digits !== "")) return "out_of_range";
  // A float has a zero with a sign, and keeps it.
  const text = Object.is(value, -0) ? "-0" : bits === 24 ? shortestSingle(value) : String(value);
  const back = parseDecimal(text, { lenient: true });
  const exact = back !== null && back !== "huge" && compareDecimals(back, decimal) === 0;
  return { text, exact };
}

function shortestSingle(value: number): string {
  for (let precision = 1; precision < 9; precision += 1) {
    const text = value.toPrecision(precision);
    if (Math.fround(Number(text)) === value) return text;
  }
  return value.toPrecision(9);
}
