import { firstUserOid } from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import type { TreeNode } from "./node-tree.ts";
import { oids, type Question, statisticsSince, virtualColumnsSince } from "./questions.ts";
import { type Fresh, topNodes } from "./references.ts";

/** What comes with a relation because it is read, though no statement names it. */
type Brought = "policy" | "children" | "check" | "partition" | "class" | "virtual";

/** What a level of relations is, and holds. */
export interface Facts {
  relations: { oid: number; schema: string; table: string; kind: string }[];
  brought: Set<string>;
  /** Trees that are run for rows. */
  whole: TreeNode[];
  /** Trees of which the planner computes what is constant. */
  constant: TreeNode[];
  functions: number[];
}

export function noFacts(): Facts {
  return { relations: [], brought: new Set(), whole: [], constant: [], functions: [] };
}

/** What relations are, and what they bring along by their entry in the catalog. */
export const relationsQuery = `SELECT oid, relnamespace::pg_catalog.regnamespace::text, relname, relkind, relhassubclass, relchecks,
  relrowsecurity, relrowsecurity AND pg_catalog.row_security_active(oid)
  FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[])`;

/** A name as it is in the catalog, from the form in which it is printed for SQL. */
function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}

const viewsQuery =
  "SELECT ev_class, ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_class = ANY($1::oid[]) AND ev_type = '1'";

const indexesQuery =
  "SELECT indrelid, indexrelid, indclass::text, indexprs::text, indpred::text FROM pg_catalog.pg_index WHERE indrelid = ANY($1::oid[])";

const statisticsQuery =
  "SELECT stxrelid, oid, stxexprs::text FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY($1::oid[])";

const virtualQuery =
  "SELECT attrelid FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1::oid[]) AND attgenerated = 'v'";

/** What is asked about all relations that a tree names, by their OIDs `$1`; each row begins with the OID that it is about. */
export function queriesOfRelations(major: number): string[] {
  return [
    relationsQuery,
    viewsQuery,
    indexesQuery,
    ...(major >= statisticsSince ? [statisticsQuery] : []),
    ...(major >= virtualColumnsSince ? [virtualQuery] : []),
  ];
}

/** Asks what relations are, and what most of them bring along. */
export function questionsOfRelations(
  { relations, tables, views }: Pick<Fresh, "relations" | "tables" | "views">,
  { major, isBeneathView, facts, grounds }: { major: number; isBeneathView: boolean; facts: Facts; grounds: Grounds },
): Question[] {
  if (relations.length === 0) return [];
  const questions: Question[] = [
    {
      sql: relationsQuery,
      params: [oids(relations)],
      take(rows) {
        for (const [id, schema, table, kind, hasChildren, checks, hasPolicies, policiesHold] of rows) {
          const oid = Number(id);
          facts.relations.push({ oid, schema: unquoted(String(schema)), table: String(table), kind: String(kind) });
          if (oid < firstUserOid) continue;
          // Beneath a view it is the view's owner whom the policies may hold for.
          if (policiesHold === true || (isBeneathView && hasPolicies === true)) facts.brought.add("policy");
          if (hasChildren === true) {
            facts.brought.add("children");
            grounds.parents.add(oid);
          }
          if (checks !== 0) facts.brought.add("check");
          if (kind === "p") facts.brought.add("partition");
        }
      },
    },
  ];
  const ofUsers = relations.filter((oid) => oid >= firstUserOid);
  const ruled = ofUsers.filter((oid) => !tables.includes(oid));
  const stored = ofUsers.filter((oid) => !views.includes(oid));
  return [...questions, ...questionsOfViews(ruled, facts), ...questionsOfTables(stored, { major, facts, grounds })];
}

/**
 * Asks what was not asked of relations because of what their tree says that they are. The tree of a view can be older
 * than what the relation has become.
 */
export function questionsLeft(
  { tables, views }: Pick<Fresh, "tables" | "views">,
  { major, facts, grounds }: { major: number; facts: Facts; grounds: Grounds },
): Question[] {
  const others = (given: readonly number[], kinds: string): number[] =>
    facts.relations.flatMap(({ oid, kind }) =>
      oid >= firstUserOid && given.includes(oid) && !kinds.includes(kind) ? [oid] : [],
    );
  return [
    ...questionsOfViews(others(tables, "rp"), facts),
    ...questionsOfTables(others(views, "v"), { major, facts, grounds }),
  ];
}

function questionsOfViews(views: readonly number[], facts: Facts): Question[] {
  if (views.length === 0) return [];
  return [
    {
      sql: viewsQuery,
      params: [oids(views)],
      take(rows) {
        for (const [, rule] of rows) facts.whole.push(...topNodes(rule));
      },
    },
  ];
}

/** Asks what the planner computes of tables of users: what their indexes and statistics are over. */
export function questionsOfTables(
  tables: readonly number[],
  { major, facts, grounds }: { major: number; facts: Facts; grounds: Grounds },
): Question[] {
  if (tables.length === 0) return [];
  for (const oid of tables) grounds.relations.add(oid);
  const params = [oids(tables)];
  const questions: Question[] = [
    {
      sql: indexesQuery,
      params,
      take(rows) {
        for (const [, oid, classes, ...trees] of rows) {
          grounds.indexes.add(Number(oid));
          if (
            String(classes)
              .split(" ")
              .some((one) => Number(one) >= firstUserOid)
          )
            facts.brought.add("class");
          for (const tree of trees) if (typeof tree === "string") facts.constant.push(...topNodes(tree));
        }
      },
    },
  ];
  if (major >= statisticsSince) {
    questions.push({
      sql: statisticsQuery,
      params,
      take(rows) {
        for (const [, oid, tree] of rows) {
          grounds.statistics.add(Number(oid));
          if (typeof tree === "string") facts.constant.push(...topNodes(tree));
        }
      },
    });
  }
  if (major >= virtualColumnsSince) {
    questions.push({
      sql: virtualQuery,
      params,
      take(rows) {
        if (rows.length > 0) facts.brought.add("virtual");
      },
    });
  }
  return questions;
}

/** What few relations bring along. `whole` is run for rows; of what is `constant` the planner computes the value. */
export const rareQueries: Record<Exclude<Brought, "children">, string> = {
  policy:
    "SELECT 'whole', polqual::text FROM pg_catalog.pg_policy WHERE polrelid = ANY($1::oid[]) AND polcmd IN ('r', '*') AND polqual IS NOT NULL",
  virtual: `SELECT 'whole', d.adbin::text FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = ANY($1::oid[]) AND a.attgenerated = 'v'`,
  check:
    "SELECT 'constant', conbin::text, oid FROM pg_catalog.pg_constraint WHERE conrelid = ANY($1::oid[]) AND contype = 'c'",
  partition:
    "SELECT 'constant', partexprs::text FROM pg_catalog.pg_partitioned_table WHERE partrelid = ANY($1::oid[]) AND partexprs IS NOT NULL",
  // What an index of a user's own operator class compares by.
  class: `SELECT 'function', f.oid::int8::text FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL pg_catalog.unnest(i.indclass) k(oid)
    JOIN pg_catalog.pg_opclass o ON o.oid = k.oid AND o.oid >= '${firstUserOid}'
    CROSS JOIN LATERAL (
      SELECT m.amproc::oid FROM pg_catalog.pg_amproc m WHERE m.amprocfamily = o.opcfamily
      UNION SELECT p.oprcode::oid FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr
        WHERE m.amopfamily = o.opcfamily
    ) f(oid)
    WHERE i.indrelid = ANY($1::oid[]) AND f.oid >= '${firstUserOid}'`,
};

export const rareKinds = ["policy", "virtual", "check", "partition", "class"] as const;

/** Those that inherit from `$1`, and those from them. */
export const inheritingQuery = `WITH RECURSIVE below(oid) AS (
  SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = ANY($1::oid[])
  UNION SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
SELECT oid FROM below`;
