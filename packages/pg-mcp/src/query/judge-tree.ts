import { everything, type TablePolicy, type Transaction } from "../postgres/index.ts";
import { firstUserOid, functionsOfHeld, type JudgePolicy } from "./function-policy.ts";
import { type Grounds, noGrounds } from "./grounds.ts";
import { type FoundFunction, judgeFunctions, judgeUnseen, questionsOfFunctions } from "./judge-functions.ts";
import { judgeChildren, judgeRelation, refuseHeld } from "./judge-relations.ts";
import { namesIn } from "./names.ts";
import { constantParts, nodesOf, type TreeNode } from "./node-tree.ts";
import { ask, type Foresight, oids, parsedBodiesSince, virtualColumnsSince } from "./questions.ts";
import {
  addOfUsers,
  collect,
  type Fresh,
  functionFields,
  kindsOfReference,
  noFresh,
  noReferences,
  type References,
  topNodes,
} from "./references.ts";
import { refused } from "./refusals.ts";
import {
  type Facts,
  inheritingQuery,
  noFacts,
  questionsLeft,
  questionsOfRelations,
  questionsOfTables,
  rareKinds,
  rareQueries,
} from "./relations.ts";
import { questionsOfTypes } from "./value-types.ts";

/** Depth of views over views, and of domains over domains, that is followed. */
const followedMax = 32;

/** Refuses trees that call, or read through whatever they name, what the policy does not let them. */
export async function judgeTree(
  tx: Transaction,
  queries: readonly TreeNode[],
  {
    policy,
    besides = noReferences(),
    foresight,
  }: {
    policy: JudgePolicy;
    /** What is referred to besides, where the references come from a text and not from a tree. */
    besides?: References;
    foresight?: Foresight | undefined;
  },
): Promise<Grounds> {
  const done = noReferences();
  const grounds = noGrounds();
  let found = besides;
  let makesJson = false;
  collect(queries, found);
  for (let level = 0; Object.values(found).some((set: Set<number>) => set.size > 0); level++) {
    if (level === followedMax) throw refused("views nested too deeply", "Query the tables beneath them.");
    const fresh = noFresh();
    for (const kind of kindsOfReference) {
      fresh[kind].push(...[...found[kind]].filter((reference) => !done[kind].has(reference)));
      for (const reference of fresh[kind]) done[kind].add(reference);
    }
    found = noReferences();
    const called: FoundFunction[] = [];
    const facts = noFacts();
    await ask(
      tx,
      [
        ...questionsOfFunctions(fresh, called),
        ...questionsOfRelations(fresh, { major: tx.major, isBeneathView: level > 0, facts, grounds }),
        ...questionsOfTypes(fresh.values, { facts, grounds }),
      ],
      foresight,
    );
    await ask(tx, questionsLeft(fresh, { major: tx.major, facts, grounds }));
    makesJson = (await judgeFunctions(tx, called, policy)) || makesJson;
    await follow(tx, fresh, { policy: policy.tables ?? everything, facts, grounds, found });
  }
  await judgeUnseen(tx, done, { policy, makesJson, grounds });
  return grounds;
}

/** Looks into what the references hold: relations by name, the trees that come with them, the checks of domains. */
async function follow(
  tx: Transaction,
  fresh: Fresh,
  { policy, facts, grounds, found }: { policy: TablePolicy; facts: Facts; grounds: Grounds; found: References },
): Promise<void> {
  for (const oid of fresh.functions) {
    const relation = functionsOfHeld.get(oid);
    if (relation !== undefined) await refuseHeld(tx, relation);
  }
  for (const relation of facts.relations) await judgeRelation(tx, relation, { policy, columns: fresh.columns });
  const tables = fresh.relations.filter((oid) => oid >= firstUserOid);
  if (facts.brought.size > 0) {
    const hasChildren = facts.brought.has("children");
    if (hasChildren) {
      await judgeChildren(tx, tables, policy);
      const below = (await tx.query(inheritingQuery, [oids(tables)])).rows.map(([oid]) => Number(oid));
      await ask(tx, questionsOfTables(below, { major: tx.major, facts, grounds }));
      tables.push(...below);
    }
    // What children bring nobody has looked at: all of it, but for the policies, which hold for the table that is named.
    const wanted = rareKinds.filter((kind) => facts.brought.has(kind) || (hasChildren && kind !== "policy"));
    await ask(
      tx,
      wanted
        .filter((kind) => kind !== "virtual" || tx.major >= virtualColumnsSince)
        .map((kind) => ({
          sql: rareQueries[kind],
          params: [oids(tables)],
          take(rows) {
            for (const [how, content, check] of rows) {
              if (how === "function") facts.functions.push(Number(content));
              else if (how === "whole") facts.whole.push(...topNodes(content));
              else facts.constant.push(...topNodes(content));
              if (check !== undefined) grounds.checks.add(Number(check));
            }
          },
        })),
    );
  }
  for (const oid of facts.functions) found.functions.add(oid);
  collect(facts.whole, found);
  collect(constantParts(facts.constant), found);
  await collectInlined(tx, facts.constant, { found, grounds });
}

/** `sql`, the language of functions that the planner replaces by their bodies. */
const inlinedLanguage = 14;

/**
 * Adds what the bodies of SQL functions call, of which the planner computes the constants. A body that is text is read
 * when it is planned, so whatever has a name that stands in it may be what it calls.
 */
async function collectInlined(
  tx: Transaction,
  trees: readonly TreeNode[],
  { found, grounds }: { found: References; grounds: Grounds },
): Promise<void> {
  const called = noReferences();
  for (const node of nodesOf(trees)) {
    for (const { name, values } of node.fields) if (functionFields.has(name)) addOfUsers(called.functions, values);
  }
  if (called.functions.size === 0) return;
  const { rows } = await tx.query(
    `SELECT oid, xmin::text, prolang, prosrc, ${tx.major >= parsedBodiesSince ? "prosqlbody::text" : "NULL"} FROM pg_catalog.pg_proc
     WHERE oid = ANY($1::oid[])`,
    [oids(called.functions)],
  );
  for (const [oid, writtenBy, language, text, body] of rows) {
    // Its owner can replace any of them by one that is replaced by its body.
    grounds.bodies.set(Number(oid), String(writtenBy));
    if (language !== inlinedLanguage) continue;
    if (typeof body === "string") {
      collect(topNodes(body), found);
      continue;
    }
    const source = String(text);
    const named = await tx.query(
      `SELECT 'functions', oid::int8::text FROM pg_catalog.pg_proc WHERE oid >= '${firstUserOid}' AND (proname = ANY($1::text[]) OR $3)
       UNION ALL SELECT 'values', oid::int8::text FROM pg_catalog.pg_type WHERE oid >= '${firstUserOid}' AND (typname = ANY($1::text[]) OR $3)
       UNION ALL SELECT 'operators', oid::int8::text FROM pg_catalog.pg_operator WHERE oid >= '${firstUserOid}' AND pg_catalog.strpos($2, oprname) > 0`,
      // A name in Unicode escapes could be any.
      [namesIn(source), source, /u&"/i.test(source)],
    );
    for (const [kind, one] of named.rows) {
      const into = kind === "functions" ? found.functions : kind === "values" ? found.values : found.operators;
      into.add(Number(one));
    }
  }
}
