import { expect, test } from "vitest";
import { httpAccess, metricsRefusal, refusal } from "./http.ts";
import { kitSettings, readSettings } from "./settings.ts";

function access(env: Record<string, string> = {}) {
  return httpAccess(readSettings(kitSettings, env));
}

test("needs a token off loopback, or none on purpose", () => {
  expect(() => access({ MCP_HTTP_HOST: "0.0.0.0" })).toThrow(/MCP_HTTP_TOKEN: needed/);
  expect(() => access({ MCP_HTTP_HOST: "::" })).toThrow(/MCP_HTTP_TOKEN: needed/);
  expect(access({ MCP_HTTP_HOST: "0.0.0.0", MCP_HTTP_TOKEN: "none" }).tokenDigest).toBeNull();
  expect(access({ MCP_HTTP_HOST: "::1" }).tokenDigest).toBeNull();
});

test.each(["localhost:8080", "127.0.0.1", "[::1]:8080", "10.1.2.3:8080", "LocalHost"])(
  "without a token serves callers that name %s",
  (host) => {
    expect(refusal({ host }, access())).toBeUndefined();
  },
);

test.each(["evil.example:8080", "localhost.evil.example", "", undefined, "a b"])(
  "without a token refuses callers that name %s",
  (host) => {
    expect(refusal({ host }, access())).toMatchObject({ status: 403 });
  },
);

test("serves callers by a listed name", () => {
  const listed = access({ MCP_HTTP_ALLOWED_HOSTS: "es-mcp, other" });
  expect(refusal({ host: "ES-MCP:8080" }, listed)).toBeUndefined();
  expect(refusal({ host: "third" }, listed)).toMatchObject({ status: 403 });
});

test("serves callers by any name where * is listed", () => {
  expect(refusal({ host: "any.name" }, access({ MCP_HTTP_ALLOWED_HOSTS: "*" }))).toBeUndefined();
});

test("refuses a token that no header could carry", () => {
  expect(() => access({ MCP_HTTP_TOKEN: "two words" })).toThrow(/MCP_HTTP_TOKEN: must be visible ASCII/);
  expect(access({ MCP_HTTP_TOKEN: "geheim\n" }).tokenDigest).toEqual(access({ MCP_HTTP_TOKEN: "geheim" }).tokenDigest);
});

test("with a token serves any host name, unless names are listed", () => {
  const authorization = "Bearer geheim";
  expect(refusal({ host: "any.name", authorization }, access({ MCP_HTTP_TOKEN: "geheim" }))).toBeUndefined();
  const listed = access({ MCP_HTTP_TOKEN: "geheim", MCP_HTTP_ALLOWED_HOSTS: "es-mcp" });
  expect(refusal({ host: "any.name", authorization }, listed)).toMatchObject({ status: 403 });
});

test.each([undefined, "", "geheim", "Bearer", "Bearer geheimer", "Bearer gehei", "Basic geheim"])(
  "with a token refuses the header %s",
  (authorization) => {
    expect(refusal({ host: "x", authorization }, access({ MCP_HTTP_TOKEN: "geheim" }))).toMatchObject({ status: 401 });
  },
);

test("refuses pages of the web, but not those on loopback or listed", () => {
  const host = "localhost";
  const listed = access({ MCP_HTTP_ALLOWED_ORIGINS: "https://app.example.com/" });
  expect(refusal({ host, origin: "https://evil.example" }, listed)).toMatchObject({ status: 403 });
  expect(refusal({ host, origin: "null" }, listed)).toMatchObject({ status: 403 });
  expect(refusal({ host, origin: "https://app.example.com" }, listed)).toBeUndefined();
  expect(refusal({ host, origin: "http://localhost:6274" }, listed)).toBeUndefined();
  expect(refusal({ host, origin: "https://evil.example" }, access({ MCP_HTTP_ALLOWED_ORIGINS: "*" }))).toBeUndefined();
});

test.each([
  ["the token of the metrics", { MCP_HTTP_TOKEN: "all", MCP_METRICS_TOKEN: "metrics" }, "Bearer metrics", undefined],
  ["the token for all", { MCP_HTTP_TOKEN: "all", MCP_METRICS_TOKEN: "metrics" }, "Bearer all", undefined],
  ["another token", { MCP_HTTP_TOKEN: "all", MCP_METRICS_TOKEN: "metrics" }, "Bearer other", 401],
  ["no token, where the metrics have one and the tools have none", { MCP_METRICS_TOKEN: "metrics" }, undefined, 401],
  ["no token, where there is only one for all", { MCP_HTTP_TOKEN: "all" }, undefined, 401],
  ["no token, where there is none", { MCP_HTTP_TOKEN: "none" }, undefined, undefined],
])("answers a reader of metrics who sends %s", (_what, env, authorization, status) => {
  expect(metricsRefusal({ host: "localhost", authorization }, access(env))?.status).toBe(status);
});

test("lets a scraper call the server by any name, but only with its token", () => {
  const open = access({ MCP_METRICS_TOKEN: "metrics" });
  expect(metricsRefusal({ host: "pg-mcp:8080", authorization: "Bearer metrics" }, open)).toBeUndefined();
  expect(metricsRefusal({ host: "pg-mcp:8080" }, access())?.status).toBe(403);
});
