/**
 * Tool policies, such that an organization in either mode can work: the permissive one ignores them, the restrictive one
 * would block the second call of every chain. Results stay untrusted, because documents are foreign text; the tools may
 * run all the same; and what loses data asks a person first.
 */
import { calls } from "../api/calls.ts";
import { ApiError } from "../api/client.ts";
import { type Change, notYet, type World } from "../world.ts";
import { isReady, type ServerActual } from "./servers.ts";

export interface PoliciesActual {
  invocation: readonly InvocationPolicy[];
  results: readonly Policy[];
}

interface Policy {
  toolId: string;
  conditions: readonly { key: string; operator: string; value: string }[];
  action: string;
}

interface InvocationPolicy extends Policy {
  id: string;
}

const ALLOW = "allow_when_context_is_untrusted";
const ASK = "require_approval";
const UNTRUSTED = "mark_as_untrusted";

/** Tools that always ask a person. */
const askAlways = ["es_mcp__delete_export"];

/** Tools that ask where an argument has a value. */
const askWhere = [{ tool: "pg_mcp__bulk_insert", key: "mode", value: "replace", reason: "replaces the table's rows" }];

/** Undefined where this version has no such policies; later ones have others, which leave tools alone by default. */
export async function readPolicies({ api }: World): Promise<PoliciesActual | undefined> {
  try {
    const [invocation, results] = await Promise.all([
      api.call(calls.listInvocationPolicies),
      api.call(calls.listResultPolicies),
    ]);
    return { invocation, results };
  } catch (error) {
    // The platform answers 403 for paths that it does not have.
    if (error instanceof ApiError && (error.status === 404 || error.status === 403)) return undefined;
    throw error;
  }
}

export function policyChanges(
  actual: PoliciesActual | undefined,
  servers: readonly ServerActual[],
  { api }: World,
): Change[] {
  if (actual === undefined) return [];
  const phase = "policy";
  const target = "tool policies";
  if (!servers.every(isReady)) {
    return [
      {
        phase,
        target,
        action: "create",
        why: ["all tools may run, on untrusted results", `by approval: ${approvals()}`],
        run: notYet,
      },
    ];
  }
  const tools = servers.flatMap(({ tools: known }) => known);
  const invocation = ([ALLOW, ASK] as const).flatMap((action): Change[] => {
    const wrong = tools.filter(
      ({ id, name }) =>
        (askAlways.includes(name) ? ASK : ALLOW) === action && defaultOf(actual.invocation, id) !== action,
    );
    return update(action, wrong, async (toolIds) => {
      await api.call(calls.setInvocationDefaults, { body: { toolIds, action } });
    });
  });
  const untrusted = tools.filter(({ id }) => defaultOf(actual.results, id) !== UNTRUSTED);
  return [
    ...invocation,
    ...update(UNTRUSTED, untrusted, async (toolIds) => {
      await api.call(calls.setResultDefaults, { body: { toolIds, action: UNTRUSTED } });
    }),
    ...conditionalChanges(actual, tools, api),
  ];

  function update(
    action: string,
    wrong: readonly { id: string; name: string }[],
    set: (toolIds: string[]) => Promise<void>,
  ): Change[] {
    if (wrong.length === 0) return [];
    const names = wrong.length > 4 ? `${wrong.length} tools` : wrong.map(({ name }) => name).join(", ");
    return [
      { phase, target, action: "update", why: [`${action}: ${names}`], run: () => set(wrong.map(({ id }) => id)) },
    ];
  }
}

/** The action of a tool where no condition holds. */
function defaultOf(rows: readonly Policy[], id: string): string | undefined {
  return rows.find(({ toolId, conditions }) => toolId === id && conditions.length === 0)?.action;
}

function approvals(): string {
  return [...askAlways, ...askWhere.map(({ tool, key, value }) => `${tool} where ${key} is ${value}`)].join(", ");
}

/** Creating one is no upsert: what is there under the same condition is compared, and taken away where it differs. */
function conditionalChanges(
  { invocation }: PoliciesActual,
  tools: readonly { id: string; name: string }[],
  api: World["api"],
): Change[] {
  return askWhere.flatMap(({ tool, key, value, reason }): Change[] => {
    const toolId = tools.find(({ name }) => name === tool)?.id;
    if (toolId === undefined) return [];
    const wanted = JSON.stringify([{ key, operator: "equal", value }]);
    const same = invocation.filter(
      (row) =>
        row.toolId === toolId &&
        JSON.stringify(row.conditions.map((one) => ({ key: one.key, operator: one.operator, value: one.value }))) ===
          wanted,
    );
    const keep = same.find(({ action }) => action === ASK);
    const surplus = same.filter((row) => row !== keep);
    if (keep !== undefined && surplus.length === 0) return [];
    return [
      {
        phase: "policy",
        target: "tool policies",
        action: keep === undefined ? "create" : "update",
        why: [`${ASK}: ${tool} where ${key} is ${value}`],
        async run() {
          for (const { id } of surplus) await api.call(calls.deleteInvocationPolicy, { params: { id } });
          if (keep !== undefined) return;
          const conditions = [{ key, operator: "equal" as const, value }];
          await api.call(calls.createInvocationPolicy, { body: { toolId, conditions, action: ASK, reason } });
        },
      },
    ];
  });
}
