import { describe, expect, it } from "vitest";
import { checkSqlText, readStatement } from "./sql-text.ts";

describe("checkSqlText", () => {
  it.each([
    ["nothing", "  \n"],
    ["a NUL", "select 1\0"],
    ["comments within comments", "/*".repeat(5_000)],
    ["comments hidden in what looks like a string", `select '${"/*".repeat(5_000)}`],
    ["parentheses within parentheses", "(".repeat(1_000)],
    ["a book", `select '${"x".repeat(100_001)}'`],
  ])("refuses %s", (_, sql) => {
    expect(() => checkSqlText(sql)).toThrow(expect.objectContaining({ code: "sql_refused" }));
  });

  it("takes an ordinary statement", () => {
    expect(() => checkSqlText("/* a */ select ((1)) -- b")).not.toThrow();
  });
});

describe("readStatement", () => {
  it("ends a line comment at CR, as the server does", () => {
    expect(readStatement("-- a\rexplain select 1")).toMatchObject({ kind: "explain", sql: "select 1" });
  });

  it("finds the statement of an EXPLAIN behind its options and says where it begins", () => {
    const sql = "explain /* x */ (analyze false, format json) select 2";
    expect(readStatement(sql)).toEqual({
      kind: "explain",
      options: "(analyze false, format json)",
      sql: "select 2",
      offset: sql.indexOf("select"),
    });
  });

  it("keeps a parenthesised query of an EXPLAIN", () => {
    expect(readStatement("EXPLAIN (select 1)")).toMatchObject({ kind: "explain", options: "", sql: "(select 1)" });
  });

  it("refuses an option that EXPLAIN does not have", () => {
    // An expression that goes back on itself took hours for this.
    expect(() => readStatement(`explain (${"a".repeat(50_000)}!) select 1`)).toThrow(
      expect.objectContaining({ code: "sql_refused" }),
    );
    expect(() => readStatement("explain (serialize) select 1")).toThrow(
      expect.objectContaining({ code: "sql_refused" }),
    );
  });

  it("reads SHOW", () => {
    expect(readStatement(" show Server_Version ;")).toEqual({ kind: "show", setting: "server_version" });
    expect(readStatement("SHOW TIME ZONE")).toEqual({ kind: "show", setting: "timezone" });
  });

  it("takes everything else as a query", () => {
    expect(readStatement("(values (1))")).toEqual({ kind: "query", sql: "(values (1))" });
  });
});
