// oxlint-disable vitest/no-conditional-expect -- what holds of an input depends on what it is
import { ToolError } from "@es-to-pg/mcp-kit";
import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { loadModule, parseSync } from "libpg-query";
import { beforeAll, expect, it } from "vitest";
import { mayBeStructured } from "../src/query/literals.ts";
import { namesIn } from "../src/query/names.ts";
import { checkSqlText, readStatement } from "../src/query/sql-text.ts";
import { readCases } from "./safety.ts";

/** Inputs of one property; a failure prints the seed that finds it again. */
const numRuns = Number(process.env["FUZZ_RUNS"] ?? 1_000_000);

/** Texts to begin with: all that the suites try and ask, and what was once found here. */
const seeds = [
  ...[...readCases("attacks"), ...readCases("legitimate")].map(({ sql }) => sql).filter((sql) => sql.length < 400),
  "explain (analyze off, format json) select '(5)'::app.parcel",
  "SHOW /* a */ server_version",
];
const pieces = [
  ...Array.from("'\"\\()[]{};:,.$*/-+ \r\n\t\0aE"),
  ..."--|/*|*/|$$|$a$|E'|U&'|U&\"|\\'|::|SELECT |EXPLAIN |ANALYZE |SHOW |(ANALYZE)|FORMAT JSON|'(5)'|'{5}'|\ufeff|\u00a0|é|😀|UESCAPE '!'".split(
    "|",
  ),
];

/** A seed with some of its characters replaced by pieces. */
const texts = record({
  seed: constantFrom(...seeds),
  edits: array(record({ at: nat(400), drop: nat(6), put: constantFrom("", ...pieces) }), { maxLength: 6 }),
}).map(({ seed, edits }) =>
  edits.reduce((text, { at, drop, put }) => {
    const position = at % (text.length + 1);
    return text.slice(0, position) + put + text.slice(position + drop);
  }, seed),
);

type Tree = Record<string, unknown>;

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null;
}

/** The statements that PostgreSQL's own grammar reads in a text; none where it reads none. */
function statementsOf(sql: string): Tree[] {
  try {
    return (parseSync(sql).stmts ?? []).flatMap(({ stmt }) => (isTree(stmt) ? [stmt] : []));
  } catch {
    return [];
  }
}

/** Every text that stands in a tree under `key`. */
function textsUnder(tree: unknown, key: string): string[] {
  if (!isTree(tree)) return [];
  return Object.entries(tree).flatMap(([name, member]) =>
    name === key && typeof member === "string" ? [member] : textsUnder(member, key),
  );
}

function withoutPlaces(tree: unknown): unknown {
  if (Array.isArray(tree)) return tree.map(withoutPlaces);
  if (!isTree(tree)) return tree;
  const kept = Object.entries(tree).filter(
    ([key]) => !["location", "stmt_len", "list_start", "list_end"].includes(key),
  );
  return Object.fromEntries(kept.map(([key, member]) => [key, withoutPlaces(member)]));
}

/** What the guard makes of a text, or undefined where it refuses it. Anything but a refusal is a fault. */
function guarded(sql: string): ReturnType<typeof readStatement> | undefined {
  try {
    checkSqlText(sql);
    return readStatement(sql);
  } catch (error) {
    if (error instanceof ToolError) return undefined;
    throw error;
  }
}

beforeAll(() => loadModule());

it("tells the kinds of statement apart as PostgreSQL does, and EXPLAIN's query from its options", () => {
  assert(
    property(texts, (sql) => {
      const read = guarded(sql);
      if (read === undefined) return;
      const [only, ...others] = statementsOf(sql);
      if (only === undefined || others.length > 0) return;
      if (read.kind === "show") {
        const aliases: Record<string, string> = {
          "time zone": "timezone",
          "transaction isolation level": "transaction_isolation",
        };
        const name = textsUnder(only["VariableShowStmt"], "name")[0]?.toLowerCase();
        expect([name, aliases[name ?? ""]]).toContain(read.setting);
      } else if (read.kind === "explain") {
        const explained = only["ExplainStmt"];
        expect(isTree(explained)).toBe(true);
        const [inner] = statementsOf(read.sql);
        // What is no statement by itself is refused by the server, whose parser reads it as we do.
        if (inner === undefined) return;
        expect(withoutPlaces(inner)).toEqual(withoutPlaces(isTree(explained) ? explained["query"] : undefined));
        const [again] = statementsOf(`EXPLAIN ${read.options} SELECT 1`);
        const optionsOf = (tree: unknown) => textsUnder(isTree(tree) ? tree["options"] : undefined, "defname");
        expect(optionsOf(again?.["ExplainStmt"])).toEqual(optionsOf(explained));
      }
    }),
    { numRuns },
  );
});

it("suspects every literal that the server could read as an array, a row or a range, and knows every name", () => {
  assert(
    property(texts, (sql) => {
      if (guarded(sql) === undefined) return;
      const statements = statementsOf(sql);
      for (const statement of statements) {
        const literals = textsUnder(statement, "sval");
        // Names come as `sval` too; a quoted one that begins with a bracket is suspected for nothing.
        const structured = literals.filter((literal) => /^\s*[([{]/.test(literal));
        if (structured.length > 0 && !/"[^"]*[([{]/.test(sql)) expect(mayBeStructured.test(sql)).toBe(true);
        if (/u&/i.test(sql)) continue;
        const names = new Set(namesIn(sql));
        for (const name of [...textsUnder(statement, "relname"), ...textsUnder(statement, "schemaname")]) {
          expect(names).toContain(name);
        }
      }
    }),
    { numRuns },
  );
});
