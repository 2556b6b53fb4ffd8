import type { BatchAnswer, BatchStatement } from "../postgres/index.ts";
import { builtInQuery } from "./judge-functions.ts";
import type { Foresight } from "./questions.ts";
import { queriesOfRelations, relationsQuery } from "./relations.ts";

/** The relations that the server has noted as what the function `$1` depends on; its own it does not note. */
const noted = `ARRAY(SELECT refobjid FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_proc'::regclass::oid
  AND objid = $1::pg_catalog.regproc::oid AND refclassid = 'pg_catalog.pg_class'::regclass::oid)`;

/** The server's own functions of the names `$1`. */
const named = `ARRAY(SELECT oid FROM pg_catalog.pg_proc
  WHERE proname = ANY($1::pg_catalog.name[]) AND pronamespace = 'pg_catalog'::pg_catalog.regnamespace::oid)`;

/** What stands in every statement that reads a relation. */
const readsRelation = /\b(?:from|join|table)\b/i;

/** A name that stands before a bracket, as that of a function does. */
const beforeBracket = /[a-z_]\w*(?=\s*\()/gi;

/**
 * What judging most statements asks first, to be asked before their tree is read: about the relations that the function
 * `judged` depends on, and about the server's own functions whose names stand in the text. It is no part of a judgement:
 * the tree says what is asked, and gets its answer from here only where all that the question is about was asked about.
 */
export function foresee(
  sql: string,
  { judged, major }: { judged: string; major: number },
): { statements: BatchStatement[]; read: (answers: readonly BatchAnswer[]) => Foresight } {
  const asked: { query: string; about: string; param: string }[] = [];
  if (readsRelation.test(sql)) {
    for (const query of queriesOfRelations(major)) asked.push({ query, about: noted, param: judged });
  }
  const names = new Set([...sql.matchAll(beforeBracket)].map(([name]) => name.toLowerCase()));
  if (names.size > 0) asked.push({ query: builtInQuery, about: named, param: `{${[...names].join(",")}}` });
  return {
    statements: asked.map(({ query, about, param }) => ({
      sql: query.replace("$1::oid[]", about),
      params: [param],
      kept: true,
    })),
    read(answers) {
      const rowsOf = new Map(asked.map(({ query }, index) => [query, answers[index]?.rows ?? []]));
      const keysOf = (query: string) => new Set(rowsOf.get(query)?.map(([key]) => String(key)));
      const relations = keysOf(relationsQuery);
      const functions = keysOf(builtInQuery);
      return {
        answer({ sql: query, params }) {
          const rows = rowsOf.get(query);
          const known = query === builtInQuery ? functions : relations;
          const wanted = new Set(params[0]?.slice(1, -1).split(","));
          if (rows === undefined || ![...wanted].every((key) => known.has(key))) return undefined;
          return rows.filter(([key]) => wanted.has(String(key)));
        },
      };
    },
  };
}
