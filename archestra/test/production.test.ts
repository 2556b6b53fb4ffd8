/** The files of production/ name what the servers have, and each other, rightly. */
import { readdirSync, readFileSync } from "node:fs";
import { kitSettings } from "@es-to-pg/mcp-kit";
import { esSettings } from "es-mcp/dist/config.js";
import { pgSettings } from "pg-mcp/dist/config.js";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { z } from "zod";

const folder = new URL("../production/", import.meta.url);
const known = { "es-mcp": { ...esSettings, ...kitSettings }, "pg-mcp": { ...pgSettings, ...kitSettings } };
const names = z.enum(["es-mcp", "pg-mcp"]);

const named = z.object({ name: z.string() });
const objectSchema = z.object({
  kind: z.string(),
  metadata: named,
  stringData: z.record(z.string(), z.string()).default({}),
  spec: z.unknown().optional(),
});
const deploymentSchema = z.object({
  selector: z.object({ matchLabels: z.record(z.string(), z.string()) }),
  template: z.object({
    metadata: z.object({ labels: z.record(z.string(), z.string()) }),
    spec: z.object({
      containers: z.tuple([
        z.object({
          name: names,
          env: z.array(z.object({ name: z.string(), value: z.string() })),
          envFrom: z.tuple([z.object({ secretRef: named })]),
          volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
        }),
      ]),
      volumes: z.array(
        named.extend({
          persistentVolumeClaim: z.object({ claimName: z.string() }).optional(),
          configMap: named.optional(),
        }),
      ),
    }),
  }),
});

const objects = readdirSync(new URL("kubernetes/", folder))
  .filter((file) => file !== "kustomization.yaml")
  .flatMap((file) => parseAllDocuments(readFileSync(new URL(`kubernetes/${file}`, folder), "utf8")))
  .map((document) => objectSchema.parse(document.toJS()));

const ofKind = (kind: string) => objects.filter((object) => object.kind === kind);

describe.each(names.options)("%s in Kubernetes", (name) => {
  const deployment = deploymentSchema.parse(ofKind("Deployment").find(({ metadata }) => metadata.name === name)?.spec);
  const { spec, metadata } = deployment.template;
  const [container] = spec.containers;
  const secrets = ofKind("Secret").find((one) => one.metadata.name === container.envFrom[0].secretRef.name);

  it("has settings that the server knows, and secrets that are secrets", () => {
    const settings = known[name];
    const plain = container.env.map((variable) => variable.name);
    const secret = Object.keys(secrets?.stringData ?? {});
    expect([...plain, ...secret].filter((variable) => !(variable in settings))).toEqual([]);
    const isSecret = (variable: string) =>
      Object.entries(settings).some(([key, one]) => key === variable && one.secret === true);
    expect([plain.filter(isSecret), secret.filter((variable) => !isSecret(variable))]).toEqual([[], []]);
    expect(secret).toContain("MCP_HTTP_TOKEN");
  });

  it("mounts volumes that there are, and is selected by its Service", () => {
    const sources = spec.volumes.flatMap(({ persistentVolumeClaim, configMap }) => [
      ...(persistentVolumeClaim === undefined ? [] : [`PersistentVolumeClaim ${persistentVolumeClaim.claimName}`]),
      ...(configMap === undefined ? [] : [`ConfigMap ${configMap.name}`]),
    ]);
    const there = objects.map((object) => `${object.kind} ${object.metadata.name}`);
    expect([sources.length, sources.filter((source) => !there.includes(source))]).toEqual([2, []]);
    const volumes = spec.volumes.map((volume) => volume.name);
    expect(container.volumeMounts.map((mount) => mount.name).filter((mount) => !volumes.includes(mount))).toEqual([]);
    const service = z
      .object({ selector: z.record(z.string(), z.string()) })
      .parse(ofKind("Service").find((one) => one.metadata.name === name)?.spec);
    expect(metadata.labels).toMatchObject(service.selector);
    expect(metadata.labels).toMatchObject(deployment.selector.matchLabels);
  });
});

it("lists every file of the folder in the kustomization", () => {
  const { resources } = z
    .object({ resources: z.array(z.string()) })
    .parse(parse(readFileSync(new URL("kubernetes/kustomization.yaml", folder), "utf8")));
  const files = readdirSync(new URL("kubernetes/", folder)).filter((file) => file !== "kustomization.yaml");
  expect([...resources].sort((one, other) => one.localeCompare(other))).toEqual(
    files.sort((one, other) => one.localeCompare(other)),
  );
});

it("names settings that the servers know in the ECS task", () => {
  const variables = z.array(named).default([]);
  const { containerDefinitions } = z
    .object({ containerDefinitions: z.array(z.object({ name: names, environment: variables, secrets: variables })) })
    .parse(JSON.parse(readFileSync(new URL("ecs-task.json", folder), "utf8")));
  const unknown = containerDefinitions.flatMap(({ name, environment, secrets }) =>
    [...environment, ...secrets].filter((variable) => !(variable.name in known[name])),
  );
  expect([containerDefinitions.length, unknown]).toEqual([2, []]);
});

it("is a cloud-init file whose settings this program or docker-compose.yml reads", () => {
  const text = readFileSync(new URL("cloud-init.yaml", folder), "utf8");
  expect(parse(text)).toMatchObject({
    // As Debian 13 calls them; its docker.io only recommends the command.
    packages: ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "git", "nodejs", "npm"],
    runcmd: expect.arrayContaining(["systemctl enable --now es-to-pg.service"]),
  });
  expect(text).toContain("npm run archestra:up");
});
