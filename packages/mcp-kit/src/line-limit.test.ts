import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { LineLimit } from "./line-limit.ts";

/** Sends the text in pieces of `size` bytes through a limit of 100 bytes a line. */
async function through(lines: string, size: number) {
  const dropped: { bytes: number; id: string | number | null }[] = [];
  const limit = new LineLimit(100, (line) => dropped.push(line));
  const bytes = Buffer.from(lines);
  for (let start = 0; start < bytes.length; start += size) limit.write(bytes.subarray(start, start + size));
  limit.end();
  return { passed: await text(limit), dropped };
}

const long = JSON.stringify("x".repeat(2000));
const first = `{"jsonrpc":"2.0","id":7,"method":"m","params":${long}}`;
const last = `{"method":"m","params":${long},"jsonrpc":"2.0","id":"seven"}`;
const middle = `{"method":"m","id":7,"params":${long},"jsonrpc":"2.0"}`;
const nested = `{"method":"m","params":{"t":${long},"id":7},"jsonrpc":"2.0"}`;

test.each([1, 7, 99, 4096])(
  "drops lines that are too long and passes the others, in pieces of %d bytes",
  async (size) => {
    const { passed, dropped } = await through(`short\n${first}\n{}\n${last}\n${middle}\n${nested}\nend\n`, size);
    expect(passed).toBe("short\n{}\nend\n");
    expect(dropped).toEqual([
      { bytes: first.length + 1, id: 7 },
      { bytes: last.length + 1, id: "seven" },
      { bytes: middle.length + 1, id: null },
      { bytes: nested.length + 1, id: null },
    ]);
  },
);

test("passes a line of just the limit", async () => {
  const line = `${"y".repeat(99)}\n`;
  expect(await through(line, 10)).toEqual({ passed: line, dropped: [] });
});
