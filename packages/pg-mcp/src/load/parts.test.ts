import { setImmediate as soon } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { bringParts, type Flight, GaveWay } from "./parts.ts";
import type { LoadSource } from "./source.ts";

/** Parts that end when the test says so. */
function open(options: { parts: number; atOnce: number; review?: (expected: number) => void; signal?: AbortSignal }) {
  const under = new Map<number, { flight: Flight; end: (error?: unknown) => void }>();
  const isIn = new Set<number>();
  const state = { listed: options.parts, complete: true };
  const source: Pick<LoadSource, "poll"> = {
    poll: async () => ({
      parts: Array.from({ length: state.listed }, (_, index) => ({ index, documents: 10 })),
      complete: state.complete,
      expected: 10 * state.listed,
    }),
  };
  const ended = bringParts({
    source,
    atOnce: options.atOnce,
    isIn: (index) => isIn.has(index),
    bring: async (flight) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      under.set(flight.index, { flight, end: (error) => (error === undefined ? resolve() : reject(error)) });
      flight.onBegun();
      try {
        await promise;
        isIn.add(flight.index);
      } finally {
        under.delete(flight.index);
      }
    },
    review: options.review ?? (() => {}),
    signal: options.signal ?? new AbortController().signal,
  });
  ended.catch(() => {});
  /** Which parts are under way once all is quiet; those beside the first in brackets. */
  const way = async () => {
    for (let turns = 0; turns < 20; turns++) await soon();
    return [...under.values()]
      .map(({ flight }) => (flight.isSpare ? `(${flight.index})` : `${flight.index}`))
      .join(" ");
  };
  const end = (index: number, error?: unknown) => under.get(index)?.end(error);
  return { ended, way, end, under, isIn, state };
}

describe("bringParts", () => {
  it("works so many parts at a time, and the next when one is in", async () => {
    const { ended, way, end, isIn } = open({ parts: 4, atOnce: 2 });
    expect(await way()).toBe("0 (1)");
    end(1);
    expect(await way()).toBe("0 (2)");
    end(0);
    expect(await way()).toBe("(2) (3)");
    end(2);
    end(3);
    await ended;
    expect([...isIn]).toEqual([1, 0, 2, 3]);
  });

  it("works one part after the other where one is allowed", async () => {
    const { ended, way, end } = open({ parts: 2, atOnce: 1 });
    expect(await way()).toBe("0");
    end(0);
    expect(await way()).toBe("1");
    end(1);
    await ended;
  });

  it("leaves what fails beside the first part for when it is the first itself, and works alone until then", async () => {
    const { ended, way, end } = open({ parts: 3, atOnce: 2 });
    await way();
    end(1, new Error("no connection is to spare"));
    expect(await way()).toBe("0");
    end(0);
    expect(await way()).toBe("1 (2)");
    end(1, new Error("the table is gone"));
    await way();
    end(2);
    await expect(ended).rejects.toThrow("the table is gone");
  });

  it("ends when the last part under way has ended", async () => {
    const { ended, way, end, isIn } = open({ parts: 3, atOnce: 2 });
    await way();
    end(0, new Error("refused"));
    let hasEnded = false;
    void ended.catch(() => {}).then(() => (hasEnded = true));
    expect(await way()).toBe("(1)");
    expect(hasEnded).toBe(false);
    end(1);
    await expect(ended).rejects.toThrow("refused");
    expect([...isIn]).toEqual([1]);
  });

  it("is ended by who reviews it once a part is in", async () => {
    const isIn = new Set<number>();
    const review = (expected: number) => {
      if (isIn.size > 0) throw new Error(`${isIn.size} of ${expected}`);
    };
    const { ended, way, end } = open({ parts: 2, atOnce: 1, review });
    await way();
    isIn.add(0);
    end(0);
    await expect(ended).rejects.toThrow("1 of 20");
  });

  it("gives a part its turn when all before it are in", async () => {
    const { ended, way, end, under } = open({ parts: 3, atOnce: 3 });
    await way();
    const turns: number[] = [];
    for (const [index, { flight }] of under) void flight.turn().then(() => turns.push(index));
    await way();
    expect(turns).toEqual([0]);
    end(1);
    await way();
    expect(turns).toEqual([0]);
    end(0);
    await way();
    expect(turns).toEqual([0, 1, 2]);
    end(2);
    await ended;
  });

  it.each<[string, (opened: ReturnType<typeof open>) => void]>([
    ["the first part is tried again", ({ under }) => under.get(0)?.flight.onTrouble()],
    ["the first part has failed", ({ end }) => end(0, new Error("refused"))],
    ["a part before it has failed", ({ end }) => end(1, new Error("lost"))],
  ])("lets no part wait for its turn when %s", async (_, happen) => {
    const opened = open({ parts: 3, atOnce: 3 });
    await opened.way();
    const turn = opened.under.get(2)?.flight.turn();
    turn?.catch(() => {});
    await opened.way();
    happen(opened);
    await expect(turn).rejects.toThrow(GaveWay);
    for (const index of [0, 1, 2]) opened.end(index, new Error("the test is over"));
    await opened.way();
    opened.end(0);
    for (const index of [1, 2]) {
      await opened.way();
      opened.end(index);
    }
    await opened.ended.catch(() => {});
  });

  it("takes up what a working export lists while a part is under way", async () => {
    const { ended, way, end, state, isIn } = open({ parts: 1, atOnce: 2 });
    state.complete = false;
    expect(await way()).toBe("0");
    state.listed = 2;
    state.complete = true;
    await expect.poll(way).toBe("0 (1)");
    end(0);
    end(1);
    await ended;
    expect(isIn.size).toBe(2);
  });

  it("ends with the signal's reason when the load is stopped", async () => {
    const stop = new AbortController();
    const { ended, way, end } = open({ parts: 2, atOnce: 2, signal: stop.signal });
    await way();
    stop.abort(new Error("cancelled"));
    end(0, new Error("cut off"));
    end(1, new Error("cut off"));
    await expect(ended).rejects.toThrow("cancelled");
  });
});
