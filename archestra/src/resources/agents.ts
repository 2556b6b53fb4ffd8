/** The Data Transformer and the gateway: two agents to the platform, both with all tools of both servers. */
import { type AgentFields, type AgentRow, calls } from "../api/calls.ts";
import { BundleError } from "../bundle-error.ts";
import { AGENT_NAME, GATEWAY_NAME } from "../desired.ts";
import { differences } from "../differences.ts";
import { ownRow, withOwnLabel } from "../ownership.ts";
import { type Change, dependencyMissing, notYet, type Phase, type World } from "../world.ts";
import { type LlmActual, modelOf } from "./llm.ts";
import { isReady, type ServerActual } from "./servers.ts";

export interface AgentActual {
  row: AgentRow | undefined;
  tools: readonly AssignedTool[];
  /** Agents that this one may call, by their ids. */
  delegates: readonly string[];
}

interface AssignedTool {
  id: string;
  name: string;
  mcpServerId?: string | null | undefined;
  credentialResolutionMode?: string | undefined;
}

type Kind = "agent" | "mcp_gateway";

export async function readAgent(kind: Kind, { api }: World): Promise<AgentActual> {
  const name = kind === "agent" ? AGENT_NAME : GATEWAY_NAME;
  // The filter is by substring.
  const { data } = await api.call(calls.listAgents, { query: { name, agentType: kind, limit: "100" } });
  const row = ownRow(data, name, kind === "agent" ? "agent" : "gateway");
  if (row === undefined) return { row: undefined, tools: [], delegates: [] };
  const [tools, delegates] = await Promise.all([
    api.call(calls.listAgentTools, { params: { agentId: row.id } }),
    kind === "agent" ? [] : api.call(calls.listDelegations, { params: { agentId: row.id } }),
  ]);
  return { row, tools, delegates: delegates.map(({ id }) => id) };
}

export function agentChanges(
  actual: AgentActual,
  servers: readonly ServerActual[],
  llm: LlmActual,
  world: World,
): Change[] {
  const { agent, llm: wantedLlm } = world.desired;
  const model = wantedLlm === undefined ? undefined : modelOf(llm, wantedLlm);
  const fields: AgentFields = {
    name: AGENT_NAME,
    agentType: "agent",
    description: agent.description,
    icon: agent.icon,
    systemPrompt: agent.systemPrompt,
    suggestedPrompts: [...agent.suggestedPrompts],
    labels: withOwnLabel(actual.row),
    // Two dozen tools that belong together: searching for them first would only cost turns.
    toolExposureMode: "full",
    ...(llm.key === undefined || model === undefined ? {} : { llmApiKeyId: llm.key.id, modelId: model.dbId }),
  };
  return [
    ...rowChanges("agent", "agent", fields, { row: actual.row, models: llm.models }, world),
    ...assignmentChanges("assignment", "agent", actual, servers, world),
  ];
}

export function gatewayChanges(
  actual: AgentActual,
  agent: AgentActual,
  servers: readonly ServerActual[],
  world: World,
): Change[] {
  const fields: AgentFields = {
    name: GATEWAY_NAME,
    agentType: "mcp_gateway",
    description: world.desired.gateway.description,
    labels: withOwnLabel(actual.row),
    toolExposureMode: "full",
  };
  return [
    ...rowChanges("gateway", "gateway", fields, { row: actual.row, models: [] }, world),
    ...assignmentChanges("exposure", "gateway", actual, servers, world),
    ...delegationChanges(actual, agent, world),
  ];
}

export function agentRemovals(kind: Kind, { row }: AgentActual, { api }: World): Change[] {
  if (row === undefined) return [];
  return [
    {
      phase: kind === "agent" ? "agent" : "gateway",
      target: `${kind === "agent" ? "agent" : "gateway"} ${row.name}`,
      action: "delete",
      why: [],
      async run() {
        await api.call(calls.deleteAgent, { params: { id: row.id } });
      },
    },
  ];
}

function rowChanges(
  phase: Phase,
  what: string,
  fields: AgentFields,
  { row, models }: { row: AgentRow | undefined; models: LlmActual["models"] },
  { api, opening }: World,
): Change[] {
  const target = `${what} ${fields.name}`;
  if (row === undefined) {
    return [
      {
        phase,
        target,
        action: "create",
        why: [],
        async run() {
          await api.call(calls.createAgent, { body: { ...fields, ...opening(calls.createAgent) } });
        },
      },
    ];
  }
  const why = differences(fields, row).map((line) => models.reduce(withModelName, line));
  if (why.length === 0) return [];
  return [
    {
      phase,
      target,
      action: "update",
      why,
      async run() {
        await api.call(calls.updateAgent, { params: { id: row.id }, body: fields });
      },
    },
  ];
}

function assignmentChanges(
  phase: Phase,
  what: string,
  { row, tools }: AgentActual,
  servers: readonly ServerActual[],
  { api }: World,
): Change[] {
  const target = `tools of the ${what}`;
  const waiting = servers.filter((server) => !isReady(server));
  if (row === undefined || waiting.length > 0) {
    const names = (row === undefined ? servers : waiting).map(({ server }) => server.name);
    return [{ phase, target, action: "assign", why: [`all of ${names.join(" and ")}`], run: notYet }];
  }
  const wanted = servers.flatMap(({ installation, tools: known }) =>
    installation === undefined ? [] : known.map(({ id, name }) => ({ id, name, mcpServerId: installation.id })),
  );
  const missing = wanted.filter(
    ({ id, mcpServerId }) => !tools.some((tool) => tool.id === id && isPinned(tool, mcpServerId)),
  );
  if (missing.length === 0) return [];
  const others = missing.filter(({ id }) => tools.some((tool) => tool.id === id));
  return [
    {
      phase,
      target,
      action: "assign",
      why: toolNames(missing),
      async run() {
        // One that is assigned in another way would count as a duplicate and stay as it is.
        for (const { id: toolId } of others) {
          await api.call(calls.unassignTool, { params: { agentId: row.id, toolId } });
        }
        const assignments = missing.map(({ id, mcpServerId }) => ({ agentId: row.id, toolId: id, mcpServerId }));
        const { failed } = await api.call(calls.assignTools, { body: { assignments } });
        const [first] = failed;
        if (first === undefined) return;
        throw new BundleError("tools_not_assigned", `${failed.length} tools were not assigned: ${first.error}`, {
          next: "Apply again; if it stays so, delete the tool's assignment in the platform.",
        });
      },
    },
  ];
}

/** A few tools by name, many by how many each server has. */
function toolNames(tools: readonly { name: string }[]): string[] {
  if (tools.length <= 4) return tools.map(({ name }) => name);
  const byServer = Map.groupBy(tools, ({ name }) => name.split("__")[0]);
  return [...byServer].map(([server, some]) => `${some.length} of ${server}`);
}

/** People know models by name and not by id. */
function withModelName(line: string, { id, dbId }: { id: string; dbId: string }): string {
  return line.replaceAll(dbId, id);
}

/** To the organization's installation, and not to one of the caller's own. */
function isPinned({ mcpServerId, credentialResolutionMode }: AssignedTool, wanted: string): boolean {
  return mcpServerId === wanted && (credentialResolutionMode ?? "static") === "static";
}

function delegationChanges({ row, delegates }: AgentActual, { row: agent }: AgentActual, { api }: World): Change[] {
  if (row !== undefined && agent !== undefined && delegates.includes(agent.id)) return [];
  return [
    {
      phase: "exposure",
      target: "agent of the gateway",
      action: "assign",
      why: [`${AGENT_NAME}, as one tool that takes a message`],
      async run() {
        if (row === undefined || agent === undefined) throw dependencyMissing();
        // The call sets the whole list.
        const targetAgentIds = [...delegates, agent.id];
        await api.call(calls.setDelegations, { params: { agentId: row.id }, body: { targetAgentIds } });
      },
    },
  ];
}
