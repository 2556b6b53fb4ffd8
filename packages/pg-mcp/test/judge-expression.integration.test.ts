import { afterAll, describe, expect, inject, it } from "vitest";
import { connectionFromUrl } from "../src/config.ts";
import { openPostgres } from "../src/postgres/index.ts";
import { judgeExpression } from "../src/query/index.ts";

const postgres = openPostgres({ writer: connectionFromUrl(inject("databaseUrl")) });
const signal = new AbortController().signal;
const columns = [
  { name: "price", type: "numeric" },
  { name: "name", type: "text" },
  { name: "tags", type: "text[]" },
  { name: "Odd Name", type: "jsonb" },
];

afterAll(() => postgres.close());

function judge(expression: string, expectedType: string): Promise<void> {
  return postgres.write((tx) => judgeExpression(tx, { expression, stage: { columns }, expectedType }), { signal });
}

describe("judgeExpression", () => {
  it.each([
    ["round(price * 1.2, 2)", "numeric(10,2)"],
    ["lower(name) -- in small letters", "character varying(50)"],
    ["CASE WHEN price > 10 THEN 'dear' ELSE 'cheap' END", "text"],
    ["tags[1]", "text"],
    ["\"Odd Name\"->>'a'", "text"],
    ["coalesce(name, 'none') || ' ' || price", "text"],
    ["to_date(name, 'YYYY/MM/DD')", "date"],
    ["array_length(tags, 1)", "bigint"],
    ["now()", "timestamp with time zone"],
    ["NULL", "integer"],
  ])("takes %s as %s", async (expression, type) => {
    await expect(judge(expression, type)).resolves.toBeUndefined();
  });

  it.each([
    ["price) from pg_temp.judged_stage union all select (price", "numeric", "expression_refused"],
    ["unnest(tags)", "text", "expression_refused"],
    ["count(*)", "bigint", "expression_refused"],
    ["row_number() over ()", "bigint", "expression_refused"],
    ["price), (2", "numeric", "expression_refused"],
    ["(select 1)", "integer", "expression_refused"],
    ["exists (select 1)", "boolean", "expression_refused"],
    ["price) as a, (name", "numeric", "expression_refused"],
    ["$1 + 1", "integer", "42P02"],
    ["price) from pg_temp.judged_stage where (true", "numeric", "42601"],
    // A function's body may hold two statements, and is refused for them; before 14 the protocol refuses them.
    ["1); drop table x; select (1", "numeric", "0A000 42601"],
    ["random()", "double precision", "function_refused"],
    ["pg_read_file('/etc/passwd')", "text", "function_refused"],
    ["nextval('pg_catalog.pg_class')", "bigint", "function_refused"],
    ["query_to_xml('select 1', true, true, '')::text", "text", "function_refused"],
    ["current_setting('app.secret')", "text", "sql_refused"],
  ])("refuses %s", async (expression, type, code) => {
    await expect(judge(expression, type)).rejects.toSatisfy(({ code: told }) => code.split(" ").includes(told));
  });

  it("refuses a result that the target column does not take", async () => {
    await expect(judge("name", "integer")).rejects.toMatchObject({ code: "42804" });
  });

  it("counts the position of an error from the expression's own beginning", async () => {
    await expect(judge("price + nope", "numeric")).rejects.toMatchObject({ code: "42703", position: "9" });
  });

  it("leaves nothing behind in the transaction that asked", async () => {
    const left = await postgres.write(
      async (tx) => {
        await judgeExpression(tx, { expression: "price", stage: { columns }, expectedType: "numeric" });
        const { rows } = await tx.query("SELECT to_regclass('pg_temp.judged_stage') IS NULL");
        return rows;
      },
      { signal },
    );
    expect(left).toEqual([[true]]);
  });
});
