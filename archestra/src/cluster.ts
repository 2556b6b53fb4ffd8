/**
 * The Kubernetes that the platform starts servers in: what its API cannot do, which is a volume claim, a NetworkPolicy,
 * images and the databases' network. `kubectl` runs in the node's container, or here by a kubeconfig.
 */
import { z } from "zod";
import { BundleError } from "./bundle-error.ts";
import { DIGEST_ANNOTATION, isLocalImage, type Manifest, type ObjectName, podName } from "./deployment.ts";
import { CommandError, type Shell } from "./process.ts";
import type { BundleSettings } from "./settings.ts";

export interface ManifestState {
  digest: string | undefined;
  /** A claim is `Bound`, or `Pending` until its first pod. */
  phase: string | undefined;
}

/** A container of a server's pod that does not run, in the kubelet's words. */
export interface PodProblem {
  pod: string;
  reason: string;
  message: string;
}

export interface Cluster {
  describe: string;
  /** How a person calls `kubectl` there. */
  typed: string;
  /** Fails with what to do where the cluster cannot be reached. */
  check(): Promise<void>;
  /** What is there under a kind and name; undefined for nothing. */
  read(object: ObjectName): Promise<ManifestState | undefined>;
  apply(manifest: Manifest): Promise<void>;
  remove(object: ObjectName): Promise<void>;
  podProblems(servers: readonly string[]): Promise<PodProblem[]>;
  kubectl(parameters: readonly string[], input?: string): Promise<string>;
  /** Only where images are loaded from this machine's Docker. */
  images: ImageLoader | undefined;
  /** Only where the node is a container on this machine. */
  network: NodeNetwork | undefined;
}

export interface ImageLoader {
  /** The image's id in this machine's Docker. */
  hostId(image: string): Promise<string | undefined>;
  /** The image's digest in the node. */
  nodeDigest(image: string): Promise<string | undefined>;
  load(image: string): Promise<void>;
}

export interface NodeNetwork {
  name: string;
  isJoined(): Promise<boolean>;
  join(): Promise<void>;
  leave(): Promise<void>;
}

interface ClusterOptions {
  shell: Shell;
  signal: AbortSignal;
}

export function openCluster(settings: BundleSettings, options: ClusterOptions): Cluster {
  return settings.ARCHESTRA_CLUSTER === "kind" ? kindCluster(settings, options) : ownCluster(settings, options);
}

function kindCluster(settings: BundleSettings, { shell, signal }: ClusterOptions): Cluster {
  const node = settings.ARCHESTRA_NODE;
  const network = settings.ARCHESTRA_DATABASE_NETWORK;
  const docker = (...parameters: string[]) => shell.run(["docker", ...parameters], { signal });
  const inNode = ["docker", "exec", "-i", node];
  const kubectl = [
    ...inNode,
    "kubectl",
    "--kubeconfig",
    "/etc/kubernetes/admin.conf",
    "-n",
    settings.ARCHESTRA_NAMESPACE,
  ];
  return {
    ...kubernetes(kubectl, { shell, signal }),
    describe: `the cluster in the container ${node}`,
    async check() {
      const running = await docker("inspect", "--format", "{{.State.Running}}", node).catch(missing).catch(unreachable);
      if (running?.trim() === "true") return;
      throw new BundleError("cluster_unreachable", `The cluster's node, the container ${node}, does not run.`, {
        next: "The platform makes it when it starts, within some minutes: see `docker compose logs archestra`. The container needs the Docker socket. Another name goes into ARCHESTRA_NODE.",
      });
    },
    images: {
      async hostId(image) {
        return (await docker("image", "inspect", "--format", "{{.Id}}", image).catch(missing))?.trim();
      },
      async nodeDigest(image) {
        const listed = await shell.run(
          [...inNode, "ctr", "-n", "k8s.io", "images", "ls", `name==${storedName(image)}`],
          {
            signal,
          },
        );
        return /sha256:[0-9a-f]{64}/.exec(listed)?.[0];
      },
      async load(image) {
        await shell.pipe(
          ["docker", "save", image],
          [...inNode, "ctr", "-n", "k8s.io", "images", "import", "-"],
          signal,
        );
      },
    },
    network:
      network === "none"
        ? undefined
        : {
            name: network,
            async isJoined() {
              const joined = await docker(
                "inspect",
                "--format",
                "{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}",
                node,
              );
              return joined.split("\n").includes(network);
            },
            async join() {
              try {
                await docker("network", "connect", network, node);
              } catch (error) {
                if (!(error instanceof CommandError)) throw error;
                throw new BundleError("network_missing", `The node cannot join the network ${network}.`, {
                  next: "Start the databases with `docker compose up -d`, or name their network in ARCHESTRA_DATABASE_NETWORK (`none` where they are reached otherwise).",
                  cause: error,
                });
              }
            },
            async leave() {
              await docker("network", "disconnect", network, node);
            },
          },
  };
}

function ownCluster(settings: BundleSettings, options: ClusterOptions): Cluster {
  const { ARCHESTRA_KUBECONFIG: file, ARCHESTRA_KUBE_CONTEXT: context, ARCHESTRA_NAMESPACE: namespace } = settings;
  const kubectl = [
    "kubectl",
    ...(file === undefined ? [] : ["--kubeconfig", file]),
    ...(context === undefined ? [] : ["--context", context]),
    "-n",
    namespace,
  ];
  const cluster = kubernetes(kubectl, options);
  return {
    ...cluster,
    describe: `the cluster of ${file ?? "kubectl's own kubeconfig"}, namespace ${namespace}`,
    async check() {
      try {
        await cluster.kubectl(["get", "namespace", namespace, "-o", "name"]);
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        throw new BundleError("cluster_unreachable", error.message, {
          next: "Check ARCHESTRA_KUBECONFIG, ARCHESTRA_KUBE_CONTEXT and ARCHESTRA_NAMESPACE.",
          cause: error,
        });
      }
    },
    images: undefined,
    network: undefined,
  };
}

const objectSchema = z.object({
  metadata: z.object({ annotations: z.record(z.string(), z.string()).optional() }),
  status: z.object({ phase: z.string().optional() }).optional(),
});

const statuses = z
  .array(
    z.object({
      name: z.string(),
      state: z
        .object({ waiting: z.object({ reason: z.string(), message: z.string().default("") }).optional() })
        .default({}),
      lastState: z.object({ terminated: z.object({ reason: z.string().default("") }).optional() }).default({}),
    }),
  )
  .default([]);

const podsSchema = z.object({
  items: z.array(
    z.object({
      metadata: z.object({ name: z.string() }),
      status: z.object({
        conditions: z
          .array(
            z.object({
              type: z.string(),
              status: z.string(),
              reason: z.string().optional(),
              message: z.string().default(""),
            }),
          )
          .default([]),
        initContainerStatuses: statuses,
        containerStatuses: statuses,
      }),
    }),
  ),
});

/** The reasons of a container that is merely on its way. */
const onItsWay = new Set(["ContainerCreating", "PodInitializing"]);

function kubernetes(prefix: readonly string[], { shell, signal }: ClusterOptions) {
  const kubectl = (parameters: readonly string[], input?: string) =>
    shell.run([...prefix, ...parameters], { signal, ...(input === undefined ? {} : { input }) });
  return {
    kubectl,
    typed: prefix.join(" "),
    async read({ kind, name }: ObjectName): Promise<ManifestState | undefined> {
      const text = await kubectl(["get", kind.toLowerCase(), name, "-o", "json", "--ignore-not-found"]);
      if (text.trim() === "") return undefined;
      const { metadata, status } = objectSchema.parse(JSON.parse(text));
      return { digest: metadata.annotations?.[DIGEST_ANNOTATION], phase: status?.phase };
    },
    async apply(manifest: Manifest) {
      await kubectl(["apply", "-f", "-"], manifest.json);
    },
    async remove({ kind, name }: ObjectName) {
      // A claim stays until the pods that mount it are gone.
      await kubectl(["delete", kind.toLowerCase(), name, "--ignore-not-found", "--timeout=120s"]);
    },
    async podProblems(servers: readonly string[]): Promise<PodProblem[]> {
      const selector = `mcp-server-name in (${servers.map(podName).join(",")})`;
      const { items } = podsSchema.parse(JSON.parse(await kubectl(["get", "pods", "-l", selector, "-o", "json"])));
      return items.flatMap(({ metadata: { name: pod }, status }) => {
        const containers = [...status.initContainerStatuses, ...status.containerStatuses];
        return [
          ...status.conditions
            .filter(({ type, status: value }) => type === "PodScheduled" && value === "False")
            .map(({ reason = "Unschedulable", message }) => ({ pod, reason, message })),
          ...containers.flatMap(({ state, lastState }) => [
            ...(state.waiting === undefined || onItsWay.has(state.waiting.reason) ? [] : [{ pod, ...state.waiting }]),
            ...(lastState.terminated?.reason === "OOMKilled"
              ? [{ pod, reason: "OOMKilled", message: "out of memory" }]
              : []),
          ]),
        ];
      });
    },
  };
}

/** An image as containerd stores it. */
function storedName(image: string): string {
  const tagged = /:[^/]+$/.test(image) ? image : `${image}:latest`;
  return isLocalImage(image) ? `docker.io/library/${tagged}` : tagged;
}

/** The engine itself does not answer: it is down, or this user may not use it. */
function unreachable(error: unknown): never {
  if (!(error instanceof CommandError)) throw error;
  throw new BundleError("docker_unreachable", `Docker does not answer: ${error.stderr.trim()}`, {
    next: "Start Docker, or run this as a user who may use it (`docker ps` shows whether you may). Without Docker set ARCHESTRA_CLUSTER=kubeconfig.",
    cause: error,
  });
}

/** What Docker does not know is an answer, and not a failure. */
function missing(error: unknown): undefined {
  if (error instanceof CommandError && /no such/i.test(error.stderr)) return undefined;
  throw error;
}
