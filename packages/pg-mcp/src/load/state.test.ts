import { describe, expect, it } from "vitest";
import { ensureState, stateStatements } from "./state.ts";

describe("stateStatements", () => {
  it("names the configured schema everywhere and nothing else", () => {
    const statements = stateStatements('odd "name"');
    expect(statements[0]).toBe('CREATE SCHEMA IF NOT EXISTS "odd ""name"""');
    expect(statements.filter((statement) => statement.startsWith("CREATE TABLE"))).toHaveLength(5);
    expect(statements.join("\n")).not.toContain("data_transformer");
  });
});

describe("ensureState", () => {
  it("answers the SQL for an administrator where the role may not create the schema", async () => {
    const tx = {
      async query(sql: string) {
        if (sql.startsWith("CREATE")) throw Object.assign(new Error("permission denied"), { code: "42501" });
        return { rows: [[0]] };
      },
    };
    await expect(ensureState(tx, "etl")).rejects.toMatchObject({
      code: "state_missing",
      details: { sql: expect.stringContaining('CREATE TABLE IF NOT EXISTS "etl".loads') },
    });
  });

  it("creates nothing when every table is there", async () => {
    const seen: string[] = [];
    const tx = {
      async query(sql: string) {
        seen.push(sql);
        return { rows: [[5]] };
      },
    };
    await ensureState(tx);
    expect(seen).toHaveLength(1);
  });
});
