import { expect, test } from "vitest";
import { createLogger } from "./log.ts";

function lines(level: "debug" | "info" | "warn" | "error") {
  const written: string[] = [];
  return { logger: createLogger({ level, write: (text) => written.push(text) }), written };
}

test("writes events of its level and above as JSON lines", () => {
  const { logger, written } = lines("warn");
  logger.info("quiet");
  logger.warn("odd", { count: 1 });
  expect(written).toHaveLength(1);
  expect(written[0]).toMatch(/\}\n$/);
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ level: "warn", event: "odd", count: 1 });
});

test("writes what an error says and what caused it", () => {
  const { logger, written } = lines("error");
  logger.error("failed", { error: new Error("outer", { cause: new Error("inner") }) });
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ error: { message: "outer", cause: { message: "inner" } } });
});

test("writes no password of an address", () => {
  const { logger, written } = lines("error");
  logger.error("failed", { error: new Error("connect postgres://me:geheim@db:5432/x") });
  expect(written[0]).not.toContain("geheim");
  expect(written[0]).toContain("postgres://me:***@db:5432/x");
});

test("survives fields that JSON cannot say", () => {
  const { logger, written } = lines("info");
  logger.info("odd", { big: 1n });
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ event: "odd", unprintable: true });
});

test("writes one line without what a terminal obeys or a person cannot see, wherever it stands", () => {
  const { logger, written } = lines("warn");
  const hostile = 'a\r\n{"event":"forged"}\u001b[2J\u009b31m\u202e\u2028\u{e0041}';
  logger.warn("odd", { [hostile]: hostile, error: new Error(hostile), inner: [{ hostile }] });
  expect(written).toHaveLength(1);
  expect(written[0]?.trimEnd()).toMatch(/^[\x20-\x7e]+$/);
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ event: "odd", [hostile]: hostile, inner: [{ hostile }] });
});

test("gives every line what belongs to all of the moment", () => {
  const written: string[] = [];
  let trace = "one";
  const logger = createLogger({
    level: "info",
    write: (text) => written.push(text),
    always: () => ({ trace_id: trace }),
  });
  logger.info("first");
  trace = "two";
  logger.info("second", { count: 1 });
  expect(written.map((text) => JSON.parse(text).trace_id)).toEqual(["one", "two"]);
});
