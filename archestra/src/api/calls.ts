/**
 * Every call to the platform that this program makes, with the shapes it relies on and no more. The contract server of
 * the tests validates by the same schemas, and `npm run check:archestra -- openapi.json` compares them with the platform's
 * own description.
 */
import { z } from "zod";

export interface Call<Path extends string = string, Body = unknown, Answer = unknown> {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: Path;
  /** Names of the query parameters that are used. */
  query?: readonly string[];
  body?: z.ZodType<Body>;
  answer: z.ZodType<Answer>;
}

function call<const Path extends string, Body, Answer>(definition: Call<Path, Body, Answer>): Call<Path, Body, Answer> {
  return definition;
}

const labels = z.array(z.object({ key: z.string().min(1), value: z.string().min(1) }));
const done = z.object({ success: z.boolean() });

/**
 * How a new object is opened to the whole organization: 1.2.71 takes `scope`, later versions `initialGrants`, and they
 * refuse the other with status 400. Some creating calls of later versions take neither. See `openedToOrganization`.
 */
const opened = z.object({
  scope: z.literal("org").optional(),
  initialGrants: z
    .array(
      z.object({
        subject: z.object({ type: z.literal("organization"), id: z.literal("*") }),
        actions: z.array(z.enum(["read", "use", "update", "delete", "manage-permissions"])),
      }),
    )
    .optional(),
});

const apiKey = z.object({ id: z.string(), name: z.string().nullable() });

export const providers = [
  "openai",
  "anthropic",
  "gemini",
  "bedrock",
  "cohere",
  "cerebras",
  "mistral",
  "perplexity",
  "groq",
  "xai",
  "openrouter",
  "vllm",
  "ollama",
  "zhipuai",
  "deepseek",
  "minimax",
  "azure",
  "github-copilot",
] as const;

const llmKey = z.object({
  id: z.string(),
  name: z.string(),
  // Later versions know more providers; only the name is compared.
  provider: z.string(),
  baseUrl: z.string().nullable(),
  isPrimary: z.boolean(),
});

const environmentVariable = z.object({
  key: z.string().min(1),
  type: z.enum(["plain_text", "secret", "boolean", "number"]),
  promptOnInstallation: z.boolean(),
  required: z.boolean().optional(),
  description: z.string().optional(),
});

const localConfig = z.object({
  dockerImage: z.string().optional(),
  arguments: z.array(z.string()).optional(),
  transportType: z.enum(["stdio", "streamable-http"]).optional(),
  httpPort: z.number().optional(),
  httpPath: z.string().optional(),
  environment: z.array(environmentVariable).optional(),
});

const userConfig = z.record(
  z.string(),
  z.object({
    type: z.enum(["string", "number", "boolean", "directory", "file"]),
    title: z.string(),
    description: z.string(),
    promptOnInstallation: z.boolean().optional(),
    required: z.boolean().optional(),
    sensitive: z.boolean().optional(),
    headerName: z.string().optional(),
    valuePrefix: z.string().optional(),
  }),
);

const catalogItem = z.object({
  id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  serverType: z.string(),
  serverUrl: z.string().nullable(),
  icon: z.string().nullable(),
  labels,
  localConfig: localConfig.nullable(),
  userConfig: userConfig.nullable(),
  deploymentSpecYaml: z.string().nullable(),
});

const catalogBody = z.object({
  name: z.string().min(1),
  description: z.string(),
  serverType: z.enum(["local", "remote"]),
  serverUrl: z.string().optional(),
  icon: z.string(),
  labels,
  localConfig: localConfig.optional(),
  userConfig,
});

const installation = z.object({
  id: z.string(),
  name: z.string(),
  catalogId: z.string(),
  scope: z.string().optional(),
  reinstallRequired: z.boolean(),
  localInstallationStatus: z.enum(["idle", "pending", "discovering-tools", "success", "error"]),
  localInstallationError: z.string().nullable(),
});

const installBody = z.object({
  name: z.string(),
  catalogId: z.uuid(),
  environmentValues: z.record(z.string(), z.string()).optional(),
  userConfigValues: z.record(z.string(), z.string()).optional(),
});

const agentFields = z.object({
  name: z.string(),
  agentType: z.enum(["agent", "mcp_gateway"]),
  description: z.string().optional(),
  icon: z.string().optional(),
  systemPrompt: z.string().optional(),
  llmApiKeyId: z.uuid().optional(),
  modelId: z.uuid().optional(),
  labels,
  suggestedPrompts: z
    .array(z.object({ summaryTitle: z.string().min(1).max(50), prompt: z.string().min(1).max(5000) }))
    .optional(),
  toolExposureMode: z.enum(["full", "search_and_run_only"]).optional(),
});

const agent = z.object({
  id: z.string(),
  name: z.string(),
  slug: z.string().nullable(),
  // Later versions say it by grants alone.
  scope: z.string().optional(),
  agentType: z.string(),
  description: z.string().nullable(),
  icon: z.string().nullable(),
  systemPrompt: z.string().nullable(),
  llmApiKeyId: z.string().nullable(),
  modelId: z.string().nullable(),
  labels,
  suggestedPrompts: z.array(z.object({ summaryTitle: z.string(), prompt: z.string() })),
  toolExposureMode: z.string(),
});

const conditions = z.array(z.object({ key: z.string(), operator: z.string(), value: z.string() }));

const invocationActions = [
  "allow_when_context_is_untrusted",
  "block_when_context_is_untrusted",
  "block_always",
  "require_approval",
] as const;

const schedule = z.object({
  id: z.string(),
  name: z.string(),
  agentId: z.string(),
  messageTemplate: z.string(),
  cronExpression: z.string(),
  timezone: z.string(),
  enabled: z.boolean(),
});

const scheduleBody = z.object({
  name: z.string().min(1),
  agentId: z.uuid(),
  cronExpression: z.string().min(1),
  timezone: z.string().min(1),
  messageTemplate: z.string().min(1),
  enabled: z.boolean(),
});

const scheduleRun = z.object({
  id: z.string(),
  status: z.enum(["running", "success", "failed"]),
  error: z.string().nullable(),
});

export const calls = {
  health: call({ method: "GET", path: "/health", answer: z.object({ status: z.string(), version: z.string() }) }),
  config: call({
    method: "GET",
    path: "/api/config",
    answer: z.object({ features: z.object({ orchestratorK8sRuntime: z.boolean() }) }),
  }),
  organization: call({
    method: "GET",
    path: "/api/organization",
    answer: z.object({ name: z.string(), globalToolPolicy: z.string().optional() }),
  }),

  // Access
  signIn: call({
    method: "POST",
    path: "/api/auth/sign-in/email",
    body: z.object({ email: z.string(), password: z.string() }),
    answer: z.unknown(),
  }),
  listApiKeys: call({ method: "GET", path: "/api/api-keys", answer: z.array(apiKey) }),
  createApiKey: call({
    method: "POST",
    path: "/api/api-keys",
    body: z.object({ name: z.string() }),
    answer: z.object({ id: z.string(), key: z.string() }),
  }),
  deleteApiKey: call({ method: "DELETE", path: "/api/api-keys/{id}", answer: done }),
  personalToken: call({
    method: "GET",
    path: "/api/user-tokens/me/value",
    answer: z.object({ value: z.string() }),
  }),

  // Language model
  listLlmKeys: call({ method: "GET", path: "/api/llm-provider-api-keys", answer: z.array(llmKey) }),
  createLlmKey: call({
    method: "POST",
    path: "/api/llm-provider-api-keys",
    body: z.object({
      name: z.string().min(1),
      provider: z.enum(providers),
      apiKey: z.string().min(1).optional(),
      baseUrl: z.url().optional(),
      isPrimary: z.boolean(),
      ...opened.shape,
    }),
    answer: llmKey,
  }),
  updateLlmKey: call({
    method: "PATCH",
    path: "/api/llm-provider-api-keys/{id}",
    body: z.object({ apiKey: z.string().min(1).optional(), baseUrl: z.url().nullable() }),
    answer: llmKey,
  }),
  deleteLlmKey: call({ method: "DELETE", path: "/api/llm-provider-api-keys/{id}", answer: done }),
  listModels: call({
    method: "GET",
    path: "/api/llm-models/available",
    query: ["provider", "apiKeyId"],
    answer: z.array(z.object({ id: z.string(), dbId: z.string(), isBest: z.boolean().optional() })),
  }),
  syncModels: call({ method: "POST", path: "/api/llm-models/sync", answer: done }),

  // Servers
  listCatalog: call({ method: "GET", path: "/api/internal_mcp_catalog", answer: z.array(catalogItem) }),
  getCatalogItem: call({ method: "GET", path: "/api/internal_mcp_catalog/{id}", answer: catalogItem }),
  createCatalogItem: call({
    method: "POST",
    path: "/api/internal_mcp_catalog",
    body: catalogBody.extend(opened.shape),
    answer: catalogItem,
  }),
  updateCatalogItem: call({
    method: "PUT",
    path: "/api/internal_mcp_catalog/{id}",
    body: catalogBody.extend({ deploymentSpecYaml: z.string() }).partial(),
    answer: catalogItem,
  }),
  deleteCatalogItem: call({ method: "DELETE", path: "/api/internal_mcp_catalog/{id}", answer: done }),
  refreshImage: call({ method: "POST", path: "/api/internal_mcp_catalog/{id}/refresh-image", answer: done }),
  validateDeployment: call({
    method: "POST",
    path: "/api/internal_mcp_catalog/validate-deployment-yaml",
    body: z.object({ yaml: z.string().min(1) }),
    answer: z.object({ valid: z.boolean(), errors: z.array(z.string()) }),
  }),
  listInstallations: call({
    method: "GET",
    path: "/api/mcp_server",
    query: ["catalogId"],
    answer: z.array(installation),
  }),
  install: call({
    method: "POST",
    path: "/api/mcp_server",
    body: installBody.extend(opened.shape),
    answer: installation,
  }),
  installationStatus: call({
    method: "GET",
    path: "/api/mcp_server/{id}/installation-status",
    answer: installation.pick({ localInstallationStatus: true, localInstallationError: true }),
  }),
  reinstall: call({
    method: "POST",
    path: "/api/mcp_server/{id}/reinstall",
    body: installBody.pick({ environmentValues: true, userConfigValues: true }),
    answer: installation,
  }),
  listServerTools: call({
    method: "GET",
    path: "/api/mcp_server/{id}/tools",
    answer: z.array(z.object({ id: z.string(), name: z.string() })),
  }),
  inspect: call({
    method: "POST",
    path: "/api/mcp_server/{id}/inspect",
    body: z.object({
      method: z.enum(["tools/list", "tools/call"]),
      toolName: z.string().optional(),
      toolArguments: z.record(z.string(), z.unknown()).optional(),
    }),
    answer: z.record(z.string(), z.unknown()),
  }),

  // Agent and gateway
  listAgents: call({
    method: "GET",
    path: "/api/agents",
    query: ["name", "agentType", "limit"],
    answer: z.object({ data: z.array(agent) }),
  }),
  createAgent: call({
    method: "POST",
    path: "/api/agents",
    body: agentFields.extend(opened.shape),
    answer: agent,
  }),
  updateAgent: call({
    method: "PUT",
    path: "/api/agents/{id}",
    body: agentFields.partial(),
    answer: agent,
  }),
  deleteAgent: call({ method: "DELETE", path: "/api/agents/{id}", answer: done }),
  listAgentTools: call({
    method: "GET",
    path: "/api/agents/{agentId}/tools",
    answer: z.array(
      z.object({
        id: z.string(),
        name: z.string(),
        mcpServerId: z.string().nullish(),
        credentialResolutionMode: z.string().optional(),
      }),
    ),
  }),
  assignTools: call({
    method: "POST",
    path: "/api/agents/tools/bulk-assign",
    body: z.object({
      assignments: z.array(z.object({ agentId: z.uuid(), toolId: z.uuid(), mcpServerId: z.uuid() })),
    }),
    answer: z.object({ failed: z.array(z.object({ toolId: z.string(), error: z.string() })) }),
  }),
  unassignTool: call({ method: "DELETE", path: "/api/agents/{agentId}/tools/{toolId}", answer: done }),
  listDelegations: call({
    method: "GET",
    path: "/api/agents/{agentId}/delegations",
    answer: z.array(z.object({ id: z.string() })),
  }),
  setDelegations: call({
    method: "POST",
    path: "/api/agents/{agentId}/delegations",
    body: z.object({ targetAgentIds: z.array(z.uuid()) }),
    answer: z.object({ added: z.array(z.string()) }),
  }),

  // Tool policies
  listInvocationPolicies: call({
    method: "GET",
    path: "/api/autonomy-policies/tool-invocation",
    answer: z.array(z.object({ id: z.string(), toolId: z.string(), conditions, action: z.string() })),
  }),
  setInvocationDefaults: call({
    method: "POST",
    path: "/api/tool-invocation/bulk-default",
    body: z.object({ toolIds: z.array(z.uuid()), action: z.enum(invocationActions) }),
    answer: z.object({ updated: z.number(), created: z.number() }),
  }),
  createInvocationPolicy: call({
    method: "POST",
    path: "/api/autonomy-policies/tool-invocation",
    body: z.object({
      toolId: z.uuid(),
      conditions: z.array(z.object({ key: z.string(), operator: z.literal("equal"), value: z.string() })),
      action: z.enum(invocationActions),
      reason: z.string(),
    }),
    answer: z.object({ id: z.string() }),
  }),
  deleteInvocationPolicy: call({ method: "DELETE", path: "/api/autonomy-policies/tool-invocation/{id}", answer: done }),
  listResultPolicies: call({
    method: "GET",
    path: "/api/trusted-data-policies",
    answer: z.array(z.object({ id: z.string(), toolId: z.string(), conditions, action: z.string() })),
  }),
  setResultDefaults: call({
    method: "POST",
    path: "/api/trusted-data-policies/bulk-default",
    body: z.object({ toolIds: z.array(z.uuid()), action: z.literal("mark_as_untrusted") }),
    answer: z.object({ updated: z.number(), created: z.number() }),
  }),

  // Schedule
  listSchedules: call({
    method: "GET",
    path: "/api/schedule-triggers",
    query: ["name", "limit"],
    answer: z.object({ data: z.array(schedule) }),
  }),
  createSchedule: call({ method: "POST", path: "/api/schedule-triggers", body: scheduleBody, answer: schedule }),
  updateSchedule: call({
    method: "PUT",
    path: "/api/schedule-triggers/{id}",
    body: scheduleBody.partial(),
    answer: schedule,
  }),
  deleteSchedule: call({ method: "DELETE", path: "/api/schedule-triggers/{id}", answer: done }),
  runSchedule: call({ method: "POST", path: "/api/schedule-triggers/{id}/run-now", answer: scheduleRun }),
  scheduleRun: call({ method: "GET", path: "/api/schedule-triggers/{id}/runs/{runId}", answer: scheduleRun }),

  // Conversation
  agentCard: call({
    method: "GET",
    path: "/v2/a2a/{agentId}/.well-known/agent-card.json",
    answer: z.object({ capabilities: z.object({ streaming: z.boolean() }) }),
  }),
  agentMessage: call({
    method: "POST",
    path: "/v2/a2a/{agentId}",
    body: z.object({
      jsonrpc: z.literal("2.0"),
      id: z.number(),
      method: z.string(),
      params: z.unknown(),
    }),
    answer: z.object({
      result: z.unknown().optional(),
      error: z.object({ code: z.number(), message: z.string(), data: z.unknown().optional() }).optional(),
    }),
  }),
  listToolCalls: call({
    method: "GET",
    path: "/api/mcp-tool-calls",
    query: ["agentId", "limit", "sortBy", "sortDirection"],
    answer: z.object({
      data: z.array(
        z.object({
          id: z.string(),
          method: z.string(),
          createdAt: z.string(),
          toolResult: z.unknown().optional(),
          toolCall: z.object({ name: z.string(), arguments: z.record(z.string(), z.unknown()) }).nullable(),
        }),
      ),
    }),
  }),
} as const;

export type Opened = z.output<typeof opened>;
export type CatalogItem = z.output<typeof catalogItem>;
export type CatalogBody = z.output<typeof catalogBody>;
export type Installation = z.output<typeof installation>;
export type AgentRow = z.output<typeof agent>;
export type AgentFields = z.output<typeof agentFields>;
export type LlmKey = z.output<typeof llmKey>;
export type Schedule = z.output<typeof schedule>;
