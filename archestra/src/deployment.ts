/**
 * What Kubernetes is told: the deployment of a server as the platform takes it, and the volume claim and the
 * NetworkPolicy, which the platform cannot carry.
 */
import { createHash } from "node:crypto";
import { Document, Scalar } from "yaml";

export const STAGING_CLAIM = "data-transformer-staging";
export const HTTP_PORT = 8080;
export const HTTP_PATH = "/mcp";
const STAGING_PATH = "/staging";

/** uid and gid of both images, so that each server reads what the other wrote. */
const USER_ID = 10_001;

/** Labels of everything that this program makes, on the platform and in the cluster. */
export const MADE_BY = { key: "app", value: "data-transformer" } as const;

export interface DeploymentOptions {
  image: string;
  transport: "streamable-http" | "stdio";
  memory: string;
  /** Settings that are no secrets. */
  environment: Readonly<Record<string, string>>;
}

/**
 * The `deploymentSpecYaml` of a server. Everything plain stands here as a quoted literal, because the platform writes
 * managed plain settings into the YAML without quotes, and drops a YAML that does not parse without a word.
 */
export function deploymentYaml({ image, transport, memory, environment }: DeploymentOptions): string {
  const http = transport === "streamable-http";
  const pull = isLocalImage(image) ? "Never" : "IfNotPresent";
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: placeholder("deployment_name") },
    spec: {
      template: {
        spec: {
          terminationGracePeriodSeconds: 5,
          enableServiceLinks: false,
          automountServiceAccountToken: false,
          serviceAccountName: placeholder("service_account"),
          securityContext: {
            runAsUser: USER_ID,
            runAsGroup: USER_ID,
            fsGroup: USER_ID,
            fsGroupChangePolicy: "OnRootMismatch",
          },
          initContainers: [
            {
              // fsGroup does not reach volumes backed by a host's folder. The server's own image has what this needs.
              name: "staging",
              image: placeholder("docker_image"),
              imagePullPolicy: pull,
              command: ["sh", "-c", `chown ${USER_ID}:${USER_ID} ${STAGING_PATH} && chmod 2770 ${STAGING_PATH}`],
              securityContext: { runAsUser: 0, runAsGroup: 0, allowPrivilegeEscalation: false },
              volumeMounts: [{ name: "staging", mountPath: STAGING_PATH }],
            },
          ],
          // The platform adds the secrets' environment, ports and stdin to the first container.
          containers: [
            {
              name: "mcp-server",
              image: placeholder("docker_image"),
              imagePullPolicy: pull,
              ...(http ? { args: ["--http"], ports: [{ containerPort: HTTP_PORT }] } : {}),
              env: Object.entries(environment).map(([name, value]) => ({ name, value })),
              // Without the claim /staging is a folder of the container, and exports would end in the wrong place.
              startupProbe: {
                exec: { command: ["sh", "-c", `test "$(stat -c %d ${STAGING_PATH})" != "$(stat -c %d /)"`] },
                periodSeconds: 2,
                failureThreshold: 15,
              },
              // Not /readyz: a server whose database is down must stay reachable, to say so.
              ...(http ? { readinessProbe: { httpGet: { path: "/healthz", port: HTTP_PORT }, periodSeconds: 2 } } : {}),
              securityContext: {
                runAsNonRoot: true,
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
                seccompProfile: { type: "RuntimeDefault" },
              },
              resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory } },
              volumeMounts: [
                { name: "staging", mountPath: STAGING_PATH },
                { name: "tmp", mountPath: "/tmp" },
              ],
            },
          ],
          volumes: [
            { name: "staging", persistentVolumeClaim: { claimName: STAGING_CLAIM } },
            { name: "tmp", emptyDir: { sizeLimit: "64Mi" } },
          ],
        },
      },
    },
  };
  // Block style and quotes throughout; only the placeholders stand bare, as the platform's own default has them.
  return new Document(deployment).toString({
    defaultStringType: "QUOTE_DOUBLE",
    defaultKeyType: "PLAIN",
    doubleQuotedAsJSON: true,
    lineWidth: 0,
  });
}

/** Settings that follow from how the deployment is made; nobody may set them otherwise. */
export function fixedEnvironment(transport: DeploymentOptions["transport"]): Record<string, string> {
  return {
    STAGING_URL: `file://${STAGING_PATH}`,
    STAGING_MODE: "group",
    STAGING_REQUIRE_MOUNT: "true",
    ...(transport === "streamable-http"
      ? // The Host that the platform sends differs from set-up to set-up; the token is the protection.
        { MCP_HTTP_HOST: "0.0.0.0", MCP_HTTP_PORT: String(HTTP_PORT), MCP_HTTP_PATH: HTTP_PATH }
      : {}),
  };
}

/** Whether the platform takes the image only from its cluster, and never from a registry. */
export function isLocalImage(image: string): boolean {
  return !/[/.]/.test(image);
}

/** What the cluster knows an object by. */
export interface ObjectName {
  kind: "PersistentVolumeClaim" | "NetworkPolicy";
  name: string;
}

export const networkPolicyName: ObjectName = { kind: "NetworkPolicy", name: "data-transformer" };

export interface Manifest extends ObjectName {
  /** Differs where what is to be applied differs. */
  digest: string;
  /** As `kubectl apply` takes it. */
  json: string;
}

/** The volume that both servers stage exports in. */
export function stagingClaim(options: { size: string; storageClass?: string | undefined }): Manifest {
  return manifest(
    "v1",
    { kind: "PersistentVolumeClaim", name: STAGING_CLAIM },
    {
      accessModes: ["ReadWriteOnce"],
      ...(options.storageClass === undefined ? {} : { storageClassName: options.storageClass }),
      resources: { requests: { storage: options.size } },
    },
  );
}

/**
 * Lets nothing in but the servers' port, and nothing out but DNS and the databases' ports. By ports alone: the
 * platform's packets come from the node's address, which no selector of pods matches.
 */
export function networkPolicy(options: { servers: readonly string[]; egressPorts: readonly number[] }): Manifest {
  return manifest("networking.k8s.io/v1", networkPolicyName, {
    podSelector: {
      matchExpressions: [{ key: "mcp-server-name", operator: "In", values: options.servers.map(podName) }],
    },
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ ports: [{ protocol: "TCP", port: HTTP_PORT }] }],
    egress: [
      {
        ports: [
          { protocol: "UDP", port: 53 },
          { protocol: "TCP", port: 53 },
          ...options.egressPorts.map((port) => ({ protocol: "TCP", port })),
        ],
      },
    ],
  });
}

/** A server's name as the platform writes it on pods. */
export function podName(server: string): string {
  return server.replaceAll("_", "");
}

/** The annotation that tells which manifest was applied. */
export const DIGEST_ANNOTATION = "es-to-pg/digest";

function manifest(apiVersion: string, { kind, name }: ObjectName, spec: object): Manifest {
  const digest = createHash("sha256").update(JSON.stringify(spec)).digest("hex").slice(0, 16);
  const labels = { [MADE_BY.key]: MADE_BY.value };
  const metadata = { name, labels, annotations: { [DIGEST_ANNOTATION]: digest } };
  return { kind, name, digest, json: JSON.stringify({ apiVersion, kind, metadata, spec }) };
}

function placeholder(name: string): Scalar<string> {
  const scalar = new Scalar(`\${archestra.${name}}`);
  scalar.type = Scalar.PLAIN;
  return scalar;
}
