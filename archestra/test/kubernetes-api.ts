/**
 * As much of a Kubernetes API as kubectl asks before it sends anything: which kinds there are, and their schemas. The
 * schemas are the project's and the operators' own, out of the source of their Go modules.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";

const kubernetes = "k8s.io/kubernetes@v1.32.4";
/** Where the operators keep the definitions of their kinds. */
const operators = [
  { module: "github.com/external-secrets/external-secrets@v1.3.2", folder: "config/crds/bases" },
  { module: "github.com/prometheus-operator/prometheus-operator@v0.85.0", folder: "example/prometheus-operator-crd" },
];
/** Their kinds that the files use. */
const kinds = new Set(["ExternalSecret", "PodMonitor", "PrometheusRule"]);

const downloaded = z.object({ Dir: z.string() });
const kindMark = "x-kubernetes-group-version-kind";
const kindSchema = z.object({ group: z.string(), version: z.string(), kind: z.string() });
type Kind = z.infer<typeof kindSchema>;
const operation = z.object({ [kindMark]: kindSchema });
const swagger = z.looseObject({
  paths: z.record(z.string(), z.record(z.string(), z.unknown())),
  definitions: z.record(z.string(), z.unknown()),
});
const customDefinition = z.object({
  spec: z.object({
    group: z.string(),
    scope: z.enum(["Namespaced", "Cluster"]),
    names: z.object({ kind: z.string(), plural: z.string() }),
    versions: z.array(
      z.object({ name: z.string(), served: z.boolean(), schema: z.object({ openAPIV3Schema: z.looseObject({}) }) }),
    ),
  }),
});

/** A kind as an API lists it. */
interface Resource extends Kind {
  name: string;
  namespaced: boolean;
}

function moduleFolder(module: string): string {
  const answer = execFileSync("go", ["mod", "download", "-json", module], { encoding: "utf8" });
  return downloaded.parse(JSON.parse(answer)).Dir;
}

/** The kinds of Kubernetes itself: whatever can be created is posted to a path that ends in its plural. */
function builtInResources({ paths }: z.infer<typeof swagger>): Resource[] {
  return Object.entries(paths).flatMap(([route, { post }]) => {
    const name = /\/([a-z]+)$/.exec(route)?.[1];
    const kind = operation.safeParse(post).data?.[kindMark];
    return name === undefined || kind === undefined
      ? []
      : [{ ...kind, name, namespaced: route.includes("{namespace}") }];
  });
}

/** The kinds of an operator that the files use, each with its schema. */
function operatorResources({ module, folder }: (typeof operators)[number]): { resource: Resource; schema: object }[] {
  const source = join(moduleFolder(module), folder);
  return readdirSync(source).flatMap((file) => {
    if (!file.endsWith(".yaml")) return [];
    const parsed = customDefinition.safeParse(parse(readFileSync(join(source, file), "utf8")));
    if (!parsed.success || !kinds.has(parsed.data.spec.names.kind)) return [];
    const { group, names, scope, versions } = parsed.data.spec;
    return versions
      .filter(({ served }) => served)
      .map(({ name: version, schema }) => {
        const kind = { group, version, kind: names.kind };
        const { properties } = z.looseObject({ properties: z.looseObject({}) }).parse(schema.openAPIV3Schema);
        return {
          resource: { ...kind, name: names.plural, namespaced: scope === "Namespaced" },
          // Of metadata the definition says nothing. What else it says in words of version 3 does not exist in version 2.
          schema: inVersion2({
            type: "object",
            properties: { ...properties, metadata: { type: "object" } },
            [kindMark]: [kind],
          }),
        };
      });
  });
}

/** A schema without the words that OpenAPI 2 lacks: they only say less. */
function inVersion2(schema: object): object {
  const lacking = new Set(["oneOf", "anyOf", "allOf", "not", "nullable"]);
  return z
    .looseObject({})
    .parse(JSON.parse(JSON.stringify(schema, (key, value: unknown) => (lacking.has(key) ? undefined : value))));
}

/** Starts it on a free port of loopback; `requests` is everything that was asked for. */
export async function openKubernetesApi(): Promise<{ url: string; close(): void }> {
  const file = join(moduleFolder(kubernetes), "api/openapi-spec/swagger.json");
  const described = swagger.parse(JSON.parse(readFileSync(file, "utf8")));
  const custom = operators.flatMap(operatorResources);
  const definitions = custom.map(({ resource: { group, version, kind }, schema }) => [
    `${group}.${version}.${kind}`,
    schema,
  ]);
  const complete = { ...described, definitions: { ...described.definitions, ...Object.fromEntries(definitions) } };
  const answers = answersOf([...builtInResources(described), ...custom.map(({ resource }) => resource)]);
  answers.set("openapi/v2", inProtobuf(JSON.stringify(complete)));
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0]?.slice(1) ?? "";
    const answer = answers.get(path);
    if (answer === undefined) send(response, 404, { kind: "Status", status: "Failure", reason: "NotFound", code: 404 });
    else send(response, 200, answer);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the system gave no port");
  return { url: `http://127.0.0.1:${address.port}`, close: () => void server.close() };
}

function inProtobuf(openApi: string): Buffer {
  const cwd = fileURLToPath(new URL("kubernetes-schema", import.meta.url));
  return execFileSync("go", ["run", "."], { cwd, input: openApi, maxBuffer: 64 * 1024 * 1024 });
}

/** What is answered by path, without the slash before it. */
function answersOf(resources: readonly Resource[]): Map<string, object> {
  const ofPath = Map.groupBy(resources, ({ group, version }) =>
    group === "" ? `api/${version}` : `apis/${group}/${version}`,
  );
  const groups = Map.groupBy(
    [...ofPath.values()].flatMap(([one]) => (one === undefined || one.group === "" ? [] : [one])),
    ({ group }) => group,
  );
  const verbs = ["create", "get", "list", "patch"];
  return new Map<string, object>([
    ["version", { major: "1", minor: "32", gitVersion: "v1.32.4" }],
    ["api", { kind: "APIVersions", versions: ["v1"] }],
    [
      "apis",
      {
        kind: "APIGroupList",
        apiVersion: "v1",
        groups: [...groups].map(([name, versions]) => {
          const listed = versions.map(({ version }) => ({ groupVersion: `${name}/${version}`, version }));
          return { name, versions: listed, preferredVersion: listed[0] };
        }),
      },
    ],
    // No server that checks fields itself: kubectl does it.
    ["openapi/v3", { paths: {} }],
    ...[...ofPath].map(([path, listed]): [string, object] => [
      path,
      {
        kind: "APIResourceList",
        groupVersion: path.replace(/^apis?\//, ""),
        resources: listed.map(({ name, kind, namespaced }) => ({ name, singularName: "", kind, namespaced, verbs })),
      },
    ]),
  ]);
}

function send(response: ServerResponse, status: number, body: object): void {
  const isProtobuf = Buffer.isBuffer(body);
  const type = isProtobuf ? "application/octet-stream" : "application/json";
  response.writeHead(status, { "content-type": type }).end(isProtobuf ? body : JSON.stringify(body));
}
