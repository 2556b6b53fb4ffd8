/** What kubectl makes of the files of kubernetes/: each overlay is built and held against the schemas of its kinds. */
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { openKubernetesApi } from "./kubernetes-api.ts";
import {
  badSettings,
  type KubernetesObject,
  objectsIn,
  objectsOf,
  serverName,
  settingsIn,
  workloadOf,
} from "./kubernetes-objects.ts";

const source = fileURLToPath(new URL("../kubernetes/", import.meta.url));
/** Production as it is where the Prometheus operator runs: by the line that is a comment in it. */
const watched = "production-watched";
const overlays = [...readdirSync(join(source, "overlays")), watched];

let folder: string;
let api: Awaited<ReturnType<typeof openKubernetesApi>>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kubernetes-"));
  cpSync(source, folder, { recursive: true });
  // As the head of the overlay tells people to.
  for (const server of serverName.options) {
    const place = join(folder, "overlays/small");
    copyFileSync(join(place, `${server}.example.env`), join(place, `${server}.env`));
  }
  cpSync(join(folder, "overlays/production"), join(folder, "overlays", watched), { recursive: true });
  const file = join(folder, "overlays", watched, "kustomization.yaml");
  const line = "- ../../components/pod-monitor";
  writeFileSync(file, readFileSync(file, "utf8").replace(`# ${line}`, line));
  api = await openKubernetesApi();
});

afterAll(() => {
  api.close();
  rmSync(folder, { recursive: true });
});

function build(overlay: string): string {
  return execFileSync("kubectl", ["kustomize", join(folder, "overlays", overlay)], { encoding: "utf8" });
}

/** `kubectl apply` as far as it goes without sending anything. The API that it asks is in this process. */
async function validate(yaml: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const args = ["--server", api.url, "apply", "--dry-run=client", "--validate=strict", "--filename=-"];
  // Without what this machine's user may have configured.
  const env = { ...process.env, KUBECONFIG: "/dev/null", HOME: folder };
  const child = spawn("kubectl", args, { env, stdio: ["pipe", "pipe", "pipe"], timeout: 60_000 });
  child.stdin.end(yaml);
  const [stdout, stderr, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number | null>((resolve) => child.once("close", resolve)),
  ]);
  return { status, stdout, stderr };
}

const names = z.object({ matchLabels: z.record(z.string(), z.string()).default({}) });
const selecting = z.object({ podSelector: names.optional(), selector: z.unknown().optional() });

/** The labels by which an object chooses pods of its own namespace; an empty choice is all of them. */
function selectorOf({ kind, spec }: KubernetesObject): Record<string, string> | undefined {
  const { podSelector, selector } = selecting.parse(spec ?? {});
  if (kind === "NetworkPolicy") return podSelector?.matchLabels;
  if (kind === "Service") return z.record(z.string(), z.string()).parse(selector);
  if (["PodDisruptionBudget", "PodMonitor"].includes(kind)) return names.parse(selector).matchLabels;
  return undefined;
}

describe.each(overlays)("the overlay %s", (overlay) => {
  it("is what kubectl would send, field by field", async () => {
    const yaml = build(overlay);
    const { status, stdout, stderr } = await validate(yaml);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.trim().split("\n")).toHaveLength(objectsIn(yaml).length);
    // As a control: what is wrong is seen.
    expect(await validate(yaml.replaceAll("volumeMounts:", "volumeMount:"))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('unknown field "volumeMount" in io.k8s.api.core.v1.Container'),
    });
  });

  it("has pods whose settings, secrets, volumes and labels fit", () => {
    const objects = objectsIn(build(overlay));
    const there = objects.map(({ kind, metadata }) =>
      kind === "ExternalSecret" ? `Secret ${metadata.name}` : `${kind} ${metadata.name}`,
    );
    const workloads = objects
      .filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet")
      .map(({ metadata }) => workloadOf(objects, metadata.name));
    expect(workloads.flatMap(objectsOf).filter((one) => !there.includes(one))).toEqual([]);
    for (const { selector, template } of workloads) {
      expect(template.metadata.labels).toMatchObject(selector.matchLabels);
      const [{ volumeMounts }] = template.spec.containers;
      const volumes = template.spec.volumes.map(({ name }) => name);
      expect(volumeMounts.map(({ name }) => name).filter((name) => !volumes.includes(name))).toEqual([]);
    }
    for (const server of serverName.options) {
      const [container] = workloadOf(objects, server).template.spec.containers;
      expect(badSettings(server, settingsIn(container))).toEqual([]);
    }
    const labels = workloads.map(({ template }) => template.metadata.labels);
    for (const object of objects) {
      const selector = selectorOf(object);
      if (selector === undefined) continue;
      const chosen = labels.filter((one) => Object.entries(selector).every(([key, value]) => one[key] === value));
      expect({ object: `${object.kind} ${object.metadata.name}`, choosesPods: chosen.length > 0 }).toEqual({
        object: `${object.kind} ${object.metadata.name}`,
        choosesPods: true,
      });
    }
  });

  it(`${overlay === watched ? "has" : "does without"} the Prometheus operator's kinds`, () => {
    const kinds = objectsIn(build(overlay)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "PodMonitor" || kind === "PrometheusRule")).toEqual(
      overlay === watched ? ["PodMonitor", "PrometheusRule"] : [],
    );
  });

  it("gives nobody more than they need", () => {
    for (const { kind, metadata, spec } of objectsIn(build(overlay))) {
      if (kind !== "Deployment" && kind !== "StatefulSet") continue;
      expect({ name: metadata.name, ...z.looseObject({}).parse(spec) }).toMatchObject({
        name: metadata.name,
        template: {
          spec: {
            automountServiceAccountToken: false,
            securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
            containers: [
              {
                resources: { limits: { memory: expect.any(String) } },
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  capabilities: { drop: ["ALL"] },
                },
              },
            ],
          },
        },
      });
    }
  });
});
