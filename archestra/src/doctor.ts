/** `doctor`: one check for each trouble of archestra/README.md, with its cause and what to do. */
import { z } from "zod";
import { calls } from "./api/calls.ts";
import { ApiError } from "./api/client.ts";
import { BundleError } from "./bundle-error.ts";
import { STAGING_CLAIM } from "./deployment.ts";
import type { DesiredServer, ServerName } from "./desired.ts";
import { type Actual, planned, readActual } from "./reconcile.ts";
import { modelOf } from "./resources/llm.ts";
import { isReady } from "./resources/servers.ts";
import type { World } from "./world.ts";

export interface Finding {
  check: string;
  verdict: "ok" | "warning" | "failure";
  detail: string;
  /** What to do. */
  next?: string;
}

/** Runs all checks; those that need what an earlier one found missing are left out. */
export async function examine(world: World): Promise<Finding[]> {
  const findings: Finding[] = [];
  const { features } = await world.api.call(calls.config);
  const local = world.desired.servers.filter((server) => server.kind === "local");
  if (local.length > 0) {
    findings.push(
      features.orchestratorK8sRuntime
        ? ok("Kubernetes", "the platform reached its cluster")
        : failure(
            "Kubernetes",
            "the platform runs without a cluster, so that it can start no server",
            "Give its container the Docker socket (quickstart), or set ARCHESTRA_ORCHESTRATOR_KUBECONFIG on it; then start it again.",
          ),
    );
  }
  let actual: Actual;
  try {
    actual = await readActual(world);
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    return [...findings, failure(error.code, error.message, error.next)];
  }
  findings.push(...clusterFindings(actual), ...(await podFindings(world, local)));
  for (const server of actual.servers) {
    const { name } = server.server;
    if (isReady(server)) findings.push(ok(`${name} tools`, `${server.tools.length} tools`));
    else {
      const said = "error" in server.live ? server.live.error : "the platform knows other tools than the server has";
      findings.push(failure(`${name} tools`, said, "Run `npm run archestra:apply`."));
    }
    if (isReady(server) && server.installation !== undefined) {
      findings.push(await databaseFinding(world, name, server.installation.id));
    }
  }
  findings.push(
    ...agentFindings(actual, world),
    transportFinding(world),
    ...(await organizationFindings(world, actual)),
    ...(await callFindings(world, actual)),
  );
  const changes = planned(actual, world);
  findings.push(
    changes.length === 0
      ? ok("plan", "everything is as the settings say")
      : warning(
          "plan",
          `${changes.length} differences from the settings`,
          "Run `npm run archestra:plan`, then `npm run archestra:apply`.",
        ),
  );
  return findings;
}

export function report(findings: readonly Finding[]): string {
  const sign = { ok: "ok     ", warning: "warning", failure: "FAILURE" };
  return findings
    .map(({ check, verdict, detail, next }) =>
      [`${sign[verdict]}  ${check}: ${detail}`, ...(next === undefined ? [] : [`         -> ${next}`])].join("\n"),
    )
    .join("\n");
}

function clusterFindings({ cluster }: Actual): Finding[] {
  const images = cluster.images.map(({ image, hostId, nodeDigest }) =>
    nodeDigest === undefined
      ? failure(
          `image ${image}`,
          "not in the cluster",
          hostId === undefined
            ? "Build it with `docker compose build es-mcp pg-mcp`, then `npm run archestra:apply`."
            : "The cluster was made anew since, as at every start of the platform. Run `npm run archestra:apply`.",
        )
      : ok(`image ${image}`, "in the cluster"),
  );
  const manifests = cluster.manifests.map(({ manifest: { kind, name }, state }) => {
    const check = `${kind} ${name}`;
    if (state === undefined) return failure(check, "not there", "Run `npm run archestra:apply`.");
    if (state.phase === "Lost")
      return failure(check, "its volume is lost", "Delete the claim, then `npm run archestra:apply`.");
    return ok(check, state.phase ?? "there");
  });
  const network = cluster.isNetworkJoined
    ? ok("database network", "the cluster's node is in it")
    : failure(
        "database network",
        "the cluster's node is not in it, so that pods cannot resolve the databases' names",
        "Run `npm run archestra:apply`, or see ARCHESTRA_DATABASE_NETWORK.",
      );
  return [...images, ...(cluster.manifests.length > 0 ? [network] : []), ...manifests];
}

const registry = "Check the image's name and the cluster's access to its registry.";

/** What to do about a pod, by the kubelet's reason. */
const advice: Record<string, (kubectl: string, pod: string) => string> = {
  OOMKilled: () =>
    "Raise ARCHESTRA_POD_MEMORY, then `npm run archestra:apply`. Exports and loads go on where they stood.",
  ErrImageNeverPull: () => "Run `npm run archestra:apply`, which loads the image into the cluster.",
  ImagePullBackOff: () => registry,
  ErrImagePull: () => registry,
  Unschedulable: (kubectl) => `Look at the claim: \`${kubectl} describe persistentvolumeclaim ${STAGING_CLAIM}\`.`,
  CrashLoopBackOff: (kubectl, pod) =>
    `Read its log: \`${kubectl} logs ${pod} --previous\`. A /staging that is no mount fails the start-up probe.`,
};

async function podFindings({ cluster }: World, servers: readonly DesiredServer[]): Promise<Finding[]> {
  if (cluster === undefined || servers.length === 0) return [];
  const problems = await cluster.podProblems(servers.map(({ name }) => name));
  if (problems.length === 0) return [ok("pods", "none reports a problem")];
  return problems.map(({ pod, reason, message }) =>
    failure(
      `pod ${pod}`,
      `${reason} ${message}`.trim(),
      advice[reason]?.(cluster.typed, pod) ?? `Look at it: \`${cluster.typed} describe pod ${pod}\`.`,
    ),
  );
}

/** A tool that asks the database for little, called by way of the platform: what the pod reaches is what counts. */
const probes: Record<ServerName, { tool: string; database: string }> = {
  es_mcp: { tool: "list_indices", database: "Elasticsearch" },
  pg_mcp: { tool: "list_tables", database: "PostgreSQL" },
};

const resultSchema = z.object({
  isError: z.boolean().optional(),
  content: z.array(z.object({ text: z.string().optional() })).default([]),
});

async function databaseFinding({ api }: World, name: ServerName, id: string): Promise<Finding> {
  const { tool, database } = probes[name];
  const check = `${database} from ${name}`;
  const next =
    "Check the POD_… settings (names as the pod sees them: not localhost), that the database runs (`docker compose ps`), and the database network above.";
  try {
    const answer = await api.call(calls.inspect, {
      params: { id },
      body: { method: "tools/call", toolName: tool, toolArguments: {} },
    });
    const result = resultSchema.parse(answer);
    if (result.isError !== true) return ok(check, `${tool} answers`);
    return failure(
      check,
      result.content
        .map(({ text = "" }) => text)
        .join(" ")
        .slice(0, 400),
      next,
    );
  } catch (error) {
    if (error instanceof ApiError) return failure(check, error.reason.slice(0, 400), next);
    throw error;
  }
}

function agentFindings({ agent, servers, llm }: Actual, { desired }: World): Finding[] {
  if (agent.row === undefined) return [failure("agent", "not there", "Run `npm run archestra:apply`.")];
  const known = servers.flatMap(({ tools }) => tools);
  const missing = known.filter(({ id }) => !agent.tools.some((tool) => tool.id === id));
  const tools =
    missing.length === 0
      ? ok("agent's tools", `${known.length} assigned`)
      : failure(
          "agent's tools",
          `${missing.length} not assigned, such as ${missing[0]?.name}`,
          "Run `npm run archestra:apply`.",
        );
  const exposure =
    agent.row.toolExposureMode === "full"
      ? []
      : [
          warning(
            "agent's tools",
            "it has to search for its tools and may not find them",
            "Run `npm run archestra:apply`.",
          ),
        ];
  return [tools, ...exposure, modelFinding({ agent, llm }, desired)];
}

function modelFinding({ agent, llm }: Pick<Actual, "agent" | "llm">, desired: World["desired"]): Finding {
  if (desired.llm === undefined) {
    return agent.row?.modelId == null
      ? warning(
          "model",
          "the agent has none of its own and uses the organization's default",
          "Set LLM_PROVIDER and LLM_API_KEY, then apply.",
        )
      : ok("model", "chosen in the platform");
  }
  const model = modelOf(llm, desired.llm);
  if (model === undefined) return failure("model", "not among those of the key", "Set LLM_MODEL, then apply.");
  if (agent.row?.modelId !== model.dbId)
    return failure("model", "the agent has another one", "Run `npm run archestra:apply`.");
  return ok("model", model.id);
}

function transportFinding({ desired }: World): Finding {
  const stdio = desired.servers.some((server) => server.kind === "local" && server.transport === "stdio");
  return stdio
    ? warning(
        "transport",
        "stdio: with two conversations at a time, answers go to the wrong one",
        "Unset ARCHESTRA_TRANSPORT, then apply.",
      )
    : ok("transport", "streamable HTTP");
}

async function organizationFindings({ api }: World, { policies, servers }: Actual): Promise<Finding[]> {
  const { globalToolPolicy } = await api.call(calls.organization);
  if (globalToolPolicy === undefined || policies === undefined)
    return [ok("tool policies", "this version has other ones")];
  if (globalToolPolicy === "permissive") {
    return [
      warning(
        "tool policies",
        "the organization is permissive: no policy is obeyed, and nothing asks for approval",
        "Where that is not wanted, set it to restrictive under Settings > Security. A replace then still needs the token of its dry run.",
      ),
    ];
  }
  const ids = new Set(servers.flatMap(({ tools }) => tools.map(({ id }) => id)));
  const set = policies.invocation.filter(({ toolId, conditions }) => ids.has(toolId) && conditions.length === 0);
  return [
    set.length === ids.size
      ? ok("tool policies", "restrictive, and every tool has one")
      : failure(
          "tool policies",
          `${ids.size - set.length} tools have none: their second call in a run is blocked`,
          "Run `npm run archestra:apply`.",
        ),
  ];
}

/** Texts that a model reads in place of a result when the platform could not get one, and what to do about each. */
const failedCalls: Record<string, string> = {
  "Request timed out":
    "Nothing, if it is rare: the job went on, and get_export or get_load tells how far it is. Else look at the database's load.",
  "fetch failed": "The server's pod was away. If it happens again and again, see the pods above and their logs.",
  "Tool call blocked": "Run `npm run archestra:apply`, which sets the tool policies.",
};

/** A count of rejects in a result, which was JSON or TOON before it was put into JSON. */
const REJECTED = /(?:\\n|[^a-z_])rejected\\?"?: ?[1-9]/;

/** What the last tool calls of the agent ran into. */
async function callFindings({ api }: World, { agent }: Actual): Promise<Finding[]> {
  if (agent.row === undefined) return [];
  const query = { agentId: agent.row.id, limit: "100", sortBy: "createdAt", sortDirection: "desc" };
  const { data } = await api.call(calls.listToolCalls, { query });
  const results = data.map(({ toolResult }) => JSON.stringify(toolResult ?? null));
  const found = Object.entries(failedCalls).flatMap(([text, next]) => {
    const count = results.filter((result) => result.includes(text)).length;
    return count === 0 ? [] : [warning("tool calls", `${count} of the last ${data.length}: ${text}`, next)];
  });
  const rejecting = results.filter((result) => REJECTED.test(result)).length;
  if (rejecting > 0) {
    found.push(
      warning(
        "rejects",
        `${rejecting} of the last ${data.length} calls tell of rejected documents`,
        'Their types do not match the columns. Ask: npm run archestra:chat -- "List the rejects of the last load by reason"',
      ),
    );
  }
  return found.length > 0 ? found : [ok("tool calls", `none of the last ${data.length} was cut off or blocked`)];
}

function ok(check: string, detail: string): Finding {
  return { check, verdict: "ok", detail };
}

function warning(check: string, detail: string, next: string): Finding {
  return { check, verdict: "warning", detail, next };
}

function failure(check: string, detail: string, next: string): Finding {
  return { check, verdict: "failure", detail, next };
}
