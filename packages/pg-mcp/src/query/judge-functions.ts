import { ToolError } from "@es-to-pg/mcp-kit";
import type { Transaction } from "../postgres/index.ts";
import {
  type CalledFunction,
  firstUserOid,
  type JudgePolicy,
  jsonMakers,
  jsonMakersOfExtensions,
  judgeFunction,
  refusedFunction,
  typeReaders,
} from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import { ask, oids, type Question } from "./questions.ts";
import { collect, currentSetting, type Fresh, noReferences, type References, topNodes } from "./references.ts";
import { functionsOfRanges, unseenQuery } from "./value-types.ts";
import { pathFunctions } from "./xpath.ts";

/** Functions whose first argument is judged where it is seen; behind an operator of a user nobody sees it. */
const judgedByArgument = new Set([...currentSetting, ...pathFunctions.keys()]);

/** Judges what is called, and answers whether it makes JSON of values. */
export async function judgeFunctions(
  tx: Transaction,
  called: readonly FoundFunction[],
  policy: JudgePolicy,
): Promise<boolean> {
  const functions = called.map((found) => found.called);
  for (const one of functions) judgeFunction(one, policy);
  const hidden = called.find(({ oid, isBehind }) => isBehind && judgedByArgument.has(oid));
  if (hidden !== undefined) {
    throw refusedFunction(
      hidden.called.schema,
      hidden.called.name,
      "an operator of a user stands for it: call it by its name",
    );
  }
  const reader = functions.find(({ builtIn, name }) => builtIn && typeReaders.has(name));
  if (reader !== undefined && (await typesThatRun(tx, policy)).length > 0) {
    throw refusedFunction(reader.schema, reader.name, "this database has types whose reading calls functions of users");
  }
  return functions.some(({ builtIn, extension, name }) =>
    builtIn ? jsonMakers.test(name) : extension !== undefined && jsonMakersOfExtensions.test(name),
  );
}

/**
 * Judges what the server looks up by the type of a value, so that no tree names it: what makes JSON calls a cast to JSON,
 * what estimates how many ranges overlap calls what measures them.
 */
export async function judgeUnseen(
  tx: Transaction,
  { met, values, operators }: References,
  { policy, makesJson, grounds }: { policy: JudgePolicy; makesJson: boolean; grounds: Grounds },
): Promise<void> {
  const types = new Set([...met, ...values]);
  if (types.size === 0 || (!makesJson && operators.size === 0)) return;
  const params = [oids(types), String(makesJson), oids(operators)] as const;
  const { rows } = await tx.query(unseenQuery, params);
  const functions = rows.map(([oid]) => Number(oid));
  grounds.unseen = { params, functions };
  for (const { called } of await functionsOf(tx, { functions, operators: [], types: [] }))
    judgeFunction(called, policy);
}

export interface FoundFunction {
  oid: number;
  /** What the tree names is something of a user that stands for it. */
  isBehind: boolean;
  called: CalledFunction;
}

/** The server's own functions, by which nearly all statements are made; each row begins with its OID. */
export const builtInQuery = "SELECT oid, proname, provolatile FROM pg_catalog.pg_proc WHERE oid = ANY($1::oid[])";

/** `internal` and C, in which only a superuser makes functions. */
const superuserLanguages = "'{12,13}'::oid[]";

/** The functions that references to what users made come down to, as `judgeFunction` wants them. */
const functionsQuery = `
WITH called(oid) AS (
  SELECT pg_catalog.unnest($1::oid[])
  UNION SELECT oprcode FROM pg_catalog.pg_operator WHERE oid = ANY($2::oid[])
  UNION SELECT typinput FROM pg_catalog.pg_type WHERE oid = ANY($3::oid[]) AND typtype = 'b'
  UNION SELECT f FROM pg_catalog.pg_aggregate, pg_catalog.unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn,
      aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) AS f
    WHERE aggfnoid::oid = ANY($1::oid[]) AND aggfnoid::oid >= '${firstUserOid}'
)
SELECT p.oid, n.nspname, p.proname, p.provolatile,
  CASE WHEN p.prolang = ANY(${superuserLanguages}) OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = p.proowner) THEN e.extname END
FROM called
JOIN pg_catalog.pg_proc p ON p.oid = called.oid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass::oid AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass::oid
ORDER BY p.oid`;

async function functionsOf(
  tx: Transaction,
  references: Pick<Fresh, "functions" | "operators" | "types">,
): Promise<FoundFunction[]> {
  const called: FoundFunction[] = [];
  await ask(tx, questionsOfFunctions(references, called));
  return called;
}

/** Asks what the references call. */
export function questionsOfFunctions(
  { functions, operators, types }: Pick<Fresh, "functions" | "operators" | "types">,
  called: FoundFunction[],
): Question[] {
  // What is behind operators and types of the server's own computes only.
  const own = [functions, operators, types].map((list) => list.filter((oid) => oid >= firstUserOid));
  const builtIn = functions.filter((oid) => oid < firstUserOid);
  const questions: Question[] = [];
  if (builtIn.length > 0) {
    questions.push({
      sql: builtInQuery,
      params: [oids(builtIn)],
      take(rows) {
        for (const [oid, name, volatility] of rows) {
          const volatile = volatility === "v";
          called.push({
            oid: Number(oid),
            isBehind: false,
            called: { builtIn: true, schema: "pg_catalog", name: String(name), volatile, extension: undefined },
          });
        }
      },
    });
  }
  if (own.every((list) => list.length === 0)) return questions;
  questions.push({
    sql: functionsQuery,
    params: own.map(oids),
    take(rows) {
      for (const [oid, schema, name, volatility, extension] of rows) {
        called.push({
          oid: Number(oid),
          isBehind: true,
          called: {
            builtIn: Number(oid) < firstUserOid,
            schema: String(schema),
            name: String(name),
            volatile: volatility === "v",
            extension: typeof extension === "string" ? extension : undefined,
          },
        });
      }
    },
  });
  return questions;
}

/**
 * Types of users whose text form runs code that the policy does not let a statement call: the server reads literals
 * while it parses, before anything could be judged. A domain brings its check, a range its order.
 */
export async function typesThatRun(
  tx: Transaction,
  policy: JudgePolicy,
): Promise<{ type: number; runs: CalledFunction }[]> {
  const { rows } = await tx.query(
    `SELECT k.contypid::int8::text, k.conbin::text, NULL FROM pg_catalog.pg_constraint k WHERE k.contypid >= '${firstUserOid}' AND k.conbin IS NOT NULL
     UNION ALL SELECT r.rngtypid::int8::text, NULL, f.oid::int8::text FROM pg_catalog.pg_range r
       ${functionsOfRanges()}`,
  );
  const typesOf = new Map<number, Set<number>>();
  const all = noReferences();
  for (const [type, condition, called] of rows) {
    const found = noReferences();
    if (typeof called === "string") found.functions.add(Number(called));
    else collect(topNodes(condition), found);
    // The function of an operator is known after the query below only.
    for (const oid of [...found.functions, ...found.operators, ...found.types]) {
      typesOf.set(oid, (typesOf.get(oid) ?? new Set()).add(Number(type)));
    }
    for (const name of ["functions", "operators", "types"] as const) for (const oid of found[name]) all[name].add(oid);
  }
  const running: { type: number; runs: CalledFunction }[] = [];
  for (const kind of ["functions", "operators", "types"] as const) {
    // One by one: only then is it known which reference came down to the function.
    for (const oid of all[kind]) {
      const called = await functionsOf(tx, { functions: [], operators: [], types: [], [kind]: [oid] });
      for (const { called: runs } of called) {
        if (isRefused(runs, policy)) for (const type of typesOf.get(oid) ?? []) running.push({ type, runs });
      }
    }
  }
  return running;
}

function isRefused(called: CalledFunction, policy: JudgePolicy): boolean {
  try {
    judgeFunction(called, policy);
    return false;
  } catch (error) {
    if (error instanceof ToolError) return true;
    throw error;
  }
}
