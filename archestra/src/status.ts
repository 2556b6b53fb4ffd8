/** `status`, and what `apply` ends with: what is there, and how to use it. */
import { calls } from "./api/calls.ts";
import { AGENT_NAME, GATEWAY_NAME } from "./desired.ts";
import type { Actual } from "./reconcile.ts";
import { ownSchedules } from "./resources/schedule.ts";
import { isReady } from "./resources/servers.ts";
import type { BundleSettings } from "./settings.ts";
import type { World } from "./world.ts";

export async function statusOf({ api }: World): Promise<string> {
  const { version } = await api.call(calls.health);
  return `Archestra ${version} at ${api.baseUrl}`;
}

export function contents({ servers, agent, gateway, schedules }: Actual): string {
  const lines = servers.map((server) => {
    const { name } = server.server;
    if (server.item === undefined) return `server ${name}: not there`;
    if (server.installation === undefined) return `server ${name}: not installed`;
    if (isReady(server)) return `server ${name}: ${server.tools.length} tools`;
    return `server ${name}: not ready (${"error" in server.live ? server.live.error : "its tools are not known"})`;
  });
  const rows = [
    `agent ${AGENT_NAME}: ${agent.row === undefined ? "not there" : `${agent.tools.length} tools, id ${agent.row.id}`}`,
    `gateway ${GATEWAY_NAME}: ${gateway.row === undefined ? "not there" : `${gateway.tools.length} tools`}`,
    ...ownSchedules(schedules, agent).map(
      (row) => `schedule: ${row.cronExpression} ${row.timezone}${row.enabled ? "" : " (disabled)"}, id ${row.id}`,
    ),
  ];
  return [...lines, ...rows].map((line) => `  ${line}`).join("\n");
}

/** Commands to use what was set up. The token is not printed: it opens everything, and terminals remember. */
export function usage({ agent, gateway }: Actual, settings: BundleSettings): string {
  if (agent.row === undefined || gateway.row === undefined) return "Nothing to use yet: npm run archestra:apply";
  const endpoint = `${settings.ARCHESTRA_URL}/v1/mcp/${gateway.row.slug ?? gateway.row.id}`;
  const cursor = {
    mcpServers: {
      "data-transformer": { url: endpoint, headers: { Authorization: "Bearer ${env:ARCHESTRA_TOKEN}" } },
    },
  };
  return `Chat in the browser:  ${settings.ARCHESTRA_UI_URL}, with the agent ${AGENT_NAME}
Chat from here:       npm run archestra:chat -- "Copy the products index to PostgreSQL"
A token for the rest: export ARCHESTRA_TOKEN="$(npm run --silent archestra -- token)"
REST (A2A):           POST ${settings.ARCHESTRA_URL}/v2/a2a/${agent.row.id}, see archestra/examples/send-message.sh
Claude Code:          claude mcp add --transport http data-transformer ${endpoint} -H "Authorization: Bearer $ARCHESTRA_TOKEN"
Cursor, .cursor/mcp.json:
${JSON.stringify(cursor, null, 2)}`;
}
