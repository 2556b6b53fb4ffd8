import { expect, it } from "vitest";
import { parse } from "yaml";
import { deploymentYaml, isLocalImage, networkPolicy } from "./deployment.ts";

const options = { image: "es-mcp:latest", transport: "streamable-http", memory: "512Mi" } as const;

/** What the platform does before it parses: it puts its values in place of the placeholders. */
function filled(yaml: string): string {
  const values: Record<string, string> = {
    deployment_name: "mcp-esmcp-1",
    docker_image: "es-mcp:latest",
    service_account: "default",
  };
  return yaml.replaceAll(/\$\{archestra\.(\w+)\}/g, (_, name: string) => values[name] ?? "?");
}

it("keeps every value as the text that it is, whatever YAML would make of it", () => {
  const environment = { A: "007", B: "x: y", C: "true", D: "a\nb", E: "- {", F: '"', G: "#", H: "null", I: "" };
  const { env } = parse(filled(deploymentYaml({ ...options, environment }))).spec.template.spec.containers[0];
  expect(Object.fromEntries(env.map(({ name, value }: { name: string; value: string }) => [name, value]))).toEqual(
    environment,
  );
});

it("leaves only the platform's placeholders, bare and in block style", () => {
  const yaml = deploymentYaml({ ...options, environment: {} });
  expect(yaml.match(/\$\{archestra\.\w+\}/g)).toEqual([
    "${archestra.deployment_name}",
    "${archestra.service_account}",
    "${archestra.docker_image}",
    "${archestra.docker_image}",
  ]);
  expect(yaml).not.toMatch(/"\$\{/);
});

it("starts no server as root, with a writable root or without the shared volume", () => {
  const { spec } = parse(filled(deploymentYaml({ ...options, environment: {} }))).spec.template;
  const [container] = spec.containers;
  expect(spec.securityContext).toMatchObject({ runAsUser: 10_001, runAsGroup: 10_001, fsGroup: 10_001 });
  expect(spec.automountServiceAccountToken).toBe(false);
  expect(container.securityContext).toMatchObject({
    runAsNonRoot: true,
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
  });
  expect(container.startupProbe.exec.command.join(" ")).toContain("stat -c %d /staging");
  expect(container.args).toEqual(["--http"]);
  expect(container.imagePullPolicy).toBe("Never");
});

it("pulls only images that a registry can have", () => {
  expect([isLocalImage("es-mcp:latest"), isLocalImage("ghcr.io/acme/es-mcp:1"), isLocalImage("acme/es-mcp")]).toEqual([
    true,
    false,
    false,
  ]);
  expect(deploymentYaml({ ...options, image: "ghcr.io/acme/es-mcp:1", environment: {} })).toContain(
    'imagePullPolicy: "IfNotPresent"',
  );
});

it("selects pods by the names that the platform gives them", () => {
  const { spec } = JSON.parse(networkPolicy({ servers: ["es_mcp", "pg_mcp"], egressPorts: [9200, 5432] }).json);
  expect(spec.podSelector.matchExpressions[0].values).toEqual(["esmcp", "pgmcp"]);
  expect(spec.egress[0].ports.map(({ port }: { port: number }) => port)).toEqual([53, 53, 9200, 5432]);
});
