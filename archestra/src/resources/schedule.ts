/** The agent's own clock, where one is wanted. */
import { calls, type Schedule } from "../api/calls.ts";
import { ApiError } from "../api/client.ts";
import { BundleError } from "../bundle-error.ts";
import { SCHEDULE_NAME } from "../desired.ts";
import { differences } from "../differences.ts";
import { type Change, notYet, type World } from "../world.ts";
import type { AgentActual } from "./agents.ts";

export async function readSchedules({ api }: World): Promise<readonly Schedule[]> {
  const { data } = await api.call(calls.listSchedules, { query: { name: SCHEDULE_NAME, limit: "100" } });
  return data.filter(({ name }) => name === SCHEDULE_NAME);
}

export function scheduleChanges(actual: readonly Schedule[], agent: AgentActual, world: World): Change[] {
  const { api, desired } = world;
  const [row, ...surplus] = ownSchedules(actual, agent);
  if (desired.schedule === undefined) return scheduleRemovals(actual, agent, world);
  const { cron, timezone, message } = desired.schedule;
  const fields = { name: SCHEDULE_NAME, cronExpression: cron, timezone, messageTemplate: message, enabled: true };
  const target = `schedule ${SCHEDULE_NAME}`;
  const agentId = agent.row?.id;
  const removals = surplus.map((one) => removal(one, world));
  if (agentId === undefined) {
    return [...removals, { phase: "schedule", target, action: "create", why: [`${cron} ${timezone}`], run: notYet }];
  }
  const body = { ...fields, agentId };
  if (row === undefined) {
    const run = () => sent(() => api.call(calls.createSchedule, { body }));
    return [...removals, { phase: "schedule", target, action: "create", why: [`${cron} ${timezone}`], run }];
  }
  const why = differences(body, row);
  if (why.length === 0) return removals;
  const run = () => sent(() => api.call(calls.updateSchedule, { params: { id: row.id }, body }));
  return [...removals, { phase: "schedule", target, action: "update", why, run }];
}

export function scheduleRemovals(actual: readonly Schedule[], agent: AgentActual, world: World): Change[] {
  return ownSchedules(actual, agent).map((row) => removal(row, world));
}

/** Schedules carry no labels: ours are those of our agent. */
export function ownSchedules(actual: readonly Schedule[], { row }: AgentActual): readonly Schedule[] {
  return actual.filter(({ agentId }) => agentId === row?.id);
}

function removal({ id, cronExpression }: Schedule, { api }: World): Change {
  return {
    phase: "schedule",
    target: `schedule ${SCHEDULE_NAME}`,
    action: "delete",
    why: [cronExpression],
    async run() {
      await api.call(calls.deleteSchedule, { params: { id } });
    },
  };
}

async function sent(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 400)) throw error;
    throw new BundleError("schedule_refused", `Archestra refused the schedule: ${error.reason}`, {
      next: "Check ARCHESTRA_SCHEDULE_CRON (five fields) and ARCHESTRA_SCHEDULE_TIMEZONE (such as Europe/Berlin).",
      cause: error,
    });
  }
}
