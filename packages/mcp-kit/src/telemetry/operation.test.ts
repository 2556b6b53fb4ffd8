import { expect, test } from "vitest";
import { counter, type Measurement, measurements } from "./instruments.ts";
import { type Operation, operations, traced, untraced } from "./operation.ts";

const operation = (): Operation => ({ name: "work", attributes: {} });

test("runs the work alone where nobody listens, and passes on how it ended", async () => {
  expect(operations.hasSubscribers).toBe(false);
  expect(await traced(operation(), async () => 7)).toBe(7);
  expect(await untraced(async () => 8)).toBe(8);
  await expect(traced(operation(), () => Promise.reject(new Error("no")))).rejects.toThrow("no");
});

test("tells a listener how long the work took and what it said of itself", async () => {
  const told: unknown[] = [];
  const listen = (message: unknown) => told.push(message);
  operations.asyncEnd.subscribe(listen);
  try {
    await traced(operation(), async ({ attributes }) => {
      attributes["rows"] = 3;
    });
    await traced(operation(), () => Promise.reject(new Error("no"))).catch(() => {});
  } finally {
    operations.asyncEnd.unsubscribe(listen);
  }
  expect(told).toEqual([
    expect.objectContaining({ name: "work", attributes: { rows: 3 } }),
    expect.objectContaining({ name: "work", error: new Error("no") }),
  ]);
});

test("tells counts to whoever listens, and to nobody else", () => {
  const rows = counter({ name: "rows", unit: "{row}", description: "Rows", attributes: ["outcome"] });
  rows.add(1);
  const told: unknown[] = [];
  const listen = (message: unknown) => told.push(message);
  measurements.subscribe(listen);
  rows.add(2, { outcome: "inserted" });
  measurements.unsubscribe(listen);
  rows.add(3);
  expect(told).toEqual([{ instrument: rows, value: 2, attributes: { outcome: "inserted" } } satisfies Measurement]);
});
