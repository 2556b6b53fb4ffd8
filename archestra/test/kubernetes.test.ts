/** The files of kubernetes/ name what the servers have, and each other, rightly. What kubectl makes of them: test:kubernetes. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { readSettings } from "@es-to-pg/mcp-kit";
import { pgSettings } from "pg-mcp/dist/config.js";
import { connectionsOfRoleMax } from "pg-mcp/dist/postgres/index.js";
import { rolesSql } from "pg-mcp/dist/roles.js";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { badSettings, objectsIn, serverName, workloadOf } from "./kubernetes-objects.ts";

const folder = fileURLToPath(new URL("../kubernetes/", import.meta.url));
const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
const read = (file: string): string => readFileSync(join(folder, file), "utf8");

const kustomization = z.looseObject({
  resources: z.array(z.string()).default([]),
  components: z.array(z.string()).default([]),
  configMapGenerator: z.array(z.object({ files: z.array(z.string()) })).default([]),
});

describe.each(serverName.options)("%s in Kubernetes", (server) => {
  const [container] = workloadOf(objectsIn(read(`base/${server}.yaml`)), server).template.spec.containers;
  const plain = container.env.map(({ name }) => name);

  it("has settings that the server knows, and no secret among those that anybody may read", () => {
    expect(badSettings(server, { plain, secret: [] })).toEqual([]);
  });

  it("has the same secrets from a file as from a manager", () => {
    const example = read(`overlays/small/${server}.example.env`).split("\n");
    const secret = example.flatMap((line) => /^([A-Z_]+)=/.exec(line)?.[1] ?? []);
    expect(badSettings(server, { plain: [], secret })).toEqual([]);
    expect(secret).toContain("MCP_HTTP_TOKEN");
    const external = objectsIn(read("components/external-secrets/external-secrets.yaml"));
    const { data } = z
      .object({ data: z.array(z.object({ secretKey: z.string() })) })
      .parse(external.find(({ metadata }) => metadata.name === server)?.spec);
    expect(data.map(({ secretKey }) => secretKey)).toEqual(secret);
  });
});

it("uses every file that is there, and none that is not", () => {
  const kustomizations = files.filter((file) => file.endsWith("kustomization.yaml"));
  const used = kustomizations.flatMap((file) => {
    const { resources, components, configMapGenerator } = kustomization.parse(parse(read(file)));
    const names = [...resources, ...components, ...configMapGenerator.flatMap((one) => one.files)];
    return names.map((name) => normalize(join(dirname(file), name)));
  });
  const ofNoKustomization = /kustomization\.yaml$|\.env$|README\.md$|\.values\.yaml$/;
  const objects = files.filter((file) => /[^/]\.[a-z]+$/.test(file) && !ofNoKustomization.test(file));
  expect(objects.filter((file) => !used.includes(file))).toEqual([]);
  expect(used.filter((name) => !files.includes(name))).toEqual([]);
});

it("brings the alerts of monitoring/ into a cluster as they are", () => {
  const [rule] = objectsIn(read("components/pod-monitor/prometheus-rule.yaml"));
  const rules = readFileSync(join(folder, "../monitoring/prometheus/rules.yml"), "utf8");
  expect(rule?.spec).toEqual(parse(rules));
});

it("has no more replicas and sessions than the roles that pg-mcp prints may have", () => {
  const settings = readSettings(pgSettings, { DATABASE_URL: "postgres://u:p@h/d" });
  const limit = Number(/CONNECTION LIMIT (\d+)/.exec(rolesSql(settings))?.[1]);
  const scaler = objectsIn(read("components/autoscaling/autoscalers.yaml")).find(
    ({ metadata }) => metadata.name === "pg-mcp",
  );
  const { maxReplicas } = z.object({ maxReplicas: z.int() }).parse(scaler?.spec);
  expect(maxReplicas * connectionsOfRoleMax).toBeLessThanOrEqual(limit);
  const ini = read("components/pgbouncer/pgbouncer.ini");
  const poolSize = Number(/^default_pool_size = (\d+)$/m.exec(ini)?.[1]);
  const poolers = ini.match(/^\d+ = host=pgbouncer-\d/gm)?.length ?? 0;
  expect(poolSize * poolers).toBeLessThanOrEqual(limit);
});

it("lists as many peers of PgBouncer as there are", () => {
  const peers = read("components/pgbouncer/pgbouncer.ini").match(/^\d+ = host=pgbouncer-\d/gm);
  const [set] = objectsIn(read("components/pgbouncer/pgbouncer.yaml"));
  expect(set?.spec).toMatchObject({ replicas: peers?.length });
});
