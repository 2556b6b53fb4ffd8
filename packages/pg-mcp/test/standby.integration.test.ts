import { type OwnPostgres, startPostgresVariant } from "@es-to-pg/engines";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RoleName, readCases, Safety } from "./safety.ts";
import { type Standby, startStandby } from "./standby.ts";

// A standby makes no temporary objects: here statements are judged by their text, whoever asks.

/** Attacks between two looks at the server, which take longer than they do. */
const attacksAtOnce = 10;

let primary: OwnPostgres;
let standby: Standby;
let safety: Safety;

beforeAll(async () => {
  primary = await startPostgresVariant({});
  standby = await startStandby(primary.url);
  safety = await Safety.open(primary.url, standby);
});

afterAll(async () => {
  await safety.close();
  await standby.stop();
  await primary.stop();
});

describe.each(["superuser", "reader of app"] as const)("on a standby as %s", (role: RoleName) => {
  beforeAll(() => safety.become(role));

  it("leaves every attack without effect", { timeout: 300_000 }, async () => {
    const before = await safety.state();
    const effects: string[] = [];
    // What the search path changes is whose functions a name means; the rest is the same for both.
    const tried = readCases("attacks").filter(
      (attack) =>
        attack.only?.includes(role) !== false &&
        (role === "superuser" || ["user code", "other schemas"].includes(attack.class ?? "")),
    );
    expect(tried.length).toBeGreaterThan(100);
    for (let from = 0; from < tried.length; from += attacksAtOnce) {
      const attacks = tried.slice(from, from + attacksAtOnce);
      const told: string[] = [];
      for (const attack of attacks) told.push((await safety.ask(role, attack)).text);
      const effect = await safety.effectOf(role, before, told.join("\n"));
      if (effect !== undefined) effects.push(`one of ${attacks.map(({ attack }) => attack).join(" | ")}: ${effect}`);
    }
    expect(effects).toEqual([]);
  });

  it("answers every question that is answered by the text of a statement", { timeout: 300_000 }, async () => {
    const failures: string[] = [];
    const major = await safety.major();
    const strict: RoleName = "reader without TEMPORARY";
    const asked = readCases("legitimate").filter(
      ({ sql, except = [], since = 0 }) =>
        !except.includes(role) &&
        !except.includes(strict) &&
        major >= since &&
        // Where a superuser looks, a standby's settings hold the password of its primary.
        !(role === "superuser" && sql.includes("FROM pg_settings")),
    );
    for (const question of asked) {
      const told = await safety.ask(role, question);
      if (told.refused) failures.push(`${question.sql}: ${told.text}`);
    }
    expect(failures).toEqual([]);
  });
});
