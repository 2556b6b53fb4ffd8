const DATE =
  /^(?:(?<y>\d{4})(?<s>[-/.])(?<m>\d{1,2})\k<s>(?<d>\d{1,2})|(?<first>\d{1,2})(?<t>[-/.])(?<second>\d{1,2})\k<t>\d{4})(?=[T ]|$)/;
const TIME =
  /^(?<between>[T ])\d{2}:\d{2}(?<seconds>:\d{2}(?:(?<point>[.,])(?<fraction>\d{1,9}))?)?(?<zone> ?(?:Z|[+-]\d{2}(?::?\d{2})?))?$/;

/**
 * The format of a text that is written like a date, as a date field's `format` in Elasticsearch spells it: year first, or
 * last with day and month before it. Where both could be meant, both are named, with `||` between. Undefined for other texts.
 */
export function dateFormat(text: string): string | undefined {
  const date = DATE.exec(text);
  if (date?.groups === undefined) return undefined;
  const { y, s = "", m = "", d = "", first = "", t = "", second = "" } = date.groups;
  const time = timeFormat(text.slice(date[0].length));
  if (time === undefined) return undefined;
  if (y !== undefined) {
    const legal = isIn(m, 12) && isIn(d, 31);
    return legal ? `yyyy${s}${"M".repeat(m.length)}${s}${"d".repeat(d.length)}${time}` : undefined;
  }
  const dayFirst = `${"d".repeat(first.length)}${t}${"M".repeat(second.length)}${t}yyyy${time}`;
  const monthFirst = `${"M".repeat(first.length)}${t}${"d".repeat(second.length)}${t}yyyy${time}`;
  const readings = [
    ...(isIn(first, 31) && isIn(second, 12) ? [dayFirst] : []),
    // Nobody writes a month before a dot.
    ...(isIn(first, 12) && isIn(second, 31) && t !== "." ? [monthFirst] : []),
  ];
  return readings.length === 0 ? undefined : readings.join("||");
}

function timeFormat(text: string): string | undefined {
  if (text === "") return "";
  const time = TIME.exec(text);
  if (time?.groups === undefined) return undefined;
  const { between, seconds, point = "", fraction = "", zone = "" } = time.groups;
  const fractionFormat = `${point}${"S".repeat(fraction.length)}`;
  return `${between === "T" ? "'T'" : " "}HH:mm${seconds === undefined ? "" : `:ss${fractionFormat}`}${zoneFormat(zone)}`;
}

/** `X` reads hours, `XX` and `XXX` minutes too, without and with a colon; all of them read `Z`. */
function zoneFormat(zone: string): string {
  if (zone === "") return "";
  const bare = zone.trimStart();
  const letters = bare.includes(":") ? "XXX" : bare.length === 5 ? "XX" : "X";
  return zone === bare ? letters : ` ${letters}`;
}

function isIn(digits: string, most: number): boolean {
  const number = Number(digits);
  return number >= 1 && number <= most;
}
