import { ANSWER_BYTES_MAX, ANSWER_BYTES_TARGET } from "@es-to-pg/mcp-kit";
import { pickFields } from "./fields.ts";
import { fitValue, jsonBytes } from "./fit.ts";
import { hitsDigest, type SearchHit, type SearchPage, type SearchPosition, type SearchRequest } from "./search.ts";

/** Totals, hints and names around hits and aggregations. */
const ENVELOPE_BYTES = 700;

/** A snapshot over very many shards has an id that would fill the answer. */
const CURSOR_BYTES_MAX = 4_096;

/** Of several hits, one may take this part of the room before its long values are clipped. */
const HIT_SHARE = 1 / 4;

/** Places that an answer names as clipped. */
const CLIPPED_MAX = 12;

/** A hit as the model sees it. */
interface ShownHit {
  _id: string;
  [member: string]: unknown;
}

export interface SearchAnswer {
  total: number;
  returned: number;
  hits: ShownHit[];
  aggregations?: unknown;
  cut_by?: "size" | "bytes";
  clipped?: string[];
}

/** How the request wants its hits to look. */
export interface HitShape {
  fields: readonly string[] | undefined;
  /** Whether an explicit size asks for more than the usual answer. */
  large: boolean;
}

/**
 * The part of a page that fits an answer: whole hits, long values of large ones clipped. `next` is where the following
 * page goes on, or null where this is the last one or none can follow.
 */
export function fitPage(
  page: SearchPage,
  request: SearchRequest,
  { fields, large }: HitShape,
): { answer: SearchAnswer; next: SearchPosition | null; hasMore: boolean } {
  const { size, indices, position } = request;
  const cursorBytes = page.pit === undefined ? 0 : Math.ceil((page.pit.length + 400) * (4 / 3));
  const canContinue = cursorBytes > 0 && cursorBytes <= CURSOR_BYTES_MAX;
  const room = (large ? ANSWER_BYTES_MAX : ANSWER_BYTES_TARGET) - ENVELOPE_BYTES - (canContinue ? cursorBytes : 0);
  const aggregations =
    page.aggregations === undefined ? undefined : fitValue(page.aggregations, size === 0 ? room : room / 2);
  const show = (hit: SearchHit, bytesMax?: number) =>
    shownHit(hit, {
      fields,
      named: indices.length > 1,
      scored: request.query !== undefined && request.sort.length === 0,
      bytesMax,
    });
  const hits = fitHits(page.hits, show, room - (aggregations === undefined ? 0 : jsonBytes(aggregations.value)));

  const returned = hits.items.length;
  const given = (position?.given ?? 0) + returned;
  const hasMore = size > 0 && returned > 0 && given < page.total;
  const after = page.hits[returned - 1]?.sort;
  const clipped = [...new Set([...hits.clipped, ...(aggregations?.clipped ?? [])])].slice(0, CLIPPED_MAX);
  return {
    answer: {
      total: page.total,
      returned,
      hits: hits.items,
      ...(aggregations === undefined ? {} : { aggregations: aggregations.value }),
      ...(hasMore ? { cut_by: returned < page.hits.length ? "bytes" : "size" } : {}),
      ...(clipped.length === 0 ? {} : { clipped }),
    },
    hasMore,
    next:
      hasMore && canContinue && page.pit !== undefined
        ? {
            pit: page.pit,
            total: page.total,
            given,
            ...(after === undefined ? { first: hitsDigest(page.hits.slice(0, returned)) } : { after }),
          }
        : null,
  };
}

interface Shown {
  hit: ShownHit;
  clipped: string[];
}

interface Measured extends Shown {
  bytes: number;
}

/** Whole hits as far as there is room; the values of a hit that would take too much of it are clipped. */
function fitHits(
  hits: readonly SearchHit[],
  show: (hit: SearchHit, bytesMax?: number) => Shown,
  bytesMax: number,
): { items: ShownHit[]; clipped: string[] } {
  const whole = firstFitting(hits, (hit) => measured(show(hit)), { bytesMax, least: 0 });
  const share = Math.floor(bytesMax * Math.max(HIT_SHARE, 1 / hits.length)) - 2;
  const clip = (hit: SearchHit, at: number): Measured => {
    const known = whole[at];
    // So small a hit has nothing in it that would be clipped, and need not be measured again.
    return known !== undefined && known.bytes <= share / 2 ? known : measured(show(hit, share));
  };
  const given = whole.length === hits.length ? whole : firstFitting(hits, clip, { bytesMax, least: 1 });
  return { items: given.map(({ hit }) => hit), clipped: given.flatMap(({ clipped }) => clipped) };
}

function measured(shown: Shown): Measured {
  return { ...shown, bytes: jsonBytes(shown.hit) };
}

/** The hits, from the first on, that fit in `bytesMax` bytes together. None beyond them is measured but the next. */
function firstFitting(
  hits: readonly SearchHit[],
  measure: (hit: SearchHit, at: number) => Measured,
  { bytesMax, least }: { bytesMax: number; least: number },
): Measured[] {
  const fitting: Measured[] = [];
  // The brackets; every hit after the first brings a comma.
  let bytes = 1;
  for (const [at, hit] of hits.entries()) {
    const next = measure(hit, at);
    bytes += next.bytes + 1;
    if (bytes > bytesMax && fitting.length >= least) break;
    fitting.push(next);
  }
  return fitting;
}

function shownHit(
  { _id, _index, _routing, _score, _source, highlight }: SearchHit,
  options: { fields: readonly string[] | undefined; named: boolean; scored: boolean; bytesMax: number | undefined },
): Shown {
  const { fields, named, scored, bytesMax = Number.POSITIVE_INFINITY } = options;
  const source = fitValue(fields === undefined ? (_source ?? null) : pickFields(_source, fields), bytesMax);
  const hit = {
    _id,
    ...(named ? { _index } : {}),
    ...(_routing === undefined ? {} : { _routing }),
    ...(scored && _score != null ? { _score } : {}),
    _source: source.value,
    ...(highlight === undefined ? {} : { highlight: fitValue(highlight, bytesMax / 2).value }),
  };
  return { hit, clipped: source.clipped };
}
