/** What the servers' pods need before they can start: the images, the databases' network, the volume claim, the policy. */
import { BundleError } from "../bundle-error.ts";
import type { Cluster, ManifestState } from "../cluster.ts";
import { isLocalImage, type Manifest, type ObjectName } from "../deployment.ts";
import type { Desired } from "../desired.ts";
import type { Change, World } from "../world.ts";

export interface ClusterActual {
  images: readonly { image: string; hostId: string | undefined; nodeDigest: string | undefined }[];
  isNetworkJoined: boolean;
  manifests: readonly { manifest: Manifest; state: ManifestState | undefined }[];
  /** Objects that earlier settings applied and that are there still. */
  leftovers: readonly ObjectName[];
}

export async function readCluster({ desired, cluster }: World): Promise<ClusterActual> {
  if (cluster === undefined) return { images: [], isNetworkJoined: true, manifests: [], leftovers: [] };
  await cluster.check();
  const { images, network } = cluster;
  const [loaded, isNetworkJoined, manifests, withdrawn] = await Promise.all([
    images === undefined
      ? []
      : Promise.all(
          localImages(desired).map(async (image) => {
            const [hostId, nodeDigest] = await Promise.all([images.hostId(image), images.nodeDigest(image)]);
            return { image, hostId, nodeDigest };
          }),
        ),
    network?.isJoined() ?? true,
    Promise.all(desired.manifests.map(async (manifest) => ({ manifest, state: await cluster.read(manifest) }))),
    Promise.all(desired.withdrawn.map(async (object) => ({ object, state: await cluster.read(object) }))),
  ]);
  const leftovers = withdrawn.flatMap(({ object, state }) => (state === undefined ? [] : [object]));
  return { images: loaded, isNetworkJoined, manifests, leftovers };
}

export function clusterChanges(actual: ClusterActual, world: World): Change[] {
  const { cluster, stateFile } = world;
  if (cluster === undefined) return [];
  const changes: Change[] = [];
  for (const { image, hostId, nodeDigest } of actual.images) {
    const kept = stateFile.state.images[image];
    if (
      nodeDigest !== undefined &&
      (hostId === undefined || (kept?.hostId === hostId && kept.nodeDigest === nodeDigest))
    ) {
      continue;
    }
    changes.push({
      phase: "cluster",
      target: `image ${image}`,
      action: "load",
      why: [nodeDigest === undefined ? "the cluster does not have it" : "the cluster has another build of it"],
      run: () => loadImage(image, hostId, world),
    });
  }
  if (!actual.isNetworkJoined && cluster.network !== undefined) {
    const { network } = cluster;
    changes.push({
      phase: "cluster",
      target: `network ${network.name}`,
      action: "join",
      why: ["the databases are in it"],
      run: () => network.join(),
    });
  }
  for (const { manifest, state } of actual.manifests) {
    const change = manifestChange(manifest, state, world);
    if (change !== undefined) changes.push(change);
  }
  changes.push(
    ...actual.leftovers.map((object) => objectRemoval(object, ["the settings no longer ask for it"], cluster)),
  );
  return changes;
}

/** Images stay in the node: they vanish with the cluster, and a next apply need not load them. */
export function clusterRemovals(actual: ClusterActual, { cluster }: World): Change[] {
  if (cluster === undefined) return [];
  const { network } = cluster;
  return [
    ...actual.leftovers.map((object) => objectRemoval(object, [], cluster)),
    ...actual.manifests.flatMap(({ manifest, state }) => {
      const why = manifest.kind === "PersistentVolumeClaim" ? ["with every staged export in it"] : [];
      return state === undefined ? [] : [objectRemoval(manifest, why, cluster)];
    }),
    ...(actual.isNetworkJoined && network !== undefined
      ? [
          {
            phase: "cluster",
            target: `network ${network.name}`,
            action: "delete",
            why: ["the node leaves it, so that docker compose can take it down"],
            run: () => network.leave(),
          } satisfies Change,
        ]
      : []),
  ];
}

function objectRemoval(object: ObjectName, why: readonly string[], cluster: Cluster): Change {
  const target = `${object.kind} ${object.name}`;
  return { phase: "cluster", target, action: "delete", why, run: () => cluster.remove(object) };
}

function localImages(desired: Desired): string[] {
  return [
    ...new Set(
      desired.servers.flatMap((server) =>
        server.kind === "local" && isLocalImage(server.image) ? [server.image] : [],
      ),
    ),
  ];
}

/** A claim that is there stays as it is: most of it cannot be changed, and exports are in it. */
function manifestChange(manifest: Manifest, state: ManifestState | undefined, { cluster }: World): Change | undefined {
  if (cluster === undefined) return undefined;
  const isClaim = manifest.kind === "PersistentVolumeClaim";
  if (state !== undefined && (isClaim || state.digest === manifest.digest)) return undefined;
  return {
    phase: "cluster",
    target: `${manifest.kind} ${manifest.name}`,
    action: state === undefined ? "create" : "update",
    why: [],
    run: () => cluster.apply(manifest),
  };
}

async function loadImage(image: string, hostId: string | undefined, { cluster, stateFile }: World): Promise<void> {
  if (cluster?.images === undefined) return;
  if (hostId === undefined) {
    throw new BundleError("image_missing", `Neither the cluster nor this machine's Docker has the image ${image}.`, {
      next: "Build both with `docker compose build es-mcp pg-mcp`, then apply again.",
    });
  }
  await cluster.images.load(image);
  const nodeDigest = await cluster.images.nodeDigest(image);
  if (nodeDigest === undefined) {
    throw new BundleError("image_missing", `The image ${image} was loaded, and the cluster does not show it.`, {
      next: "See `docker exec archestra-mcp-control-plane ctr -n k8s.io images ls`, and the disk space of the node.",
    });
  }
  await stateFile.update({ images: { ...stateFile.state.images, [image]: { hostId, nodeDigest } } });
}
