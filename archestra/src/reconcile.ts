/**
 * The whole method. What is to be comes from the settings, what is from the platform and its cluster; their differences
 * are the plan. `apply` makes the first ones that depend on nothing else, reads again, and goes on until there are none.
 * So a run that was cut off anywhere is continued by the next one, and one that finds nothing to do does nothing.
 */
import type { Schedule } from "./api/calls.ts";
import { BundleError } from "./bundle-error.ts";
import { type AgentActual, agentChanges, agentRemovals, gatewayChanges, readAgent } from "./resources/agents.ts";
import { type ClusterActual, clusterChanges, clusterRemovals, readCluster } from "./resources/cluster.ts";
import { type LlmActual, llmChanges, llmLeftovers, llmRemovals, readLlm } from "./resources/llm.ts";
import { type PoliciesActual, policyChanges, readPolicies } from "./resources/policies.ts";
import { readSchedules, scheduleChanges, scheduleRemovals } from "./resources/schedule.ts";
import { readServers, type ServerActual, serverChanges, serverRemovals } from "./resources/servers.ts";
import { type Change, phases, type World } from "./world.ts";

export interface Actual {
  llm: LlmActual;
  cluster: ClusterActual;
  servers: readonly ServerActual[];
  agent: AgentActual;
  gateway: AgentActual;
  policies: PoliciesActual | undefined;
  schedules: readonly Schedule[];
}

/** Reads everything; the cluster, which takes a command for each thing, only where it is not given. */
export async function readActual(world: World, known?: { cluster: ClusterActual }): Promise<Actual> {
  const [llm, cluster, servers, agent, gateway, policies, schedules] = await Promise.all([
    readLlm(world),
    known?.cluster ?? readCluster(world),
    readServers(world),
    readAgent("agent", world),
    readAgent("mcp_gateway", world),
    readPolicies(world),
    readSchedules(world),
  ]);
  return { llm, cluster, servers, agent, gateway, policies, schedules };
}

/** All differences, in the order in which they are to be made. */
export function planned(actual: Actual, world: World): Change[] {
  const { llm, cluster, servers, agent, gateway, policies, schedules } = actual;
  return inOrder([
    ...llmChanges(llm, world),
    ...clusterChanges(cluster, world),
    ...servers.flatMap((server) => serverChanges(server, cluster, world)),
    ...agentChanges(agent, servers, llm, world),
    ...policyChanges(policies, servers, world),
    ...gatewayChanges(gateway, agent, servers, world),
    ...scheduleChanges(schedules, agent, world),
    ...llmLeftovers(llm, world),
  ]);
}

/** Everything that is there and was made by this program, in the order in which it is to go. */
export function removals(actual: Actual, world: World): Change[] {
  const { llm, cluster, servers, agent, gateway, schedules } = actual;
  return inOrder([
    ...scheduleRemovals(schedules, agent, world),
    ...agentRemovals("mcp_gateway", gateway, world),
    ...agentRemovals("agent", agent, world),
    ...servers.flatMap((server) => serverRemovals(server, world)),
    ...clusterRemovals(cluster, world),
    ...llmRemovals(llm, world).map((change): Change => ({ ...change, phase: "llm" })),
  ]).toReversed();
}

export interface Reconciled {
  /** How many changes were made. */
  made: number;
  /** What is there now. */
  actual: Actual;
}

/** Makes changes until none is left, from what was just read. `changesOf` is `planned` or `removals`. */
export async function reconcile(
  world: World,
  read: Actual,
  changesOf: (actual: Actual, world: World) => Change[],
): Promise<Reconciled> {
  let actual = read;
  let made = 0;
  for (let before = new Set<string>(); ; ) {
    const changes = changesOf(actual, world);
    const first = changes[0];
    if (first === undefined) return { made, actual };
    const group = changes.filter(({ phase }) => phase === first.phase);
    const stuck = group.find((change) => before.has(nameOf(change)));
    if (stuck !== undefined) throw stuck.stuck?.() ?? hadNoEffect(stuck);
    for (const change of group) {
      world.signal.throwIfAborted();
      world.say(describe(change));
      await change.run();
      made += 1;
    }
    before = new Set(group.map(nameOf));
    actual = await readActual(world, first.phase === "cluster" ? undefined : actual);
  }
}

/** A change as one line, and a line for each difference. */
export function describe({ action, target, why }: Change): string {
  return [`${action === "wait" ? "wait for" : action} ${target}`, ...why.map((line) => `    ${line}`)].join("\n");
}

function inOrder(changes: readonly Change[]): Change[] {
  return changes.toSorted((one, other) => phases.indexOf(one.phase) - phases.indexOf(other.phase));
}

function nameOf({ action, target, why }: Change): string {
  // The same wait may show another reason each time.
  return JSON.stringify([action, target, action === "wait" ? [] : why]);
}

function hadNoEffect(change: Change): BundleError {
  return new BundleError("no_effect", `This was done and is still to be done: ${describe(change)}`, {
    next: "Run `npm run archestra:doctor`. If somebody else changes the same objects, let one finish first.",
  });
}
