import type { BatchStatement } from "../postgres/index.ts";
import { oids, statisticsSince } from "./questions.ts";
import { madeOf, unseenQuery } from "./value-types.ts";

/**
 * What a judgement rests on and an owner could add to without a lock that we hold against it. Between the judgement and
 * the plan nothing may be added: `groundsHold` looks.
 */
export interface Grounds {
  /** Tables of users that are read, those that inherit from them included. */
  relations: Set<number>;
  parents: Set<number>;
  indexes: Set<number>;
  statistics: Set<number>;
  /** User types that values are made of. */
  values: Set<number>;
  /** Checks of domains and of inheriting tables. */
  checks: Set<number>;
  /** SQL functions whose bodies were read, and the transactions that wrote them. */
  bodies: Map<number, string>;
  unseen: { params: readonly [string, string, string]; functions: number[] } | undefined;
}

export function noGrounds(): Grounds {
  return {
    relations: new Set(),
    parents: new Set(),
    indexes: new Set(),
    statistics: new Set(),
    values: new Set(),
    checks: new Set(),
    bodies: new Map(),
    unseen: undefined,
  };
}

/** Whether another session could add anything to what was judged. */
export function canGroundsChange({ relations, values, bodies, unseen }: Grounds): boolean {
  return relations.size > 0 || values.size > 0 || bodies.size > 0 || unseen !== undefined;
}

/**
 * A statement that fails where by now there is something that was not judged. It is sent in one batch with the statement
 * that makes the plan, right before it.
 */
export function groundsHold(grounds: Grounds, major: number): BatchStatement {
  const params: string[] = [];
  const given = (list: Iterable<number>): string => `$${params.push(oids(list))}::oid[]`;
  const added: string[] = [];
  if (grounds.relations.size > 0) {
    const relations = given(grounds.relations);
    added.push(
      `SELECT FROM pg_catalog.pg_index WHERE indrelid = ANY(${relations}) AND indexrelid <> ALL(${given(grounds.indexes)})`,
      `SELECT FROM pg_catalog.pg_inherits WHERE inhparent = ANY(${relations}) AND inhrelid <> ALL(${relations})`,
    );
    if (major >= statisticsSince) {
      added.push(
        `SELECT FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY(${relations}) AND oid <> ALL(${given(grounds.statistics)})`,
      );
    }
    if (grounds.parents.size > 0) {
      added.push(
        `SELECT FROM pg_catalog.pg_constraint WHERE conrelid = ANY(${relations}) AND contype = 'c' AND oid <> ALL(${given(grounds.checks)})`,
      );
    }
  }
  if (grounds.values.size > 0) {
    added.push(
      `${madeOf(given(grounds.values))} SELECT FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid
       WHERE k.conbin IS NOT NULL AND k.oid <> ALL(${given(grounds.checks)})`,
    );
  }
  if (grounds.bodies.size > 0) {
    const written = `$${params.push(`{${[...grounds.bodies.values()].join(",")}}`)}::text[]`;
    added.push(
      `SELECT FROM pg_catalog.pg_proc WHERE oid = ANY(${given(grounds.bodies.keys())}) AND xmin::text <> ALL(${written})`,
    );
  }
  if (grounds.unseen !== undefined) {
    const first = params.length;
    params.push(...grounds.unseen.params);
    const query = unseenQuery.replaceAll(/\$(\d)/g, (_, number: string) => `$${first + Number(number)}`);
    added.push(`SELECT FROM (${query}) AS u(oid) WHERE u.oid::oid <> ALL(${given(grounds.unseen.functions)})`);
  }
  return {
    sql: `SELECT 1 / CASE WHEN ${added.map((query) => `EXISTS (${query})`).join(" OR ")} THEN 0 ELSE 1 END`,
    params,
  };
}
