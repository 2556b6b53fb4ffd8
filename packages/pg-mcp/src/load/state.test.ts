import { describe, expect, it } from "vitest";
import { ensureState, stateStatements } from "./state.ts";

describe("stateStatements", () => {
  it("names the configured schema everywhere and nothing else", () => {
    const statements = stateStatements('odd "name"');
    expect(statements[0]).toBe('CREATE SCHEMA IF NOT EXISTS "odd ""name"""');
    expect(statements.filter((statement) => statement.startsWith("CREATE TABLE"))).toHaveLength(7);
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

  it("refuses tables that lack a column, which another version made", async () => {
    const tx = { query: async () => ({ rows: [[1]] }) };
    await expect(ensureState(tx, "etl")).rejects.toMatchObject({ code: "state_outdated", details: { schema: "etl" } });
  });

  it("creates nothing when every column is there", async () => {
    const seen: string[] = [];
    const tx = {
      async query(sql: string, params?: unknown[]) {
        seen.push(sql);
        const wanted = params?.[1];
        return { rows: [[Array.isArray(wanted) ? wanted.length : 0]] };
      },
    };
    await ensureState(tx);
    expect(seen).toHaveLength(1);
  });
});
