import { expect, it } from "vitest";
import { z } from "zod";
import { type Call, calls } from "./api/calls.ts";
import { compareWithOpenApi } from "./check-openapi.ts";

interface Schema {
  type?: unknown;
  enum?: unknown[];
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
}

const asSchema = z.custom<Schema>((value) => typeof value === "object");

interface Operation {
  parameters: { name: string; in: string; required?: boolean }[];
  requestBody?: { content: { "application/json": { schema: Schema } } };
  responses: { 200: { content: { "application/json": { schema: Schema } } } };
}

/** A description that says of every call just what this program relies on. */
function agreeing(): { info: object; paths: Record<string, Record<string, Operation>> } {
  const paths: Record<string, Record<string, Operation>> = {};
  for (const { method, path, query, body, answer } of Object.values<Call>(calls)) {
    const json = (schema: z.ZodType) => ({
      content: { "application/json": { schema: asSchema.parse(z.toJSONSchema(schema, { io: "input" })) } },
    });
    const operation: Operation = {
      parameters: (query ?? []).map((name) => ({ name, in: "query" })),
      ...(body === undefined ? {} : { requestBody: json(body) }),
      responses: { 200: json(answer) },
    };
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation };
  }
  return { info: { version: "9.9.9" }, paths };
}

function problemsAfter(change: (operation: (method: string, path: string) => Operation) => void): string[] {
  const description = agreeing();
  change((method, path) => {
    const operation = description.paths[path]?.[method];
    if (operation === undefined) throw new Error(`no ${method} ${path}`);
    return operation;
  });
  return compareWithOpenApi(JSON.stringify(description)).problems;
}

function bodyOf({ requestBody }: Operation): Required<Pick<Schema, "properties" | "required">> & Schema {
  const schema = requestBody?.content["application/json"].schema ?? {};
  return Object.assign(schema, { properties: schema.properties ?? {}, required: schema.required ?? [] });
}

function answerOf({ responses }: Operation): Schema {
  return responses[200].content["application/json"].schema;
}

it("finds nothing where everything agrees", () => {
  expect(compareWithOpenApi(JSON.stringify(agreeing()))).toEqual({ version: "9.9.9", problems: [] });
});

it("finds a call that is gone", () => {
  const description = agreeing();
  delete description.paths["/api/agents/tools/bulk-assign"];
  expect(compareWithOpenApi(JSON.stringify(description)).problems).toEqual([
    "POST /api/agents/tools/bulk-assign: there is no such call",
  ]);
});

it("finds what a body lacks, has too much, or has of another kind", () => {
  const post = "/api/schedule-triggers";
  expect(problemsAfter((of) => bodyOf(of("post", post)).required.push("owner"))).toEqual([
    `POST ${post} body.owner: is needed`,
  ]);
  expect(problemsAfter((of) => delete bodyOf(of("post", post)).properties["timezone"])).toEqual([
    `POST ${post} body.timezone: is not taken`,
  ]);
  expect(problemsAfter((of) => (bodyOf(of("post", post)).properties["enabled"] = { type: "string" }))).toEqual([
    `POST ${post} body.enabled: boolean is sent, string is taken`,
  ]);
  const bulk = "/api/tool-invocation/bulk-default";
  expect(
    problemsAfter((of) => (bodyOf(of("post", bulk)).properties["action"] = { type: "string", enum: ["block_always"] })),
  ).toEqual([
    `POST ${bulk} body.action: allow_when_context_is_untrusted, block_when_context_is_untrusted, require_approval is not among block_always`,
  ]);
});

/** A version whose agents are opened by the one field, and which knows no other. */
function withOnly(field: string, other: string): string[] {
  return problemsAfter((of) => {
    const body = bodyOf(of("post", "/api/agents"));
    delete body.properties[other];
    body.required.push(field);
  });
}

it("lets a version have either of the fields that open objects to the organization", () => {
  expect([withOnly("initialGrants", "scope"), withOnly("scope", "initialGrants")]).toEqual([[], []]);
});

it("finds what an answer no longer gives, or gives in a form that is not understood", () => {
  const get = "/api/user-tokens/me/value";
  expect(problemsAfter((of) => (answerOf(of("get", get)).properties = {}))).toEqual([
    `GET ${get} answer.value: is not given`,
  ]);
  expect(problemsAfter((of) => (answerOf(of("get", get)).required = []))).toEqual([
    `GET ${get} answer.value: is not always given`,
  ]);
  const status = "/api/mcp_server/{id}/installation-status";
  expect(
    problemsAfter((of) =>
      answerOf(of("get", status)).properties?.["localInstallationStatus"]?.enum?.push("hibernating"),
    ),
  ).toEqual([`GET ${status} answer.localInstallationStatus: hibernating is not understood`]);
  const list = "/api/api-keys";
  expect(problemsAfter((of) => (answerOf(of("get", list)).items = { type: "string" }))).toEqual([
    `GET ${list} answer[]: string is given, object is understood`,
  ]);
});

it("finds query parameters that are gone or new and needed", () => {
  const get = "/api/schedule-triggers";
  expect(problemsAfter((of) => of("get", get).parameters.shift())).toEqual([`GET ${get}: no query parameter name`]);
  expect(
    problemsAfter((of) => of("get", get).parameters.push({ name: "projectId", in: "query", required: true })),
  ).toEqual([`GET ${get}: needs ?projectId`]);
});
