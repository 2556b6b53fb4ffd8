import { StagingError } from "@es-to-pg/staging";
import { describe, expect, it } from "vitest";
import { translate } from "./errors.ts";

function serverError(code: string, message: string, fields: Record<string, unknown> = {}): Error {
  return Object.assign(new Error(message), { code, severity: "ERROR", ...fields });
}

describe("translate", () => {
  it.each([
    ["40P01", "deadlock", true],
    ["40001", "serialization_failure", true],
    ["55P03", "lock_timeout", true],
    ["57014", "statement_timeout", false],
    ["57P01", "database_unavailable", true],
    ["53300", "database_out_of_resources", true],
    ["42P01", "table_not_found", false],
    ["42846", "sql_invalid", false],
    ["23505", "unique_violation", false],
    ["25006", "read_only", false],
    ["XX000", "database_failed", false],
    ["P0001", "database_error", false],
  ])("calls %s %s, retryable: %s", (sqlstate, code, retryable) => {
    expect(translate(serverError(sqlstate, "…"))).toMatchObject({ code, retryable, details: { sqlstate } });
  });

  it.each([
    ["42883", "function ifnull(real, integer) does not exist", "coalesce"],
    ["42883", "function date_format(timestamp with time zone, unknown) does not exist", "to_char"],
    ["42883", "function year(date) does not exist", "extract(year"],
    ["42883", "function datediff(date, date) does not exist", "interval"],
    ["42883", "function group_concat(text) does not exist", "string_agg"],
    ["42883", "function len(text) does not exist", "length("],
    ["42883", "function getdate() does not exist", "now()"],
    ["42883", "function json_extract(jsonb, unknown) does not exist", "->>"],
    ["42883", "function round(double precision, integer) does not exist", "::numeric"],
    ["42883", "function nonsense(text) does not exist", "Check the function's name"],
    ["42883", "operator does not exist: timestamp with time zone ~~ unknown", "Compare times"],
    ["22P02", 'malformed array literal: "yoga"', "ANY("],
  ])("advises after %s, %s", (sqlstate, message, advice) => {
    expect(translate(serverError(sqlstate, message))?.next).toContain(advice);
  });

  it("gives position, hint and names as fields", () => {
    const error = serverError("42703", 'column "nme" does not exist', {
      position: "8",
      hint: "Perhaps name.",
      table: "t",
    });
    expect(translate(error)?.details).toEqual({ sqlstate: "42703", position: 8, hint: "Perhaps name.", table: "t" });
  });

  it.each([
    ["22P02", 'invalid input syntax for type integer: "hunter2"'],
    ["22003", 'value "hunter2" is out of range for type integer'],
    ["22008", 'date/time field value out of range: "hunter2"'],
    ["22P02", 'invalid input value for enum colour: "hunter2"'],
  ])("leaves the value out of %s", (sqlstate, message) => {
    expect(translate(serverError(sqlstate, message))?.message).not.toContain("hunter2");
  });

  it("leaves the detail out, which quotes keys", () => {
    const error = serverError("23505", 'duplicate key value violates unique constraint "users_pkey"', {
      detail: "Key (mail)=(hunter2) already exists.",
      constraint: "users_pkey",
    });
    expect(JSON.stringify([translate(error)?.message, translate(error)?.details])).not.toContain("hunter2");
    expect(translate(error)?.details).toEqual({ sqlstate: "23505", constraint: "users_pkey" });
  });

  it("passes on what the staging store says", () => {
    expect(
      translate(new StagingError("unknown_export", "No such export.", { next: "Call list_exports." })),
    ).toMatchObject({
      code: "unknown_export",
      next: "Call list_exports.",
    });
  });

  it("leaves a programmer's error alone", () => {
    expect(translate(new TypeError("x is not a function"))).toBeUndefined();
    expect(translate(Object.assign(new Error("no file"), { code: "ENOENT" }))).toBeUndefined();
  });
});
