/** A moment of UTC: whole seconds since 1970 and nanoseconds, 0 ≤ nanos < 1e9. */
export interface Instant {
  seconds: number;
  nanos: number;
}

/** What Elasticsearch assumes for a date field without `format`. */
export const DEFAULT_DATE_FORMAT = "strict_date_optional_time||epoch_millis";
export const DEFAULT_DATE_NANOS_FORMAT = "strict_date_optional_time_nanos||epoch_millis";
/** Of texts that are no date field's: ISO, or what SQL writes and every answer of this server shows. */
export const TEXT_DATE_FORMAT = "strict_date_optional_time||sql_timestamp";

type Reader = (text: string) => Instant | null;

/** Reads texts by a list of formats, or says which of the formats it does not know. */
export type DateReader = { read: Reader; unknown: null } | { read: null; unknown: string };

const ZONE = "(?<zone>Z|[+-]\\d{2}(?::?\\d{2}(?::?\\d{2})?)?)";
const FRACTION = "\\.(?<fraction>\\d{1,9})";
const OPTIONAL_FRACTION = "(?:[.,](?<fraction>\\d{1,9}))?";

/**
 * Regular expressions of the named formats; `digits` of month, day and time are one or two without `strict_`. Their
 * oddities (which parts are optional where) are Elasticsearch's own, found by trying, and tested against it.
 */
function namedFormats(digits: "{2}" | "{1,2}"): Record<string, string> {
  const Y = digits === "{2}" ? "(?<year>-?\\d{4})" : "(?<year>-?\\d{1,9})";
  const M = `(?<month>\\d${digits})`;
  const D = `(?<day>\\d${digits})`;
  const H = `(?<hour>\\d${digits})`;
  const HM = `${H}:(?<minute>\\d${digits})`;
  const HMS = `${HM}:(?<second>\\d${digits})`;
  const optionalSeconds = `${HM}(?::(?<second>\\d${digits}))?`;
  const date = `${Y}-${M}-${D}`;
  const optionalTime = `${H}(?::(?<minute>\\d${digits})(?::(?<second>\\d${digits})${OPTIONAL_FRACTION})?)?`;
  const optional = `${Y}(?:-${M}(?:-${D}(?:T(?:${optionalTime})?${ZONE}?)?)?)?`;
  const optionalDay = `${Y}(?:-${M}(?:-${D})?)?`;
  const ordinal = `${Y}-(?<ordinal>\\d${digits === "{2}" ? "{3}" : "{1,3}"})`;
  const week = "(?<weekYear>\\d{4})-W(?<week>\\d{2})";
  return {
    date_optional_time: optional,
    date_optional_time_nanos: `${Y}(?:-${M}(?:-${D}(?:T${HMS}${OPTIONAL_FRACTION}${ZONE}?)?)?)?`,
    date: digits === "{2}" ? date : optionalDay,
    year: Y,
    year_month: `${Y}-${M}`,
    year_month_day: digits === "{2}" ? optionalDay : date,
    date_hour: `${date}T${H}`,
    date_hour_minute: `${date}T${HM}`,
    date_hour_minute_second: `${date}T${HMS}`,
    date_hour_minute_second_millis: `${date}T${HMS}${FRACTION}`,
    date_hour_minute_second_fraction: `${date}T${HMS}${FRACTION}`,
    date_time:
      digits === "{2}"
        ? `${date}T${HMS}(?:${FRACTION})?${ZONE}`
        : `${date}T${HM}(?::(?<second>\\d${digits})${FRACTION})?${ZONE}`,
    date_time_no_millis: digits === "{2}" ? `${date}T${HMS}${ZONE}` : `${date}T${optionalSeconds}${ZONE}?`,
    hour: H,
    hour_minute: HM,
    hour_minute_second: HMS,
    hour_minute_second_millis: `${HMS}${FRACTION}`,
    hour_minute_second_fraction: `${HMS}${FRACTION}`,
    time: `${HMS}${FRACTION}${ZONE}`,
    time_no_millis: `${HMS}${ZONE}`,
    ordinal_date: ordinal,
    ordinal_date_time: `${ordinal}T${HMS}${FRACTION}${ZONE}`,
    ordinal_date_time_no_millis: `${ordinal}T${HMS}${ZONE}`,
    week_date: `${week}-(?<weekday>\\d)`,
    weekyear_week_day: `${week}-(?<weekday>\\d)`,
    weekyear_week: week,
  };
}

const BASIC_DATE = "(?<year>\\d{4})(?<month>\\d{2})(?<day>\\d{2})";
const BASIC_TIME = "(?<hour>\\d{2})(?<minute>\\d{2})(?<second>\\d{2})";
const BASIC_FORMATS: Record<string, string> = {
  basic_date: BASIC_DATE,
  basic_date_time: `${BASIC_DATE}T${BASIC_TIME}\\.(?<fraction>\\d{1,9})(?<zone>Z|[+-]\\d{4})`,
  basic_date_time_no_millis: `${BASIC_DATE}T${BASIC_TIME}(?<zone>Z|[+-]\\d{4})`,
  basic_ordinal_date: "(?<year>\\d{4})(?<ordinal>\\d{3})",
};

/** The one name that is not Elasticsearch's: `2024-01-31 10:00:00.5+00`, unambiguous and yet no ISO form. */
const SQL_TIMESTAMP = `(?<year>\\d{4})-(?<month>\\d{2})-(?<day>\\d{2}) (?<hour>\\d{2}):(?<minute>\\d{2})(?::(?<second>\\d{2})(?:${FRACTION})?)?${ZONE}?`;

const STRICT_FORMATS = namedFormats("{2}");
const LENIENT_FORMATS = namedFormats("{1,2}");

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH_SHORT = "(?<monthName>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)";
const MONTH_LONG =
  "(?<monthName>January|February|March|April|May|June|July|August|September|October|November|December)";

/**
 * Compiles the `format` of a date field (`a||b`, tried in this order as Elasticsearch does). Zone-less texts are UTC,
 * missing parts are the first of their kind, and days are checked against their month.
 */
export function dateReader(format: string): DateReader {
  const readers: Reader[] = [];
  for (const one of format.split("||")) {
    const reader = oneReader(one.trim());
    if (reader === null) return { read: null, unknown: one.trim() };
    readers.push(reader);
  }
  return {
    unknown: null,
    read(text) {
      for (const reader of readers) {
        const instant = reader(text);
        if (instant !== null) return instant;
      }
      return null;
    },
  };
}

/**
 * Whether a text of the plain ISO form means the same under this format as under `strict_date_optional_time`:
 * `with_seconds` only where its time has seconds.
 */
export function readsIso(format: string): "always" | "with_seconds" | "never" {
  const [first] = format.split("||", 1);
  if (first === "strict_date_optional_time" || first === "date_optional_time") return "always";
  return first === "strict_date_optional_time_nanos" ? "with_seconds" : "never";
}

function oneReader(name: string): Reader | null {
  if (name === "epoch_millis") return (text) => epoch(text, 3);
  if (name === "epoch_second") return (text) => epoch(text, 0);
  const named =
    name === "iso8601"
      ? STRICT_FORMATS["date_optional_time"]
      : name.startsWith("strict_")
        ? STRICT_FORMATS[name.slice("strict_".length)]
        : name === "sql_timestamp"
          ? SQL_TIMESTAMP
          : (LENIENT_FORMATS[name] ?? BASIC_FORMATS[name]);
  const expression = named ?? patternExpression(name);
  return expression === null ? null : expressionReader(expression);
}

/** A Java date pattern (`dd/MM/yyyy HH:mm:ss.SSSXXX`) as a regular expression; null for letters it does not know. */
function patternExpression(pattern: string): string | null {
  const text = pattern.startsWith("8") ? pattern.slice(1) : pattern;
  let expression = "";
  let optional = 0;
  for (let at = 0; at < text.length; ) {
    const letter = text[at] ?? "";
    if (letter === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) return null;
      expression += end === at + 1 ? "'" : escape(text.slice(at + 1, end));
      at = end + 1;
    } else if (letter === "[") {
      expression += "(?:";
      optional += 1;
      at += 1;
    } else if (letter === "]") {
      if (optional === 0) return null;
      expression += ")?";
      optional -= 1;
      at += 1;
    } else if (/[a-zA-Z]/.test(letter)) {
      let count = 1;
      while (text[at + count] === letter) count += 1;
      const part = patternPart(letter, count);
      if (part === null) return null;
      expression += part;
      at += count;
    } else {
      expression += escape(letter);
      at += 1;
    }
  }
  // A group that is named twice makes no expression: such patterns count as unknown.
  const names = [...expression.matchAll(/\(\?<(\w+)>/g)].map((match) => match[1]);
  return optional === 0 && new Set(names).size === names.length ? expression : null;
}

function patternPart(letter: string, count: number): string | null {
  const twoDigits = (name: string) => (count > 2 ? null : `(?<${name}>\\d{${count === 1 ? "1,2" : "2"}})`);
  switch (letter) {
    case "y":
    case "u":
      if (count === 2) return "(?<year2>\\d{2})";
      return count === 1 ? "(?<year>\\d{1,4})" : count === 4 ? "(?<year>\\d{4})" : null;
    case "M":
    case "L":
      return count === 3 ? MONTH_SHORT : count === 4 ? MONTH_LONG : twoDigits("month");
    case "d":
      return twoDigits("day");
    case "D":
      return count > 3 ? null : `(?<ordinal>\\d{${count === 3 ? "3" : "1,3"}})`;
    case "H":
      return twoDigits("hour");
    case "h":
      return twoDigits("hour12");
    case "m":
      return twoDigits("minute");
    case "s":
      return twoDigits("second");
    case "S":
      return count > 9 ? null : `(?<fraction>\\d{${count}})`;
    case "a":
      return count === 1 ? "(?<half>AM|PM|am|pm)" : null;
    case "E":
      return count <= 3
        ? "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
        : count === 4
          ? "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
          : null;
    case "X":
      return (
        ["(?<zone>Z|[+-]\\d{2}(?:\\d{2})?)", "(?<zone>Z|[+-]\\d{4})", "(?<zone>Z|[+-]\\d{2}:\\d{2})"][count - 1] ?? null
      );
    case "x":
      return ["(?<zone>[+-]\\d{2}(?:\\d{2})?)", "(?<zone>[+-]\\d{4})", "(?<zone>[+-]\\d{2}:\\d{2})"][count - 1] ?? null;
    case "Z":
      return count <= 3 ? "(?<zone>[+-]\\d{4})" : count === 5 ? "(?<zone>Z|[+-]\\d{2}:\\d{2})" : null;
    case "z":
      return "(?<zone>Z|UTC|GMT)";
    default:
      return null;
  }
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}

function expressionReader(source: string): Reader {
  const expression = new RegExp(`^(?:${source})$`);
  return (text) => {
    const groups = expression.exec(text)?.groups;
    return groups === undefined ? null : fromGroups(groups);
  };
}

function fromGroups(groups: Record<string, string | undefined>): Instant | null {
  const number = (name: string, otherwise: number) => {
    const digits = groups[name];
    return digits === undefined ? otherwise : Number(digits);
  };
  const year = groups["year2"] === undefined ? number("year", 1970) : 2000 + number("year2", 0);
  let days: number;
  if (groups["weekYear"] !== undefined) {
    const week = number("week", 1);
    const weekday = number("weekday", 1);
    if (week < 1 || week > 53 || weekday < 1 || weekday > 7) return null;
    const january4 = daysFromCivil(number("weekYear", 1970), 1, 4);
    const monday = january4 - ((((january4 + 3) % 7) + 7) % 7);
    days = monday + (week - 1) * 7 + weekday - 1;
  } else if (groups["ordinal"] !== undefined) {
    const ordinal = number("ordinal", 1);
    if (ordinal < 1 || ordinal > (isLeap(year) ? 366 : 365)) return null;
    days = daysFromCivil(year, 1, 1) + ordinal - 1;
  } else {
    const monthName = groups["monthName"];
    const month =
      monthName === undefined ? number("month", 1) : MONTHS.indexOf(monthName.slice(0, 3).toLowerCase()) + 1;
    const day = number("day", 1);
    if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return null;
    days = daysFromCivil(year, month, day);
  }
  let hour = number("hour", 0);
  const hour12 = groups["hour12"];
  if (hour12 !== undefined) {
    // Without AM or PM, half of the day is unknown: Elasticsearch refuses such a text too.
    if (groups["half"] === undefined || Number(hour12) < 1 || Number(hour12) > 12) return null;
    hour = (Number(hour12) % 12) + (groups["half"].toLowerCase() === "pm" ? 12 : 0);
  }
  const minute = number("minute", 0);
  const second = number("second", 0);
  if (hour > 23 || minute > 59 || second > 59) return null;
  const offset = zoneSeconds(groups["zone"]);
  if (offset === null) return null;
  return {
    seconds: days * 86_400 + hour * 3600 + minute * 60 + second - offset,
    nanos: Number((groups["fraction"] ?? "").padEnd(9, "0")),
  };
}

function zoneSeconds(zone: string | undefined): number | null {
  if (zone === undefined || /^(?:Z|UTC|GMT)$/.test(zone)) return 0;
  const digits = zone.replaceAll(":", "").slice(1).padEnd(6, "0");
  const hours = Number(digits.slice(0, 2));
  const minutes = Number(digits.slice(2, 4));
  const seconds = Number(digits.slice(4, 6));
  // 18 hours is the widest offset that Elasticsearch's clock knows.
  if (hours > 18 || minutes > 59 || seconds > 59 || (hours === 18 && minutes + seconds > 0)) return null;
  return (zone.startsWith("-") ? -1 : 1) * (hours * 3600 + minutes * 60 + seconds);
}

function epoch(text: string, unitDigits: 0 | 3): Instant | null {
  const match = /^(-?)(\d{1,19})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return null;
  const fraction = (match[3] ?? "").padEnd(9, "0");
  const scaled = BigInt(`${match[2]}${fraction}`);
  const nanos = (match[1] === "-" ? -scaled : scaled) / 10n ** BigInt(unitDigits);
  const seconds = nanos / 1_000_000_000n;
  const rest = nanos % 1_000_000_000n;
  return rest < 0n
    ? { seconds: Number(seconds - 1n), nanos: Number(rest + 1_000_000_000n) }
    : { seconds: Number(seconds), nanos: Number(rest) };
}

/** Rounds to `digits` fraction digits of a second, half up; `exact` is false if something was lost. */
export function roundInstant(instant: Instant, digits: number): { instant: Instant; exact: boolean } {
  const unit = 10 ** (9 - digits);
  const rest = instant.nanos % unit;
  if (rest === 0) return { instant, exact: true };
  const nanos = instant.nanos - rest + (rest * 2 >= unit ? unit : 0);
  return nanos === 1_000_000_000
    ? { instant: { seconds: instant.seconds + 1, nanos: 0 }, exact: false }
    : { instant: { seconds: instant.seconds, nanos }, exact: false };
}

/** Seconds of the first and after the last day that a timestamp of PostgreSQL can hold. */
const SECONDS_MIN = daysFromCivil(-4713, 11, 24) * 86_400;
const SECONDS_END = daysFromCivil(294_277, 1, 1) * 86_400;

export function isInTimestampRange(instant: Instant): boolean {
  return instant.seconds >= SECONDS_MIN && instant.seconds < SECONDS_END;
}

/** `2023-01-15` and `10:00:00.5` of an instant, as PostgreSQL reads them; `era` is ` BC` before the year 1. */
export function instantText(instant: Instant): { date: string; time: string; era: string } {
  const days = Math.floor(instant.seconds / 86_400);
  const { year, month, day } = civilFromDays(days);
  const second = instant.seconds - days * 86_400;
  const fraction = instant.nanos === 0 ? "" : `.${pad(instant.nanos, 9).replace(/0+$/, "")}`;
  return {
    date: `${pad(year > 0 ? year : 1 - year, 4)}-${pad(month)}-${pad(day)}`,
    time: `${pad(Math.floor(second / 3600))}:${pad(Math.floor((second % 3600) / 60))}:${pad(second % 60)}${fraction}`,
    era: year > 0 ? "" : " BC",
  };
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}

function isLeap(year: number): boolean {
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
}

export function daysInMonth(year: number, month: number): number {
  return month === 2 ? (isLeap(year) ? 29 : 28) : month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** Days since 1970-01-01 of the proleptic Gregorian calendar (the arithmetic of H. Hinnant's `days_from_civil`). */
function daysFromCivil(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

function civilFromDays(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1;
  const month = shiftedMonth + (shiftedMonth < 10 ? 3 : -9);
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}
