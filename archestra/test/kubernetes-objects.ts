/** Kubernetes objects as far as the tests look into them. */
import { kitSettings } from "@es-to-pg/mcp-kit";
import { esSettings } from "es-mcp/dist/config.js";
import { pgSettings } from "pg-mcp/dist/config.js";
import { parseAllDocuments } from "yaml";
import { z } from "zod";

export const serverName = z.enum(["es-mcp", "pg-mcp"]);
export type ServerName = z.infer<typeof serverName>;

/** What each server can be told, by the name of the variable. */
export const settingsOf = {
  "es-mcp": { ...esSettings, ...kitSettings },
  "pg-mcp": { ...pgSettings, ...kitSettings },
};

const named = z.object({ name: z.string() });
const labels = z.record(z.string(), z.string());

const object = z.looseObject({ kind: z.string(), metadata: named, spec: z.unknown().optional() });
export type KubernetesObject = z.infer<typeof object>;

const workload = z.object({
  selector: z.object({ matchLabels: labels }),
  template: z.object({
    metadata: z.object({ labels }),
    spec: z.object({
      containers: z.tuple([
        z.object({
          name: z.string(),
          env: z
            .array(
              z.union([
                z.object({ name: z.string(), value: z.string() }),
                z.object({ name: z.string(), valueFrom: z.object({ secretKeyRef: named }) }),
              ]),
            )
            .default([]),
          envFrom: z.array(z.object({ secretRef: named })).default([]),
          ports: z.array(z.object({ name: z.string(), containerPort: z.int() })),
          volumeMounts: z.array(z.object({ name: z.string(), mountPath: z.string() })),
        }),
      ]),
      volumes: z.array(
        named.extend({
          persistentVolumeClaim: z.object({ claimName: z.string() }).optional(),
          configMap: named.optional(),
          secret: z.object({ secretName: z.string() }).optional(),
        }),
      ),
    }),
  }),
});
export type Workload = z.infer<typeof workload>;

/** The objects of one YAML text. */
export function objectsIn(text: string): KubernetesObject[] {
  return parseAllDocuments(text).map((document) => object.parse(document.toJS()));
}

/** The Deployment or StatefulSet of a name. */
export function workloadOf(objects: readonly KubernetesObject[], name: string): Workload {
  const found = objects.find(
    ({ kind, metadata }) => ["Deployment", "StatefulSet"].includes(kind) && metadata.name === name,
  );
  if (found === undefined) throw new Error(`there is no ${name}`);
  return workload.parse(found.spec);
}

/** What the pods of a workload mount or read that is an object of its own, as kind and name. */
export function objectsOf({ template }: Workload): string[] {
  const { containers, volumes } = template.spec;
  return [
    ...containers.flatMap(({ envFrom }) => envFrom.map(({ secretRef }) => `Secret ${secretRef.name}`)),
    ...containers.flatMap(({ env }) =>
      env.flatMap((one) => ("valueFrom" in one ? [`Secret ${one.valueFrom.secretKeyRef.name}`] : [])),
    ),
    ...volumes.flatMap(({ persistentVolumeClaim, configMap, secret }) => [
      ...(persistentVolumeClaim === undefined ? [] : [`PersistentVolumeClaim ${persistentVolumeClaim.claimName}`]),
      ...(configMap === undefined ? [] : [`ConfigMap ${configMap.name}`]),
      ...(secret === undefined ? [] : [`Secret ${secret.secretName}`]),
    ]),
  ];
}

/** The settings of a container by where their values are: in the open, or in a Secret. */
export function settingsIn({ env }: Workload["template"]["spec"]["containers"][0]): {
  plain: string[];
  secret: string[];
} {
  const names = (isSecret: boolean) => env.filter((one) => "valueFrom" in one === isSecret).map(({ name }) => name);
  return { plain: names(false), secret: names(true) };
}

/** Settings of a server's pods that it does not know, and secrets among those that anybody may read. */
export function badSettings(server: ServerName, { plain, secret }: { plain: string[]; secret: string[] }): string[] {
  const known = new Map<string, { secret?: boolean | undefined }>(Object.entries(settingsOf[server]));
  return [
    ...[...plain, ...secret].filter((name) => !known.has(name)).map((name) => `${name} is unknown`),
    ...plain.filter((name) => known.get(name)?.secret === true).map((name) => `${name} is a secret`),
    ...secret.filter((name) => known.get(name)?.secret !== true).map((name) => `${name} is no secret`),
  ];
}
