/**
 * The platform as far as this program uses it, in the shape of 1.2.71 or of later versions. Requests are checked by the
 * schemas of `src/api/calls.ts`, fields that are not in them are dropped, and what is odd about the real platform is odd
 * here: no unique names, a YAML that other calls rewrite, installations that fail with status 200, pods that take a while.
 * Pods run, or not, by what stands in the fake cluster; their tools are those of the two servers.
 */
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { publishedTool } from "@es-to-pg/mcp-kit";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { parseDocument } from "yaml";
import { z } from "zod";
import {
  type AgentRow,
  type Call,
  type CatalogItem,
  calls,
  type Installation,
  type LlmKey,
  type Schedule,
} from "../src/api/calls.ts";
import type { FakeCluster } from "./cluster.ts";

/** Whether a call, named as in the log, changes something. */
export function isWrite(name: string): boolean {
  return !/^GET |inspect$|validate-deployment-yaml$|sign-in/.test(name);
}

export type Shape = "scope" | "grants";

interface Pod {
  /** Polls until it is there, as seconds are in the real one. */
  startsIn: number;
  yaml: string | null;
  image: string | undefined;
}

/** What a row is opened to; 1.2.71 has a scope, later versions grants. */
interface Opened {
  scope?: string | undefined;
  initialGrants?: unknown;
}

type Item = CatalogItem & Opened;
type Agent = Omit<AgentRow, "scope"> & Opened;

interface Installed extends Installation {
  scope: string;
  environmentValues: Record<string, string>;
  userConfigValues: Record<string, string>;
  pod: Pod | undefined;
  /** Calls to the server that still carry the token before: the platform keeps it in a cache. */
  sendsOldTokenFor: number;
}

interface Policy {
  id: string;
  toolId: string;
  conditions: { key: string; operator: string; value: string }[];
  action: string;
}

interface Tool {
  id: string;
  name: string;
  mcpServerId: string;
}

/** Something that the handler of a call refuses. */
class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

type BodyOf<One> = One extends Call<string, infer Body> ? Body : never;

interface Request<Body> {
  params: Record<string, string>;
  query: URLSearchParams;
  body: Body;
  authorization: string | undefined;
  a2aVersion: string | undefined;
}

type Handlers = { [Name in keyof typeof calls]: (request: Request<BodyOf<(typeof calls)[Name]>>) => unknown };

export interface PlatformOptions {
  cluster: FakeCluster;
  shape?: Shape;
  email?: string;
  password?: string;
}

export class Platform {
  readonly organization = { id: "org-1", name: "Default Organization", globalToolPolicy: "permissive" };
  readonly apiKeys: { id: string; name: string; key: string }[] = [];
  readonly llmKeys: (LlmKey & Opened)[] = [];
  readonly items: Item[] = [];
  readonly installations: Installed[] = [];
  readonly tools: Tool[] = [];
  readonly agents: Agent[] = [];
  readonly assignments: { agentId: string; toolId: string; mcpServerId: string }[] = [];
  readonly delegations: { from: string; to: string }[] = [];
  readonly invocationPolicies: Policy[] = [];
  readonly resultPolicies: Policy[] = [];
  readonly schedules: Schedule[] = [];
  readonly runs: { id: string; status: string; error: null }[] = [];
  readonly toolCalls: { id: string; method: string; createdAt: string; toolCall: object; toolResult?: object }[] = [];
  /** Every call so far, as `POST /api/agents`; those that read are left out of `writes`. */
  readonly log: string[] = [];
  /** What the agent does with a message; set by tests. */
  agent: (
    text: string,
    context: { contextId: string },
  ) => { texts: string[] } | { texts?: string[]; ask: string } | { fails: string } = () => ({
    texts: ["Done."],
  });
  /** Whether a run has ended when somebody looks at it. */
  runsEnd = true;
  streams = false;
  orchestrator = true;
  hasPolicies = true;
  models = [
    { id: "gpt-small", isBest: false },
    { id: "gpt-large", isBest: true },
  ];
  /** Failures of this stand-in itself. */
  readonly faults: unknown[] = [];
  /** Called before and after each request is carried out; one that is dropped before never arrived, one that hangs gets no answer. */
  onRequest: (moment: "before" | "after", name: string) => "drop" | "hang" | undefined = () => undefined;
  /** Calls that are refused, for ever or some times. */
  readonly failing = new Map<string, { status: number; message: string; times?: number }>();
  /** Reasons by which the platform rewrites or forgets what it was sent. */
  losesYaml = false;
  hidesTools = false;
  /** Servers that exit as soon as they are started, for reasons of their own. */
  readonly breaks = new Set<string>();
  /** Servers whose database cannot be reached. */
  readonly cutOff = new Set<string>();

  readonly #cluster: FakeCluster;
  readonly #shape: Shape;
  readonly #email: string;
  readonly #password: string;
  readonly #session = randomUUID();
  readonly #personalToken = `arch_${randomUUID()}`;
  readonly #tasks = new Map<string, { contextId: string; approvalId: string; open: boolean }>();
  readonly #contexts = new Set<string>();
  readonly #ended = new Map<string, object>();
  #server: Server | undefined;

  constructor({ cluster, shape = "scope", email = "admin@example.com", password = "password" }: PlatformOptions) {
    this.#cluster = cluster;
    this.#shape = shape;
    this.#email = email;
    this.#password = password;
  }

  get url(): string {
    const address = this.#server?.address();
    if (address === null || typeof address !== "object") throw new Error("not started");
    return `http://127.0.0.1:${address.port}`;
  }

  get personalToken(): string {
    return this.#personalToken;
  }

  async start(): Promise<void> {
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        this.faults.push(error);
        response.destroy();
      });
    });
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  /** The calls that change something. Asking a server for its tools and validating are posts that do not. */
  writes(): string[] {
    return this.log.filter(isWrite);
  }

  /** The platform's container was started anew: all pods are made again from what the database holds. */
  restart(): void {
    for (const one of this.installations) this.#startPod(one, 2);
  }

  /** What is there, with names in place of ids, for comparing two ways to the same state. */
  snapshot(): unknown {
    const agentName = (id: string) => this.agents.find((row) => row.id === id)?.name;
    const toolName = (id: string) => this.tools.find((row) => row.id === id)?.name;
    return {
      apiKeys: this.apiKeys.length,
      llmKeys: sorted(this.llmKeys.map((row) => without(row))),
      items: sorted(this.items.map((row) => without(row))),
      installations: sorted(
        this.installations.map((row) => ({
          name: row.name,
          scope: row.scope,
          reinstallRequired: row.reinstallRequired,
          secrets: Object.entries(row.environmentValues).map(([key, value]) =>
            key === "MCP_HTTP_TOKEN" ? [key, value === row.userConfigValues["mcp_http_token"]] : [key, value],
          ),
          runs: this.#failureOf(row) ?? "runs",
          yaml: row.pod?.yaml === this.items.find(({ id }) => id === row.catalogId)?.deploymentSpecYaml,
          image: row.pod?.image ?? this.#storedImage(row),
        })),
      ),
      agents: sorted(
        this.agents.map((row) => ({
          ...without(row, "llmApiKeyId", "modelId"),
          key: this.llmKeys.find(({ id }) => id === row.llmApiKeyId)?.name,
          tools: sorted(
            this.assignments.filter(({ agentId }) => agentId === row.id).map(({ toolId }) => toolName(toolId)),
          ),
        })),
      ),
      delegations: sorted(this.delegations.map(({ from, to }) => [agentName(from), agentName(to)])),
      policies: sorted(
        [...this.invocationPolicies, ...this.resultPolicies].map((row) => ({
          ...without(row),
          toolId: toolName(row.toolId),
        })),
      ),
      schedules: sorted(this.schedules.map((row) => ({ ...without(row), agentId: agentName(row.agentId) }))),
    };
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://platform");
    const text = await textOf(request);
    const reply = (status: number, body: unknown, headers: Record<string, string> = {}) => {
      if (response.destroyed) return;
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    const refuse = (status: number, message: string) => reply(status, { error: { message, type: "api_error" } });
    if (url.pathname === "/openapi.json") return reply(200, this.#description());
    const found = match(request.method ?? "GET", url.pathname);
    // The real one answers so for paths that it does not have, too.
    if (found === undefined) return refuse(403, "Forbidden");
    const { name, call, params } = found;
    if (!this.#isAllowed(call, request)) return refuse(401, "Unauthenticated");
    if (name === "signIn" && request.headers.cookie !== undefined) {
      return reply(403, { message: "Missing or null Origin", code: "MISSING_OR_NULL_ORIGIN" });
    }
    const label = `${call.method} ${call.path}`;
    try {
      this.#fail(label);
      const body = this.#checked(call, text);
      if (this.onRequest("before", label) === "drop") return void response.destroy();
      this.log.push(label);
      const answer = this.#handle(name, {
        params,
        query: url.searchParams,
        body,
        authorization: request.headers.authorization,
        a2aVersion: String(request.headers["a2a-version"]),
      });
      const fate = this.onRequest("after", label);
      if (fate === "hang") return;
      if (fate === "drop") return void response.destroy();
      if (name === "signIn")
        return reply(200, {}, { "set-cookie": `archestra.session_token=${this.#session}; Path=/` });
      if (name === "agentMessage" && Array.isArray(answer)) return stream(response, answer);
      reply(200, answer);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (name === "signIn") return reply(error.status, { message: error.message, code: "INVALID_EMAIL_OR_PASSWORD" });
      refuse(error.status, error.message);
    }
  }

  #fail(label: string): void {
    const failure = this.failing.get(label);
    if (failure === undefined) return;
    if (failure.times !== undefined && (failure.times -= 1) === 0) this.failing.delete(label);
    throw new Refusal(failure.status, failure.message);
  }

  #isAllowed({ path }: Call, { headers }: IncomingMessage): boolean {
    if (path === "/health" || path === "/api/auth/sign-in/email") return true;
    // An agent's interface judges the token itself, and answers 200 with an error.
    if (path.startsWith("/v2/a2a")) return true;
    if (headers.cookie === `archestra.session_token=${this.#session}`) return true;
    return this.apiKeys.some((row) => row.key === headers.authorization);
  }

  /** The body by the call's schema, without fields that the platform does not know. */
  #checked(call: Call, text: string): unknown {
    if (call.body === undefined) return undefined;
    const fields = z.record(z.string(), z.unknown()).safeParse(tryJson(text));
    const parsed = call.body.safeParse(fields.data);
    if (!fields.success || !parsed.success) {
      throw new Refusal(400, parsed.success ? "body/ must be an object" : z.prettifyError(parsed.error));
    }
    if (call.path === "/api/agents") {
      const retired = ["scope", "teams", "users"].find((field) => field in fields.data);
      if (this.#shape === "grants" && retired !== undefined) {
        throw new Refusal(400, `${retired}: This field is retired. Set who can reach the object with initialGrants.`);
      }
      if (this.#shape === "scope" && !("scope" in fields.data)) throw new Refusal(400, "scope: Required");
    }
    return parsed.data;
  }

  /** As much of a description as tells the shape. */
  #description(): unknown {
    const byScope = this.#shape === "scope" ? { scope: {} } : {};
    return {
      paths: {
        "/api/agents": postOf(this.#shape === "scope" ? { scope: {} } : { initialGrants: {} }),
        "/api/internal_mcp_catalog": postOf(byScope),
        "/api/mcp_server": postOf(byScope),
        "/api/llm-provider-api-keys": postOf({ scope: {} }),
      },
    };
  }

  #handle(name: keyof typeof calls, request: Request<unknown>): unknown {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the body was parsed by the schema of this very call
    const handler = this.#handlers[name] as (request: Request<unknown>) => unknown;
    return handler(request);
  }

  readonly #handlers: Handlers = {
    health: () => ({ name: "Archestra", status: "ok", version: this.#shape === "scope" ? "1.2.71" : "1.4.0" }),
    config: () => ({ features: { orchestratorK8sRuntime: this.orchestrator } }),
    organization: () => this.organization,
    signIn: ({ body: { email, password } }) => {
      if (email !== this.#email || password !== this.#password) throw new Refusal(401, "Invalid email or password");
    },
    listApiKeys: () => this.apiKeys.map(({ id, name }) => ({ id, name })),
    createApiKey: ({ body: { name } }) => {
      const row = { id: randomUUID(), name, key: `arch_${randomUUID()}` };
      this.apiKeys.push(row);
      return row;
    },
    deleteApiKey: ({ params }) => remove(this.apiKeys, params),
    personalToken: () => ({ value: this.#personalToken }),

    listLlmKeys: () => this.llmKeys,
    createLlmKey: ({ body }) => {
      tryLlmKey(body);
      const { apiKey: _, scope = "personal", baseUrl = null, ...fields } = body;
      const row = { ...fields, scope, baseUrl, id: randomUUID() };
      this.llmKeys.push(row);
      return row;
    },
    updateLlmKey: ({ params, body }) => {
      tryLlmKey(body);
      return Object.assign(find(this.llmKeys, params), { baseUrl: body.baseUrl });
    },
    deleteLlmKey: ({ params }) => remove(this.llmKeys, params),
    listModels: ({ query }) =>
      this.models.map(({ id, isBest }) => ({ id, dbId: uuidOf(`${query.get("provider")}/${id}`), isBest })),
    syncModels: () => ({ success: true }),

    listCatalog: () => this.items,
    getCatalogItem: ({ params }) => find(this.items, params),
    createCatalogItem: ({ body }) => {
      const { scope = "personal", localConfig = null, serverUrl = null, initialGrants: _, ...fields } = body;
      const row = { ...fields, scope, deploymentSpecYaml: null, localConfig, serverUrl, id: randomUUID() };
      this.items.push(row);
      return row;
    },
    updateCatalogItem: ({ params, body }) => this.#updateItem(find(this.items, params), body),
    deleteCatalogItem: ({ params }) => {
      for (const one of this.#installationsOf(params["id"])) this.#uninstall(one);
      return remove(this.items, params);
    },
    refreshImage: ({ params }) => {
      for (const one of this.#installationsOf(params["id"])) this.#startPod(one, 2);
      return { success: true };
    },
    validateDeployment: ({ body: { yaml } }) => {
      const document = parseDocument(yaml);
      const isDeployment = deploymentSchema.safeParse(document.toJS()).success;
      const errors = document.errors.map(({ message }) => message);
      if (errors.length === 0 && !isDeployment) errors.push("expected a single document of apps/v1 Deployment");
      return { valid: errors.length === 0, errors, warnings: [] };
    },
    listInstallations: ({ query }) => this.#installationsOf(query.get("catalogId") ?? "").map(publicInstallation),
    install: ({ body }) => this.#install(body),
    installationStatus: ({ params }) => {
      const row = find(this.installations, params);
      this.#tick(row);
      return publicInstallation(row);
    },
    reinstall: ({ params, body }) => {
      const row = find(this.installations, params);
      const item = find(this.items, { id: row.catalogId });
      this.#checkValues(item, body, row);
      const secrets = new Set(
        (item.localConfig?.environment ?? []).flatMap(({ key, type }) => (type === "secret" ? [key] : [])),
      );
      // Prompted plain values keep their first value.
      const given = Object.entries(body.environmentValues ?? {}).filter(([key]) => secrets.has(key));
      row.environmentValues = { ...row.environmentValues, ...Object.fromEntries(given) };
      const token = body.userConfigValues?.["mcp_http_token"];
      if (token !== undefined && token !== row.userConfigValues["mcp_http_token"]) row.sendsOldTokenFor = 5;
      row.userConfigValues = { ...row.userConfigValues, ...body.userConfigValues };
      row.reinstallRequired = false;
      this.#startPod(row, 2);
      return publicInstallation(row);
    },
    listServerTools: ({ params }) => this.tools.filter(({ mcpServerId }) => mcpServerId === params["id"]),
    inspect: ({ params, body: { method } }) => {
      const row = find(this.installations, params);
      this.#tick(row);
      const failure = this.#failureOf(row);
      if (failure !== undefined) throw new Refusal(500, failure);
      if (row.sendsOldTokenFor > 0) {
        row.sendsOldTokenFor -= 1;
        throw new Refusal(500, "Streamable HTTP error: 401");
      }
      if (method === "tools/list") return { tools: toolsOf(row.name).map((name) => ({ name })) };
      const isError = this.cutOff.has(row.name);
      const text = isError ? "connection_failed: getaddrinfo ENOTFOUND" : "0 of them";
      return { content: [{ type: "text", text }], isError };
    },

    listAgents: ({ query }) => {
      const [name, type] = [query.get("name") ?? "", query.get("agentType")];
      const named = this.agents.filter((row) => row.name.includes(name) && row.agentType === (type ?? row.agentType));
      return { data: named.slice(0, Number(query.get("limit") ?? 20)) };
    },
    createAgent: ({ body }) => {
      const row = {
        ...body,
        id: randomUUID(),
        slug: body.name.toLowerCase().replaceAll(/\W+/g, "-"),
        description: body.description ?? null,
        icon: body.icon ?? null,
        systemPrompt: body.systemPrompt ?? null,
        llmApiKeyId: body.llmApiKeyId ?? null,
        modelId: body.modelId ?? null,
        suggestedPrompts: body.suggestedPrompts ?? [],
        toolExposureMode: body.toolExposureMode ?? (this.#shape === "scope" ? "full" : "search_and_run_only"),
      };
      this.agents.push(row);
      return row;
    },
    updateAgent: ({ params, body }) => Object.assign(find(this.agents, params), body),
    deleteAgent: ({ params }) => {
      keep(this.assignments, ({ agentId }) => agentId !== params["id"]);
      keep(this.delegations, ({ from, to }) => from !== params["id"] && to !== params["id"]);
      keep(this.schedules, ({ agentId }) => agentId !== params["id"]);
      return remove(this.agents, params);
    },
    listAgentTools: ({ params }) =>
      this.assignments
        .filter(({ agentId }) => agentId === params["agentId"])
        .map(({ toolId, mcpServerId }) => ({
          id: toolId,
          name: find(this.tools, { id: toolId }).name,
          mcpServerId,
          credentialResolutionMode: "static",
        })),
    assignTools: ({ body: { assignments } }) => {
      const isKnown = (one: { toolId: string; mcpServerId: string }) =>
        this.tools.some(({ id, mcpServerId }) => id === one.toolId && mcpServerId === one.mcpServerId);
      const isThere = (one: { agentId: string; toolId: string }) =>
        this.assignments.some((row) => row.agentId === one.agentId && row.toolId === one.toolId);
      const failed = assignments.filter((one) => !isKnown(one)).map((one) => ({ ...one, error: "Tool not found" }));
      const duplicates = assignments.filter((one) => isKnown(one) && isThere(one));
      const succeeded = assignments.filter((one) => isKnown(one) && !isThere(one));
      this.assignments.push(...succeeded);
      return { succeeded, failed, duplicates };
    },
    unassignTool: ({ params }) => {
      keep(this.assignments, (row) => !(row.agentId === params["agentId"] && row.toolId === params["toolId"]));
      return { success: true };
    },
    listDelegations: ({ params }) =>
      this.delegations.filter(({ from }) => from === params["agentId"]).map(({ to }) => ({ id: to })),
    setDelegations: ({ params, body: { targetAgentIds } }) => {
      const { id: from } = find(this.agents, { id: params["agentId"] });
      keep(this.delegations, (row) => row.from !== from);
      this.delegations.push(...targetAgentIds.map((to) => ({ from, to })));
      return { added: targetAgentIds, removed: [] };
    },

    listInvocationPolicies: () => this.#withPolicies(() => this.invocationPolicies),
    setInvocationDefaults: ({ body }) =>
      this.#withPolicies(() => {
        for (const id of body.toolIds) find(this.tools, { id });
        return setDefaults(this.invocationPolicies, body);
      }),
    createInvocationPolicy: ({ body }) =>
      this.#withPolicies(() => {
        find(this.tools, { id: body.toolId });
        const row = { ...body, id: randomUUID() };
        this.invocationPolicies.push(row);
        return row;
      }),
    deleteInvocationPolicy: ({ params }) => this.#withPolicies(() => remove(this.invocationPolicies, params)),
    listResultPolicies: () => this.#withPolicies(() => this.resultPolicies),
    setResultDefaults: ({ body }) =>
      this.#withPolicies(() => {
        for (const id of body.toolIds) find(this.tools, { id });
        return setDefaults(this.resultPolicies, body);
      }),

    listSchedules: ({ query }) => ({
      data: this.schedules.filter(({ name }) => name.includes(query.get("name") ?? "")),
    }),
    createSchedule: ({ body }) => {
      checkCron(body.cronExpression);
      const row = { ...body, id: randomUUID() };
      this.schedules.push(row);
      return row;
    },
    updateSchedule: ({ params, body }) => {
      checkCron(body.cronExpression);
      return Object.assign(find(this.schedules, params), body);
    },
    deleteSchedule: ({ params }) => remove(this.schedules, params),
    runSchedule: ({ params }) => {
      find(this.schedules, params);
      const row = { id: randomUUID(), status: "running", error: null };
      this.runs.push(row);
      return { ...row };
    },
    scheduleRun: ({ params }) => {
      const run = find(this.runs, { id: params["runId"] });
      return this.runsEnd ? Object.assign(run, { status: "success" }) : run;
    },

    agentCard: () => ({ capabilities: { streaming: this.streams } }),
    agentMessage: ({ params, body, authorization, a2aVersion }) => {
      const answer = this.#converse(params["agentId"] ?? "", body, authorization);
      // Without the header events have the protocol's old shapes.
      return Array.isArray(answer) && a2aVersion !== "1.0" ? [{ result: { kind: "status-update" } }] : answer;
    },
    listToolCalls: ({ query }) => ({
      data: query.get("sortDirection") === "desc" ? this.toolCalls.toReversed() : this.toolCalls,
    }),
  };

  #withPolicies<Answer>(work: () => Answer): Answer {
    if (!this.hasPolicies) throw new Refusal(404, "Not found");
    return work();
  }

  #installationsOf(catalogId: string | undefined): Installed[] {
    return this.installations.filter((row) => row.catalogId === catalogId);
  }

  #updateItem(item: Item, body: BodyOf<typeof calls.updateCatalogItem>): Item {
    const before = { ...item };
    Object.assign(item, body);
    // What this rewriting loses is the mount of /staging.
    if (body.localConfig?.environment !== undefined && item.deploymentSpecYaml !== null) {
      const mounts = /^ +volumeMounts:\n(?: +- .*\n +mountPath: .*\n)+(?= +volumes:)/m;
      item.deploymentSpecYaml = item.deploymentSpecYaml.replace(mounts, "");
    }
    if (this.losesYaml && item.deploymentSpecYaml !== null) item.deploymentSpecYaml += "# seen\n";
    const needsReinstall = ({ name, localConfig }: Item) =>
      JSON.stringify([name, { ...localConfig, environment: localConfig?.environment ?? [] }]);
    for (const one of this.#installationsOf(item.id)) {
      if (needsReinstall(before) !== needsReinstall(item)) one.reinstallRequired = true;
      if (item.deploymentSpecYaml !== before.deploymentSpecYaml) this.#startPod(one, 3);
    }
    return item;
  }

  #install(body: BodyOf<typeof calls.install>): unknown {
    const item = find(this.items, { id: body.catalogId });
    const scope = body.scope ?? (this.#shape === "grants" ? "org" : "personal");
    if (this.#installationsOf(item.id).some((row) => row.scope === scope)) {
      throw new Refusal(400, "This organization already has an installation of this MCP server");
    }
    this.#checkValues(item, body);
    if (item.serverUrl?.includes("unreachable") === true) {
      throw new Refusal(500, `Failed to fetch tools from MCP server ${item.name}: fetch failed`);
    }
    const row: Installed = {
      id: randomUUID(),
      catalogId: item.id,
      name: body.name,
      scope,
      reinstallRequired: false,
      localInstallationStatus: "pending",
      localInstallationError: null,
      environmentValues: body.environmentValues ?? {},
      userConfigValues: body.userConfigValues ?? {},
      pod: undefined,
      sendsOldTokenFor: 0,
    };
    this.installations.push(row);
    this.#startPod(row, item.serverType === "remote" ? 0 : 2);
    return publicInstallation(row);
  }

  /** All required values, or those that the installation has already where the body names none at all. */
  #checkValues(item: Item, body: BodyOf<typeof calls.reinstall>, existing?: Installed): void {
    const { environmentValues: given, userConfigValues: configured } = body;
    if (existing !== undefined && given === undefined && configured === undefined) return;
    const required = (item.localConfig?.environment ?? []).filter((one) => one.required === true).map(({ key }) => key);
    const missing = required.filter((key) => given?.[key] === undefined);
    if (missing.length > 0) throw new Refusal(400, `Missing required environment variables: ${missing.join(", ")}`);
    const fields = Object.entries(item.userConfig ?? {}).filter(([, { required: isRequired }]) => isRequired === true);
    const isAbsent = fields.some(([key]) => configured?.[key] === undefined);
    if (isAbsent) throw new Refusal(400, "Missing required connection settings");
  }

  #startPod(row: Installed, startsIn: number): void {
    const item = find(this.items, { id: row.catalogId });
    row.pod = { startsIn, yaml: item.deploymentSpecYaml, image: this.#storedImage(row) };
    row.localInstallationStatus = "pending";
    row.localInstallationError = null;
    this.#tick(row, 0);
  }

  /** Time passes by being asked for. */
  #tick(row: Installed, by = 1): void {
    const { pod } = row;
    if (pod === undefined || row.localInstallationStatus !== "pending") return;
    pod.startsIn -= by;
    if (pod.startsIn > 0) return;
    const failure = this.#failureOf(row);
    row.localInstallationStatus = failure === undefined ? "success" : "error";
    row.localInstallationError = failure ?? null;
    if (failure === undefined) this.#discover(row);
  }

  #discover(row: Installed): void {
    const names = this.hidesTools ? [] : toolsOf(row.name).map((tool) => `${row.name}__${tool}`);
    keep(this.tools, ({ mcpServerId, name }) => mcpServerId !== row.id || names.includes(name));
    for (const name of names) {
      if (this.tools.some((tool) => tool.mcpServerId === row.id && tool.name === name)) continue;
      this.tools.push({ id: randomUUID(), name, mcpServerId: row.id });
    }
  }

  #uninstall(row: Installed): void {
    keep(this.installations, ({ id }) => id !== row.id);
    const gone = new Set(this.tools.filter(({ mcpServerId }) => mcpServerId === row.id).map(({ id }) => id));
    keep(this.tools, ({ id }) => !gone.has(id));
    keep(this.assignments, ({ toolId }) => !gone.has(toolId));
    keep(this.invocationPolicies, ({ toolId }) => !gone.has(toolId));
    keep(this.resultPolicies, ({ toolId }) => !gone.has(toolId));
  }

  /** Why the server of an installation does not answer, or undefined. */
  #failureOf(row: Installed): string | undefined {
    const item = this.items.find(({ id }) => id === row.catalogId);
    if (item?.serverType === "remote") return undefined;
    if (row.pod === undefined || row.pod.startsIn > 0) {
      return "MCP server is not running yet. Start or restart it, then retry.";
    }
    if (this.#storedImage(row) === undefined) return this.#podFails(row, "ErrImageNeverPull");
    if (this.#cluster.object("PersistentVolumeClaim", "data-transformer-staging") === undefined) {
      return "Pod scheduling failed";
    }
    if (this.breaks.has(row.name)) return this.#podFails(row, "CrashLoopBackOff");
    const document = parseDocument(row.pod.yaml ?? "");
    const containers = containersSchema.safeParse(document.errors.length === 0 ? document.toJS() : null);
    const container = containers.data?.spec.template.spec.containers[0];
    // The default deployment has no --http and mounts nothing.
    if (container === undefined) return "fetch failed";
    // The start-up probe finds that /staging is no mount.
    const isMounted = container.volumeMounts.some(({ mountPath }) => mountPath === "/staging");
    if (!isMounted) return this.#podFails(row, "CrashLoopBackOff");
    if (item?.localConfig?.transportType === "stdio") return undefined;
    const isListening = container.env.some(({ name, value }) => name === "MCP_HTTP_HOST" && value === "0.0.0.0");
    if (!container.args.includes("--http") || !isListening) return "fetch failed";
    const isAuthorized = row.environmentValues["MCP_HTTP_TOKEN"] === row.userConfigValues["mcp_http_token"];
    return isAuthorized ? undefined : "Streamable HTTP error: 401";
  }

  /** The image that the cluster has for an installation; a pod that waited for it starts with the one that came. */
  #storedImage({ catalogId }: Installed): string | undefined {
    const image = this.items.find(({ id }) => id === catalogId)?.localConfig?.dockerImage;
    return image === undefined ? undefined : this.#cluster.stored(image);
  }

  #podFails({ name }: Installed, reason: string): string {
    const waiting = { reason, message: `${reason} of ${name}` };
    const metadata = { name: `mcp-${name.replaceAll("_", "")}-1` };
    this.#cluster.pods([{ metadata, status: { containerStatuses: [{ name: "mcp-server", state: { waiting } }] } }]);
    return `Pod did not start: ${reason}`;
  }

  #converse(
    agentId: string,
    { method, params }: BodyOf<typeof calls.agentMessage>,
    authorization: string | undefined,
  ): unknown {
    if (authorization !== `Bearer ${this.#personalToken}`)
      return rpcError(-32_602, "Failed to resolve actor from token");
    if (!this.agents.some(({ id }) => id === agentId)) return rpcError(-32_006, "Agent not found");
    const isKnown = method === "SendMessage" || (this.streams && ["SendStreamingMessage", "GetTask"].includes(method));
    if (!isKnown) return rpcError(-32_601, "Method not found");
    if (method === "GetTask") return rpcResult(this.#ended.get(taskSchema.parse(params).id));
    const { message, configuration } = messageSchema.parse(params);
    if (!z.uuid().safeParse(message.messageId).success)
      return rpcError(-32_603, "Failed query: insert into a2a_message");
    if (message.taskId !== undefined) {
      const task = this.#tasks.get(message.taskId);
      if (task === undefined || !task.open) return rpcError(-32_602, "Task is not in input required state");
      const decisions = message.metadata?.taskOps.approvalDecisions ?? [];
      const decision = decisions.find(({ approvalId }) => approvalId === task.approvalId);
      if (decision === undefined) return rpcError(-32_602, "No decision");
      task.open = false;
      const texts = decision.approved ? ["Replacing.", "Replaced."] : ["Tool execution denied."];
      return rpcResult({ message: said(task.contextId, texts) });
    }
    if (message.contextId !== undefined && !this.#contexts.has(message.contextId)) {
      return rpcError(-32_602, "Context not found");
    }
    const contextId = message.contextId ?? randomUUID();
    this.#contexts.add(contextId);
    const outcome = this.agent(message.parts.map((part) => part.text ?? "").join(""), { contextId });
    if ("fails" in outcome) return rpcError(-32_603, "Internal error", { reason: outcome.fails });
    const taskId = randomUUID();
    const artifacts = (texts: readonly string[]) =>
      texts.map((text) => ({ result: { artifactUpdate: { taskId, contextId, artifact: { parts: [{ text }] } } } }));
    if ("ask" in outcome) {
      const approvalId = randomUUID();
      this.#tasks.set(taskId, { contextId, approvalId, open: true });
      const status = { state: "TASK_STATE_INPUT_REQUIRED" };
      const approvalRequests = [{ approvalId, toolName: outcome.ask, toolCallId: "call_1" }];
      const result = { task: { id: taskId, contextId, status, metadata: { approvalRequests } } };
      return this.streams ? [...artifacts(outcome.texts ?? []), { result }] : rpcResult(result);
    }
    if (this.streams && configuration?.returnImmediately === true) {
      const parts = outcome.texts.map((text) => ({ text }));
      const status = { state: "TASK_STATE_COMPLETED" };
      this.#ended.set(taskId, { id: taskId, contextId, status, artifacts: [{ name: "agent-response", parts }] });
      return rpcResult({ task: { id: taskId, contextId, status: { state: "TASK_STATE_WORKING" } } });
    }
    if (!this.streams) return rpcResult({ message: said(contextId, outcome.texts) });
    return [
      { result: { task: { id: taskId, contextId, status: { state: "TASK_STATE_WORKING" } } } },
      ...artifacts(outcome.texts),
      { result: { statusUpdate: { taskId, contextId, status: { state: "TASK_STATE_COMPLETED" } } } },
    ];
  }
}

const taskSchema = z.object({ id: z.string() });

const messageSchema = z.object({
  configuration: z.object({ returnImmediately: z.boolean() }).optional(),
  message: z.object({
    messageId: z.string(),
    taskId: z.string().optional(),
    contextId: z.string().optional(),
    role: z.literal("ROLE_USER"),
    parts: z.array(z.object({ text: z.string().optional() })),
    metadata: z
      .object({
        taskOps: z.object({ approvalDecisions: z.array(z.object({ approvalId: z.string(), approved: z.boolean() })) }),
      })
      .optional(),
  }),
});

const containersSchema = z.object({
  spec: z.object({
    template: z.object({
      spec: z.object({
        containers: z.array(
          z.object({
            args: z.array(z.string()).default([]),
            env: z.array(z.object({ name: z.string(), value: z.string() })).default([]),
            volumeMounts: z.array(z.object({ mountPath: z.string() })).default([]),
          }),
        ),
      }),
    }),
  }),
});

const deploymentSchema = containersSchema.extend({ apiVersion: z.literal("apps/v1"), kind: z.literal("Deployment") });

const structured = { structuredOutput: false };

function toolsOf(server: string): string[] {
  return server === "es_mcp"
    ? esTools.map((tool) => publishedTool(tool, structured).name)
    : pgTools.map((tool) => publishedTool(tool, structured).name);
}

/** A row without its id, and without some other fields. */
function without(row: object, ...fields: string[]): object {
  return Object.fromEntries(Object.entries(row).filter(([field]) => field !== "id" && !fields.includes(field)));
}

/** The description of a creating call, as much of it as is looked at. */
function postOf(properties: object) {
  return { post: { requestBody: { content: { "application/json": { schema: { properties } } } } } };
}

function rpcResult(result: unknown) {
  return { jsonrpc: "2.0", id: 1, result };
}

function rpcError(code: number, message: string, data?: unknown) {
  return { jsonrpc: "2.0", id: 1, error: { code, message, data } };
}

function said(contextId: string, texts: readonly string[]) {
  return { messageId: randomUUID(), contextId, role: "ROLE_AGENT", parts: texts.map((text) => ({ text })) };
}

function stream(response: ServerResponse, events: readonly object[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events) response.write(`data: ${JSON.stringify({ jsonrpc: "2.0", id: 1, ...event })}\n\n`);
  response.end();
}

function publicInstallation({
  pod: _pod,
  environmentValues: _values,
  userConfigValues: _config,
  sendsOldTokenFor: _stale,
  ...row
}: Installed) {
  return row;
}

function setDefaults(
  rows: Policy[],
  { toolIds, action }: { toolIds: string[]; action: string },
): { updated: number; created: number } {
  const isDefault = ({ toolId, conditions }: Policy) => toolIds.includes(toolId) && conditions.length === 0;
  const known = rows.filter(isDefault);
  for (const row of known) row.action = action;
  const fresh = toolIds.filter((toolId) => !known.some((row) => row.toolId === toolId));
  rows.push(...fresh.map((toolId) => ({ id: randomUUID(), toolId, conditions: [], action })));
  return { updated: known.length, created: fresh.length };
}

function tryLlmKey({ apiKey, baseUrl }: { apiKey?: string | undefined; baseUrl?: string | null | undefined }): void {
  if (apiKey?.includes("bad") === true || baseUrl?.includes("unreachable") === true) {
    throw new Refusal(400, "Invalid API key: Failed to connect to Openai: 401 Unauthorized");
  }
}

function checkCron(expression: string | undefined): void {
  if (expression !== undefined && expression.split(" ").length !== 5) throw new Refusal(400, "Invalid cron expression");
}

/** The same id for the same text. */
function uuidOf(text: string): string {
  return `00000000-0000-4000-8000-${createHash("sha256").update(text).digest("hex").slice(0, 12)}`;
}

function sorted(rows: readonly unknown[]): string[] {
  return rows.map((row) => JSON.stringify(row)).sort();
}

function keep<One>(rows: One[], condition: (row: One) => boolean): void {
  rows.splice(0, rows.length, ...rows.filter(condition));
}

function find<One extends { id: string }>(rows: readonly One[], { id }: { id?: string | undefined }): One {
  const row = rows.find((one) => one.id === id);
  if (row === undefined) throw new Refusal(404, "Not found");
  return row;
}

function remove(rows: { id: string }[], params: { id?: string }): { success: boolean } {
  const row = find(rows, params);
  rows.splice(rows.indexOf(row), 1);
  return { success: true };
}

function isCallName(name: string): name is keyof typeof calls {
  return name in calls;
}

function match(
  method: string,
  path: string,
): { name: keyof typeof calls; call: Call; params: Record<string, string> } | undefined {
  for (const [name, call] of Object.entries<Call>(calls)) {
    const pattern = new RegExp(`^${call.path.replaceAll(".", "\\.").replaceAll(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`);
    const found = call.method === method ? pattern.exec(path) : null;
    if (found !== null && isCallName(name)) return { name, call, params: { ...found.groups } };
  }
  return undefined;
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  request.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await once(request, "end");
  return text;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
