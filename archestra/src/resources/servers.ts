/**
 * The two MCP servers: a catalog item, its deployment YAML and its installation each. The order is what keeps them
 * right: item, YAML, installation; and of all calls that touch the item, the YAML is sent last and alone, because any
 * other rewrites it. Nothing is deleted and installed again, because that takes assignments and policies along.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { type CatalogItem, calls, type Installation } from "../api/calls.ts";
import { ApiError, CALL_TIMED_OUT } from "../api/client.ts";
import { BundleError } from "../bundle-error.ts";
import type { PodProblem } from "../cluster.ts";
import { podName } from "../deployment.ts";
import {
  type DesiredServer,
  localConfigOf,
  type ServerName,
  TOKEN_FIELD,
  TOKEN_VARIABLE,
  tokenField,
} from "../desired.ts";
import { differences } from "../differences.ts";
import { ownRow, withOwnLabel } from "../ownership.ts";
import { type Change, dependencyMissing, notYet, type World } from "../world.ts";
import type { ClusterActual } from "./cluster.ts";

export interface ServerActual {
  server: DesiredServer;
  item: CatalogItem | undefined;
  installation: Installation | undefined;
  /** The tools that the platform knows, by their names with the server's name before them. */
  tools: readonly { id: string; name: string }[];
  /** What the server itself says. Its status is only what the last installation saw. */
  live: Live;
}

export type Live = { tools: readonly string[] } | { error: string };

export async function readServers(world: World): Promise<ServerActual[]> {
  const { api, desired } = world;
  const items = await api.call(calls.listCatalog);
  return await Promise.all(
    desired.servers.map(async (server): Promise<ServerActual> => {
      const row = ownRow(items, server.name, "catalog item");
      if (row === undefined) return { server, item: undefined, ...notInstalled };
      const [item, installations] = await Promise.all([
        api.call(calls.getCatalogItem, { params: { id: row.id } }),
        api.call(calls.listInstallations, { query: { catalogId: row.id } }),
      ]);
      // People may have personal ones of their own.
      const installation = installations.find(({ scope }) => scope === undefined || scope === "org");
      if (installation === undefined) return { server, item, ...notInstalled };
      const [tools, live] = await Promise.all([
        api.call(calls.listServerTools, { params: { id: installation.id } }),
        inspect(installation.id, world),
      ]);
      return { server, item, installation, tools, live };
    }),
  );
}

const notInstalled = { installation: undefined, tools: [], live: { error: "not installed" } } as const;

export function serverChanges(actual: ServerActual, cluster: ClusterActual, world: World): Change[] {
  const { server, item } = actual;
  const target = `server ${server.name}`;
  if (item === undefined) {
    return [
      { phase: "catalog", target, action: "create", why: [originOf(server)], run: () => createItem(server, world) },
      ...(server.kind === "local" ? [yamlChange(server, undefined, undefined, world)] : []),
      { phase: "install", target, action: "install", why: [], run: notYet },
    ];
  }
  if (item.serverType !== server.kind) {
    return [
      {
        phase: "catalog",
        target,
        action: "replace",
        why: [`it is ${item.serverType} and is to be ${server.kind}`],
        run: async () => {
          await world.api.call(calls.deleteCatalogItem, { params: { id: item.id } });
        },
      },
    ];
  }
  return [
    ...itemChanges(server, item, world),
    ...(server.kind === "local" && item.deploymentSpecYaml !== server.yaml
      ? [yamlChange(server, item, actual.installation, world)]
      : []),
    ...installationChanges(actual, item, cluster, world),
  ];
}

export function serverRemovals({ server, item }: ServerActual, { api, stateFile }: World): Change[] {
  if (item === undefined) return [];
  return [
    {
      phase: "catalog",
      target: `server ${server.name}`,
      action: "delete",
      why: ["with its installations, tools and policies"],
      async run() {
        await api.call(calls.deleteCatalogItem, { params: { id: item.id } });
        const { [server.name]: _, ...servers } = stateFile.state.servers;
        await stateFile.update({ servers });
      },
    },
  ];
}

/** Whether the platform knows exactly the tools that the server has. */
export function isReady({ server, tools, live }: ServerActual): boolean {
  return "tools" in live && live.tools.length > 0 && sameNames(registered(server.name, live.tools), tools);
}

function originOf(server: DesiredServer): string {
  return server.kind === "local" ? `image ${server.image} over ${server.transport}` : `remote at ${server.url}`;
}

function wantedItem(server: DesiredServer, item: CatalogItem | undefined) {
  const common = {
    name: server.name,
    description: server.description,
    serverType: server.kind,
    icon: server.icon,
    labels: withOwnLabel(item),
    userConfig: server.kind === "local" && server.transport === "stdio" ? {} : tokenField,
  };
  return server.kind === "local"
    ? { ...common, localConfig: localConfigOf(server) }
    : { ...common, serverUrl: server.url };
}

async function createItem(server: DesiredServer, { api, opening }: World): Promise<void> {
  await api.call(calls.createCatalogItem, {
    body: { ...wantedItem(server, undefined), ...opening(calls.createCatalogItem) },
  });
}

function itemChanges(server: DesiredServer, item: CatalogItem, { api }: World): Change[] {
  const fields = wantedItem(server, item);
  const actual: Record<string, unknown> = item;
  // A form field too many is asked for at every installation.
  const surplus = Object.keys(item.userConfig ?? {}).filter((name) => !(name in fields.userConfig));
  const wanted = Object.entries(fields).map(([field, value]) => ({
    field,
    value,
    why: [
      ...differences(value, actual[field], field),
      ...(field === "userConfig" ? surplus.map((name) => `userConfig.${name}: too much`) : []),
    ],
  }));
  const changed = wanted.filter(({ why }) => why.length > 0);
  if (changed.length === 0) return [];
  const body = Object.fromEntries(changed.map(({ field, value }) => [field, value]));
  return [
    {
      phase: "catalog",
      target: `server ${server.name}`,
      action: "update",
      why: changed.flatMap(({ why }) => why),
      async run() {
        await api.call(calls.updateCatalogItem, { params: { id: item.id }, body });
        // At once, so that the pods are never started from a YAML that the call before this one rewrote.
        if (server.kind === "local") await sendYaml(server.yaml, item.id, api);
      },
    },
  ];
}

function yamlChange(
  server: Extract<DesiredServer, { kind: "local" }>,
  item: CatalogItem | undefined,
  installation: Installation | undefined,
  world: World,
): Change {
  return {
    phase: "deployment",
    target: `deployment of ${server.name}`,
    action: item?.deploymentSpecYaml ? "update" : "create",
    why: yamlDifference(item?.deploymentSpecYaml ?? "", server.yaml),
    async run() {
      if (item === undefined) throw dependencyMissing();
      const { valid, errors } = await world.api.call(calls.validateDeployment, { body: { yaml: server.yaml } });
      if (!valid) {
        throw new BundleError(
          "yaml_refused",
          `Archestra refused the deployment of ${server.name}: ${errors.join("; ")}`,
          {
            next: "Check the POD_… settings and ARCHESTRA_POD_MEMORY; `npm run archestra:plan -- --yaml` prints the deployment.",
          },
        );
      }
      await sendYaml(server.yaml, item.id, world.api);
      // The pod is replaced, and until then the old one answers.
      if (installation !== undefined) await settled(installation.id, world);
    },
    stuck: () =>
      new BundleError("yaml_not_kept", `Archestra did not keep the deployment of ${server.name} as it was sent.`, {
        next: "Has somebody edited the catalog item just now? Apply again; if it stays so, see the item's deployment in the platform.",
      }),
  };
}

async function sendYaml(yaml: string, id: string, api: World["api"]): Promise<void> {
  await api.call(calls.updateCatalogItem, { params: { id }, body: { deploymentSpecYaml: yaml } });
}

/** The lines that differ, at most a few. */
function yamlDifference(actual: string, wanted: string): string[] {
  if (actual === "") return [];
  const [before, after] = [new Set(actual.split("\n")), new Set(wanted.split("\n"))];
  const gone = [...before].filter((line) => !after.has(line)).map((line) => `- ${line.trim()}`);
  const come = [...after].filter((line) => !before.has(line)).map((line) => `+ ${line.trim()}`);
  const lines = [...gone, ...come];
  const most = 12;
  return lines.length > most ? [...lines.slice(0, most), `… ${lines.length - most} more lines`] : lines;
}

function installationChanges(actual: ServerActual, item: CatalogItem, cluster: ClusterActual, world: World): Change[] {
  const { server, installation, live } = actual;
  const target = `server ${server.name}`;
  const imageId = imageOf(server, cluster);
  if (installation === undefined) {
    const run = () => install(server, item, imageId, world);
    return [{ phase: "install", target, action: "install", why: [], run }];
  }
  const kept = world.stateFile.state.servers[server.name];
  const isKnown = kept?.installationId === installation.id;
  const why = [
    ...(isKnown ? [] : ["secrets: not known to be those that are set"]),
    ...(isKnown && kept.secretsDigest !== secretsDigest(server, world) ? ["secrets: changed"] : []),
    ...(installation.reinstallRequired ? ["the catalog item changed since"] : []),
  ];
  if (why.length > 0) {
    return [
      {
        phase: "install",
        target,
        action: "reinstall",
        why,
        run: () => reinstall(server, installation, imageId, world),
      },
    ];
  }
  if (imageId !== undefined && kept?.imageId !== imageId) {
    return [
      {
        phase: "install",
        target,
        action: "restart",
        why: ["its image was built anew"],
        run: () => refresh(server, item, installation, imageId, world),
      },
    ];
  }
  const isAnswering = "tools" in live && live.tools.length > 0;
  if (!isAnswering) {
    return [
      {
        phase: "tools",
        target,
        action: "wait",
        why: [`it does not list its tools: ${"error" in live ? live.error : "there are none"}`],
        run: () => answering(server, installation, imageId, world),
      },
    ];
  }
  if (isReady(actual)) return [];
  return [
    {
      phase: "tools",
      target,
      action: "reinstall",
      why: ["the platform does not know the tools that it has"],
      run: () => reinstall(server, installation, imageId, world),
      stuck: () => notDiscovered(server.name, "the platform keeps another list than the server's own", world),
    },
  ];
}

function imageOf(server: DesiredServer, { images }: ClusterActual): string | undefined {
  return server.kind === "local" ? images.find(({ image }) => image === server.image)?.hostId : undefined;
}

/** The values that an installation is given. They are never read back: what was sent is kept as a digest. */
function secretsOf(server: DesiredServer, token: string | undefined) {
  if (server.kind === "remote") return { userConfigValues: { [TOKEN_FIELD]: server.token } };
  if (server.transport === "stdio") return { environmentValues: server.secrets };
  if (token === undefined) return undefined;
  return {
    // The platform also writes the form's field into the pod's environment in plain text, unless a secret has that name.
    environmentValues: { ...server.secrets, [TOKEN_VARIABLE]: token },
    userConfigValues: { [TOKEN_FIELD]: token },
  };
}

function secretsDigest(server: DesiredServer, { stateFile }: World): string | undefined {
  const secrets = secretsOf(server, stateFile.state.httpTokens[server.name]);
  return secrets === undefined ? undefined : stateFile.digest(secrets);
}

async function newSecrets(server: DesiredServer, { stateFile }: World) {
  const { httpTokens } = stateFile.state;
  if (httpTokens[server.name] === undefined) {
    // Kept before it is sent: a run that is cut off then sends the same one again.
    await stateFile.update({ httpTokens: { ...httpTokens, [server.name]: randomBytes(32).toString("base64url") } });
  }
  const secrets = secretsOf(server, stateFile.state.httpTokens[server.name]);
  if (secrets === undefined) throw new Error("a token that was made is gone");
  return secrets;
}

async function remember(server: DesiredServer, installationId: string, imageId: string | undefined, world: World) {
  const { stateFile } = world;
  const digest = secretsDigest(server, world) ?? "";
  const entry = { installationId, secretsDigest: digest, ...(imageId === undefined ? {} : { imageId }) };
  await stateFile.update({ servers: { ...stateFile.state.servers, [server.name]: entry } });
}

async function install(
  server: DesiredServer,
  { id: catalogId }: CatalogItem,
  imageId: string | undefined,
  world: World,
) {
  const { api, opening } = world;
  const secrets = await newSecrets(server, world);
  const body = { name: server.name, catalogId, ...secrets, ...opening(calls.install) };
  try {
    const { id } = await api.call(calls.install, { body });
    await remember(server, id, imageId, world);
  } catch (error) {
    // A remote server is asked for its tools at once; a local one answers 200 and fails later.
    if (!(error instanceof ApiError && error.status === 500)) throw error;
    throw notDiscovered(server.name, error.reason, world);
  }
}

async function reinstall(server: DesiredServer, { id }: Installation, imageId: string | undefined, world: World) {
  const secrets = await newSecrets(server, world);
  // All values together: with some of them missing the platform refuses the call.
  await world.api.call(calls.reinstall, { params: { id }, body: secrets });
  await remember(server, id, imageId, world);
  await settled(id, world);
}

async function refresh(
  server: DesiredServer,
  item: CatalogItem,
  { id }: Installation,
  imageId: string,
  world: World,
): Promise<void> {
  await world.api.call(calls.refreshImage, { params: { id: item.id } });
  await remember(server, id, imageId, world);
  await settled(id, world);
}

const toolsSchema = z.object({ tools: z.array(z.object({ name: z.string() })) });

/** A server that lists its tools does so at once; the platform waits minutes for one that hangs. */
const INSPECT_TIMEOUT_MS = 60_000;

/** The server's own list of tools, by way of the platform. */
async function inspect(id: string, { api, timing }: World): Promise<Live> {
  const timeoutMs = Math.min(INSPECT_TIMEOUT_MS, timing.readyTimeoutMs);
  try {
    const answer = await api.call(calls.inspect, { params: { id }, body: { method: "tools/list" }, timeoutMs });
    const parsed = toolsSchema.safeParse(answer);
    if (parsed.success) return { tools: parsed.data.tools.map(({ name }) => name) };
    return { error: JSON.stringify(answer).slice(0, 300) };
  } catch (error) {
    if (error instanceof ApiError) return { error: error.reason.slice(0, 300) };
    if (error instanceof BundleError && error.code === CALL_TIMED_OUT) return { error: error.message };
    throw error;
  }
}

function registered(server: ServerName, tools: readonly string[]): string[] {
  return tools.map((tool) => `${server}__${tool}`);
}

function sameNames(names: readonly string[], rows: readonly { name: string }[]): boolean {
  return JSON.stringify([...names].sort()) === JSON.stringify(rows.map(({ name }) => name).sort());
}

/** Waits until the platform is done with the pod, however it went. */
async function settled(id: string, world: World): Promise<void> {
  const until = performance.now() + world.timing.readyTimeoutMs;
  // The status does not change in the very moment of the call.
  do await pause(world);
  while (performance.now() < until && isUnderWay(await statusOf(id, world)));
}

type Status = Pick<Installation, "localInstallationStatus" | "localInstallationError">;

async function statusOf(id: string, { api }: World): Promise<Status> {
  return await api.call(calls.installationStatus, { params: { id } });
}

function isUnderWay({ localInstallationStatus: status }: Status): boolean {
  return status === "pending" || status === "discovering-tools";
}

async function pause({ timing, signal }: World): Promise<void> {
  await delay(timing.pollMs, undefined, { signal });
}

/**
 * Waits until the server lists its tools, then fails with what the cluster says. A server that stays silent is installed
 * anew once, after a third of the time: before that its pod may still start by itself, and the platform sends a token
 * that was changed only after half a minute.
 */
async function answering(
  server: DesiredServer,
  installation: Installation,
  imageId: string | undefined,
  world: World,
): Promise<void> {
  const { readyTimeoutMs } = world.timing;
  if ((await silenceOf(installation, readyTimeoutMs / 3, world)) === undefined) return;
  world.say(`    ${server.name} does not answer; installing it anew`);
  await reinstall(server, installation, imageId, world);
  const silence = await silenceOf(installation, (readyTimeoutMs * 2) / 3, world);
  if (silence !== undefined) throw await diagnosis(server, silence, world);
}

interface Silence {
  live: Live;
  status: Status;
}

/** Asks until the server lists its tools, for the given time and while the platform is still at it; else what it said last. */
async function silenceOf({ id }: Installation, patienceMs: number, world: World): Promise<Silence | undefined> {
  const since = performance.now();
  for (;;) {
    const [live, status] = await Promise.all([inspect(id, world), statusOf(id, world)]);
    if ("tools" in live && live.tools.length > 0) return undefined;
    const silentMs = performance.now() - since;
    const limitMs = isUnderWay(status) ? world.timing.readyTimeoutMs : patienceMs;
    if (silentMs > limitMs) return { live, status };
    await pause(world);
  }
}

async function diagnosis(server: DesiredServer, { live, status }: Silence, world: World): Promise<BundleError> {
  const problems = server.kind === "local" ? await podProblemsOf(server.name, world) : [];
  const said = [
    "error" in live ? live.error : "it has no tools",
    ...(status.localInstallationError === null ? [] : [status.localInstallationError]),
    ...problems.map(({ pod, reason, message }) => `pod ${pod}: ${reason} ${message}`.trim()),
  ];
  const reasons = new Set(problems.map(({ reason }) => reason));
  if (
    server.kind === "local" &&
    ["ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"].some((reason) => reasons.has(reason))
  ) {
    return new BundleError(
      "image_missing",
      `The cluster does not have the image ${server.image} (${said.join("; ")}).`,
      {
        next: "Run `docker compose build es-mcp pg-mcp` and apply again. In a cluster of your own name an image of a registry in ES_MCP_IMAGE and PG_MCP_IMAGE.",
      },
    );
  }
  return notDiscovered(server.name, said.join("; "), world);
}

async function podProblemsOf(name: ServerName, { cluster }: World): Promise<PodProblem[]> {
  // A second failure must not hide the first one.
  return (await cluster?.podProblems([name]).catch(() => undefined)) ?? [];
}

function notDiscovered(name: ServerName, detail: string, { cluster }: World): BundleError {
  const log =
    cluster === undefined ? "" : ` The pod's log: \`${cluster.typed} logs -l mcp-server-name=${podName(name)}\`.`;
  return new BundleError("tools_not_discovered", `${name} does not list its tools: ${detail}`, {
    next: `Run \`npm run archestra:doctor\`.${log}`,
  });
}
