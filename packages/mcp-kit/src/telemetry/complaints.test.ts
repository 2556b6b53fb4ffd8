import { expect, test } from "vitest";
import { createLogger } from "../log.ts";
import { complaintsTo } from "./complaints.ts";

function listen() {
  const lines: unknown[] = [];
  const clock = { ms: 0 };
  const logger = createLogger({
    level: "info",
    write: (line) => lines.push(JSON.parse(line)),
    always: () => ({ trace_id: "of a call that runs", span_id: "of it too" }),
  });
  return { lines, clock, complaints: complaintsTo(logger, () => clock.ms) };
}

test("says a complaint once a minute, and then how often it came", () => {
  const { lines, clock, complaints } = listen();
  for (const dropped of [1, 20, 300]) complaints.warn(`Dropped ${dropped} spans`);
  complaints.error("export timed out");
  clock.ms = 60_000;
  complaints.warn("Dropped 4000 spans");
  complaints.info("of no interest at this level");
  expect(lines).toEqual([
    expect.objectContaining({ level: "warn", event: "telemetry", message: "Dropped 1 spans" }),
    expect.objectContaining({ message: "export timed out" }),
    expect.objectContaining({ message: "Dropped 4000 spans", unsaid: 2 }),
  ]);
  expect(lines[0]).not.toHaveProperty("unsaid");
});

test("belongs to no trace, and leaves the stack of an error out", () => {
  const { lines, complaints } = listen();
  complaints.error(JSON.stringify({ name: "OTLPExporterError", message: "Bad Request", stack: "at /somewhere" }));
  complaints.error(JSON.stringify({ message: "connect ECONNREFUSED", stack: "at /somewhere" }));
  complaints.error("{no JSON");
  expect(lines.map((line) => ({ ...Object(line), time: "" }))).toEqual(
    ["OTLPExporterError: Bad Request", "connect ECONNREFUSED", "{no JSON"].map((message) => ({
      time: "",
      level: "warn",
      event: "telemetry",
      message,
    })),
  );
});
