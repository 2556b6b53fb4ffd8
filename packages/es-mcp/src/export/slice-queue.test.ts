import { expect, it } from "vitest";
import { SliceQueue } from "./slice-queue.ts";

it("gives each slice once, in turn", () => {
  const queue = new SliceQueue();
  expect([queue.take(2)?.slice, queue.take(2)?.slice, queue.take(2)]).toEqual([0, 1, undefined]);
});

it("keeps in its checkpoint what is begun and not done, as it stands at that moment", () => {
  const queue = new SliceQueue();
  const first = queue.take(5);
  const second = queue.take(5);
  const third = queue.take(5);
  if (first === undefined || second === undefined || third === undefined) throw new Error("three slices are there");
  second.after = [7];
  queue.done(first);
  const checkpoint = queue.checkpoint();
  second.after = [8];
  expect(checkpoint).toEqual({
    reading: [
      { slice: 1, after: [7] },
      { slice: 2, after: null },
    ],
    next_slice: 3,
  });
});

it("goes on with every slice that was begun before it begins another", () => {
  const queue = new SliceQueue({
    reading: [
      { slice: 3, after: [12] },
      { slice: 5, after: null },
    ],
    nextSlice: 6,
  });
  const first = queue.take(7);
  expect(first).toEqual({ slice: 3, after: [12] });
  if (first !== undefined) queue.done(first);
  expect(queue.take(7)).toEqual({ slice: 5, after: null });
  expect(queue.take(7)).toEqual({ slice: 6, after: null });
  expect(queue.take(7)).toBeUndefined();
});
