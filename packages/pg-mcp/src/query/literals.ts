import { ToolError } from "@es-to-pg/mcp-kit";
import type { Transaction } from "../postgres/index.ts";
import { firstUserOid, type JudgePolicy } from "./function-policy.ts";
import { typesThatRun } from "./judge-functions.ts";
import { namesIn } from "./names.ts";

/**
 * A literal that may be a composite, an array or a range: after its opening quote, blanks aside, a bracket or what may be
 * an escaped one. Quotes that close are taken for such too; the question is only whether to look further. No beginning
 * looks past the next one: each of many would look at all that follows.
 */
export const mayBeStructured = /['$][^\p{L}\p{N}'$]*[([{\\]|u&/iu;

/** Types that hold one of `$1` in themselves, and whatever makes a literal of such a type without naming it. */
const namesOfTypes = `
WITH RECURSIVE holds(oid) AS (
  SELECT pg_catalog.unnest($1::oid[])
  UNION
  SELECT whole.oid FROM holds CROSS JOIN LATERAL (
    SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typelem = holds.oid OR t.typbasetype = holds.oid
    UNION ALL SELECT t.oid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.typrelid = a.attrelid
      WHERE a.atttypid = holds.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngsubtype = holds.oid
    UNION ALL SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typtype = 'm' AND EXISTS (
      SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_type'::regclass::oid AND d.objid = t.oid
        AND d.refclassid = 'pg_catalog.pg_type'::regclass::oid AND d.refobjid = holds.oid)
  ) AS whole(oid)
)
SELECT t.typname FROM holds JOIN pg_catalog.pg_type t ON t.oid = holds.oid
UNION SELECT c.relname FROM holds JOIN pg_catalog.pg_attribute a ON a.atttypid = holds.oid
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
UNION SELECT p.proname FROM holds JOIN pg_catalog.pg_proc p ON p.oid >= '${firstUserOid}'
  AND (p.prorettype = holds.oid OR holds.oid = ANY(coalesce(p.proallargtypes, p.proargtypes::oid[])))
UNION SELECT pg_catalog.concat('OPERATOR ', o.oprname) FROM holds JOIN pg_catalog.pg_operator o ON o.oid >= '${firstUserOid}'
  AND holds.oid IN (o.oprleft, o.oprright)`;

/**
 * Refuses a text that may hold a literal whose reading runs code of a user. The server reads literals while it parses,
 * so nothing of the text may have been sent to it before. Databases without such types, nearly all, refuse nothing.
 */
export async function refuseRunningLiterals(tx: Transaction, sql: string, policy: JudgePolicy): Promise<void> {
  if (!mayBeStructured.test(sql)) return;
  const running = await typesThatRun(tx, policy);
  const [first] = running;
  if (first === undefined) return;
  const { rows } = await tx.query(namesOfTypes, [`{${running.map(({ type }) => type).join(",")}}`]);
  const names = new Set(namesIn(sql));
  // A name in Unicode escapes could be any.
  const isMet = (name: string): boolean =>
    names.has(name) || (name.startsWith("OPERATOR ") && sql.includes(name.slice("OPERATOR ".length)));
  if (!/u&"/i.test(sql) && !rows.some(([name]) => isMet(String(name)))) return;
  throw new ToolError(
    "function_refused",
    "A literal of the statement may be of a type whose reading calls a function.",
    {
      next: "Pass such values as params, or write arrays as ARRAY[…] and rows as ROW(…); an operator can vouch for the function in PG_MCP_ALLOW_FUNCTIONS.",
      details: {
        function: `${first.runs.schema}.${first.runs.name}`,
        why: "it checks values of a domain or orders those of a range",
      },
    },
  );
}
