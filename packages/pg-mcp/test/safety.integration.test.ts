import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type RoleName, readCases, roleNames, Safety } from "./safety.ts";

/** What one statement may take beyond its time: a cancel request and, if that has no effect, the end of the session. */
const graceMs = 6_000;
const denialTimeoutMs = 500;
/** What answers may leave in this process: none of them may be held whole. */
const memoryBytesMax = 50 * 1024 * 1024;

let safety: Safety;
const attacks = readCases("attacks");
const denials = readCases("denials");
const legitimate = readCases("legitimate");
const figures: Record<string, string | number>[] = [];

beforeAll(async () => {
  safety = await Safety.open(inject("databaseUrl"));
});

afterAll(async () => {
  await safety.close();
  process.stdout.write(`${table(figures)}\n`);
});

setFlagsFromString("--expose-gc");
const collectGarbage: unknown = runInNewContext("gc");

/** Memory of the process that is held, and no garbage. */
function memoryInUse(): number {
  if (typeof collectGarbage === "function") collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Figures as lines of columns, each as wide as its widest entry. */
function table(rows: readonly Record<string, string | number>[]): string {
  const names = Object.keys(rows[0] ?? {});
  const lines = [names, ...rows.map((row) => names.map((name) => String(row[name])))];
  const widths = names.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => line.map((entry, column) => entry.padEnd(widths[column] ?? 0)).join("  ")).join("\n");
}

it("is made of enough cases, no two alike", () => {
  expect(attacks.length).toBeGreaterThanOrEqual(200);
  expect(denials.length).toBeGreaterThanOrEqual(40);
  expect(legitimate.length).toBeGreaterThanOrEqual(100);
  const all = [...attacks, ...denials, ...legitimate].map((entry) => JSON.stringify([entry.sql, entry.params]));
  expect(all.filter((entry, index) => all.indexOf(entry) !== index)).toEqual([]);
});

describe.each(roleNames)("as %s", (role: RoleName) => {
  beforeAll(() => safety.become(role));

  it.each([...new Set(attacks.map((attack) => attack.class))])(
    "leaves without effect what is tried by way of: %s",
    async (name) => {
      const tried = attacks.filter((attack) => attack.class === name && attack.only?.includes(role) !== false);
      const before = await safety.state();
      const effects: string[] = [];
      let refused = 0;
      for (const attack of tried) {
        const told = await safety.ask(role, attack);
        if (told.refused) refused++;
        const effect = await safety.effectOf(role, before, told.text);
        if (effect !== undefined) effects.push(`${attack.attack}: ${effect} (${told.text.slice(0, 120)})`);
      }
      figures.push({
        role,
        class: String(name),
        cases: tried.length,
        refused,
        answered: tried.length - refused,
        "with effect": effects.length,
      });
      expect(effects).toEqual([]);
    },
  );

  it("answers every question of an analyst, and does nothing else", async () => {
    const failures: string[] = [];
    const major = await safety.major();
    const asked = legitimate.filter(({ except, since = 0 }) => except?.includes(role) !== true && major >= since);
    const before = await safety.state();
    let effects = 0;
    let refused = 0;
    for (const question of asked) {
      const told = await safety.ask(role, question);
      if (told.refused) refused++;
      const effect = await safety.effectOf(role, before, told.text);
      if (effect !== undefined) effects++;
      // Where a user's operators stand for the server's own, they are what such a question calls.
      if (effect !== undefined || (told.refused && role !== "reader among shadows"))
        failures.push(`${question.sql}: ${effect} (${told.text})`);
    }
    figures.push({
      role,
      class: "analysts",
      cases: asked.length,
      refused,
      answered: asked.length - refused,
      "with effect": effects,
    });
    expect(failures).toEqual([]);
  });

  // A search path makes nothing dearer.
  it.skipIf(role === "reader among shadows")(
    "ends whatever costs too much, at the server too",
    { timeout: 300_000 },
    async () => {
      const failures: string[] = [];
      let refused = 0;
      for (const denial of denials) {
        await safety.database.admin.query("BEGIN; LOCK TABLE app.locked IN ACCESS EXCLUSIVE MODE");
        const memoryBefore = memoryInUse();
        const startedAt = performance.now();
        const told = await safety.ask(role, denial, { timeoutMs: denialTimeoutMs });
        const tookMs = performance.now() - startedAt;
        await safety.database.admin.query("ROLLBACK");
        if (told.refused) refused++;
        if (tookMs > denialTimeoutMs + graceMs) failures.push(`${denial.denial}: took ${Math.round(tookMs)} ms`);
        if (!(await safety.comesToRest())) failures.push(`${denial.denial}: still runs`);
        const grown = memoryInUse() - memoryBefore;
        if (grown > memoryBytesMax) failures.push(`${denial.denial}: left ${Math.round(grown / 1e6)} MB`);
      }
      figures.push({
        role,
        class: "denials of service",
        cases: denials.length,
        refused,
        answered: denials.length - refused,
        "with effect": failures.length,
      });
      expect(failures).toEqual([]);
    },
  );
});
