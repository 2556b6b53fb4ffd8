import { setTimeout as sleep } from "node:timers/promises";
import type { LoadSource } from "./source.ts";

/** How often a working export is looked at for its next part, which costs about a millisecond. */
const POLL_INTERVAL_MS = 100;

/**
 * How long a part waits for those before it, in a transaction that does nothing meanwhile. Ends well before the server
 * would end such a transaction, and before a pooler loses its patience with who may be waiting for the connection.
 */
const TURN_WAIT_MS = 60_000;

/** One part on its way. */
export interface Flight {
  index: number;
  /** The part is worked beside the first one: only where a connection is to spare, and in one try. */
  isSpare: boolean;
  /** To be called when the part has its connection. Only then may another part ask for one. */
  onBegun: () => void;
  /** To be called when a try has failed and another will be made. */
  onTrouble: () => void;
  /** Settles when all parts before this one are in, and throws `GaveWay` where that cannot be waited for. */
  turn: () => Promise<void>;
}

/** A part that was worked beside the first one leaves its connection to that; it comes up again. */
export class GaveWay extends Error {
  override readonly name = "GaveWay";
}

interface PartsOptions {
  source: Pick<LoadSource, "poll">;
  /** Parts that are worked at a time. */
  atOnce: number;
  isIn: (index: number) => boolean;
  /** Brings a part in. */
  bring: (flight: Flight) => Promise<void>;
  /** Hears how many documents are expected, whenever a part may have come in; ends all by throwing. */
  review: (expected: number) => void;
  signal: AbortSignal;
}

/**
 * Brings every part in that is not, until the source is complete. The first of them is worked with patience: how it
 * ends is how all end. Those after it are worked beside it only while all goes well, and whatever goes wrong with one
 * of them is left for when it is the first itself. Throws when no part is under way any more.
 */
export async function bringParts({ source, atOnce, isIn, bring, review, signal }: PartsOptions): Promise<void> {
  const flights = new Map<number, Promise<void>>();
  const begun = new Set<number>();
  let listed: readonly number[] = [];
  let failure: { error: unknown } | undefined;
  /** Set when a part beside the first has failed, or the first met trouble, until another part is in. */
  let isAlone = false;
  let news = Promise.withResolvers<void>();
  const tell = () => {
    news.resolve();
    news = Promise.withResolvers();
  };
  const missing = () => listed.filter((index) => !isIn(index));

  async function turn(index: number): Promise<void> {
    const until = Date.now() + TURN_WAIT_MS;
    while (missing().some((other) => other < index)) {
      if (isAlone || failure !== undefined || Date.now() >= until) throw new GaveWay();
      await Promise.race([news.promise, sleep(until - Date.now(), undefined, { signal, ref: false })]);
    }
  }

  function start(index: number, isSpare: boolean): void {
    const flight: Flight = {
      index,
      isSpare,
      onBegun: () => {
        begun.add(index);
        tell();
      },
      onTrouble: () => {
        begun.delete(index);
        isAlone = true;
        tell();
      },
      turn: () => turn(index),
    };
    async function fly(): Promise<void> {
      try {
        await bring(flight);
        isAlone = false;
      } catch (error) {
        if (isSpare) isAlone = true;
        else failure ??= { error };
      }
      flights.delete(index);
      begun.delete(index);
      tell();
    }
    flights.set(index, fly());
  }

  try {
    for (;;) {
      const heard = news.promise;
      const { parts, complete, expected } = await source.poll();
      signal.throwIfAborted();
      if (failure !== undefined) throw failure.error;
      review(expected);
      listed = parts.map(({ index }) => index).toSorted((a, b) => a - b);
      const [first, ...others] = missing().slice(0, atOnce);
      if (first === undefined && complete) return;
      if (first !== undefined && !flights.has(first)) start(first, false);
      if (first !== undefined && begun.has(first) && !isAlone) {
        for (const other of others) if (!flights.has(other)) start(other, true);
      }
      // While parts are brought in, the export may list more.
      const isWanting = !complete && others.length + 1 < atOnce;
      const isIdle = first === undefined;
      const later = isWanting || isIdle ? [sleep(POLL_INTERVAL_MS, undefined, { signal })] : [];
      await Promise.race([heard, ...later]);
    }
  } catch (error) {
    failure ??= { error };
    tell();
    throw error;
  } finally {
    await Promise.all(flights.values());
  }
}
