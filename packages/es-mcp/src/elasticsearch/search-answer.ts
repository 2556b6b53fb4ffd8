import { ANSWER_BYTES_MAX, ANSWER_BYTES_TARGET, fitItems } from "@es-to-pg/mcp-kit";
import { pickFields } from "./fields.ts";
import { fitValue, jsonBytes } from "./fit.ts";
import type { SearchHit, SearchPage, SearchPosition, SearchRequest } from "./search.ts";

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
      hasMore && canContinue && page.pit !== undefined && after !== undefined
        ? { pit: page.pit, after, total: page.total, given }
        : null,
  };
}

interface Shown {
  hit: ShownHit;
  clipped: string[];
}

/** Whole hits as far as there is room; the values of a hit that would take too much of it are clipped. */
function fitHits(
  hits: readonly SearchHit[],
  show: (hit: SearchHit, bytesMax?: number) => Shown,
  bytesMax: number,
): { items: ShownHit[]; clipped: string[] } {
  const whole = hits.map((hit) => show(hit).hit);
  if (jsonBytes(whole) <= bytesMax) return { items: whole, clipped: [] };
  const share = Math.floor(bytesMax * Math.max(HIT_SHARE, 1 / hits.length)) - 2;
  const fitted = hits.map((hit) => show(hit, share));
  const { items } = fitItems(
    fitted.map(({ hit }) => hit),
    { bytesMax },
  );
  return { items, clipped: fitted.slice(0, items.length).flatMap(({ clipped }) => clipped) };
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
