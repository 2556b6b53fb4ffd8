import { firstUserOid } from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import { oids, type Question } from "./questions.ts";
import { topNodes } from "./references.ts";
import type { Facts } from "./relations.ts";

/** What ranges `r` are brought into form, compared and, where the planner estimates, measured with. */
export function functionsOfRanges({ measured = false } = {}): string {
  return `LEFT JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc AND o.oid >= '${firstUserOid}'
  LEFT JOIN pg_catalog.pg_amproc m ON m.amprocfamily = o.opcfamily
  CROSS JOIN LATERAL (VALUES (r.rngcanonical::oid), (m.amproc::oid)${measured ? ", (r.rngsubdiff::oid)" : ""}) f(oid)
  WHERE f.oid >= '${firstUserOid}'`;
}

/** Types of a list, and all that a value of them can hold: base types, elements, attributes, bounds of ranges. */
export const madeOf = (types: string): string => `
WITH RECURSIVE made(oid) AS (
  SELECT pg_catalog.unnest(${types})
  UNION
  SELECT part.oid FROM made
  JOIN pg_catalog.pg_type t ON t.oid = made.oid
  CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typelem <> '0'
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE t.typtype = 'm' AND d.classid = 'pg_catalog.pg_type'::regclass::oid
      AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_type'::regclass::oid
  ) AS part(oid)
  WHERE part.oid >= '${firstUserOid}')`;

/** The checks of all domains that a value of these types can hold, and what compares its ranges. */
const domainChecks = `${madeOf("$1::oid[]")}
SELECT k.oid, k.conbin::text, NULL FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid WHERE k.conbin IS NOT NULL
UNION ALL SELECT NULL, NULL, f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges()}`;

/** What is called for values of types that a value of `$1` can hold, where `$2` JSON is made, and by the operators `$3`. */
export const unseenQuery = `${madeOf("$1::oid[]")}
SELECT k.castfunc::int8::text FROM made JOIN pg_catalog.pg_cast k ON k.castsource = made.oid
  WHERE $2::boolean AND k.castfunc >= '${firstUserOid}' AND k.casttarget IN ('pg_catalog.json'::regtype::oid, 'pg_catalog.jsonb'::regtype::oid)
UNION SELECT f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges({ measured: true })} AND EXISTS (SELECT FROM pg_catalog.pg_operator
    WHERE oid = ANY($3::oid[]) AND oprrest::text ~ '^(?:pg_catalog[.])?(?:multi)?rangesel$')`;

/** Asks what checks and compares values of types of users. */
export function questionsOfTypes(
  values: readonly number[],
  { facts, grounds }: { facts: Facts; grounds: Grounds },
): Question[] {
  if (values.length === 0) return [];
  for (const oid of values) grounds.values.add(oid);
  return [
    {
      sql: domainChecks,
      params: [oids(values)],
      take(rows) {
        for (const [check, condition, called] of rows) {
          if (typeof called === "string") facts.functions.push(Number(called));
          else {
            grounds.checks.add(Number(check));
            facts.whole.push(...topNodes(condition));
          }
        }
      },
    },
  ];
}
