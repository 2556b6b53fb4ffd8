import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Ajv } from "ajv";
import addFormats from "ajv-formats";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { servers } from "./description.ts";
import { nodeOfVersion, registrySource, run, validatePlugin } from "./outside-tools.ts";
import type { Packed } from "./pack.ts";
import { PLUGIN_FOLDER } from "./plugin.ts";
import { REGISTRY_SCHEMA_DATE } from "./registry.ts";
import { repositoryRoot } from "./repository.ts";

/** The versions of Node that `engines` speaks of, oldest and newest. */
const nodeVersions = [22, 24];

/** What is checked besides the manifests of the desktop bundles, which are judged as they are packed. Each throws where it fails. */
export function attachmentChecks(packed: readonly Packed[]): [string, () => Promise<void>][] {
  const plugin = join(repositoryRoot, PLUGIN_FOLDER);
  return [
    ["marketplace: claude plugin validate", () => validatePlugin(repositoryRoot, "--strict")],
    ["plugin: claude plugin validate", () => validatePlugin(plugin, "--strict")],
    // Not strict here: the only warning is that there is no icon.
    ["plugin: what the plugin directory refuses", () => validatePlugin(plugin, "--profile", "directory")],
    ["server.json: the registry's schema", checkRegistryEntries],
    ...packed.map(({ server, npmFolder }): [string, () => Promise<void>] => [
      `${server.npmName}: publint`,
      () => checkPackage(npmFolder),
    ]),
    ...nodeVersions.flatMap((version) =>
      packed.map((one): [string, () => Promise<void>] => [
        `${one.server.npmName}: installed in an empty folder, on Node ${version}`,
        () => checkTarball(one, version),
      ]),
    ),
  ];
}

async function checkRegistryEntries(): Promise<void> {
  const schema = join(await registrySource(), "internal/validators/schemas", `${REGISTRY_SCHEMA_DATE}.json`);
  const ajv = new Ajv({ allErrors: true, strict: false });
  addFormats.default(ajv);
  const validate = ajv.compile(JSON.parse(await readFile(schema, "utf8")));
  for (const { program } of servers) {
    const path = `packages/${program}/server.json`;
    if (validate(JSON.parse(await readFile(join(repositoryRoot, path), "utf8")))) continue;
    throw new Error(`${path}: ${ajv.errorsText(validate.errors)}`);
  }
}

/** Any message of publint's fails, also what it only suggests. */
async function checkPackage(folder: string): Promise<void> {
  const { messages, pkg } = await publint({ pkgDir: folder, pack: "npm" });
  if (messages.length > 0) throw new Error(messages.map((message) => formatMessage(message, pkg)).join("\n"));
}

/** Installs a tarball where nothing else is, without network, and starts what it brings. */
async function checkTarball({ server, tarball }: Packed, nodeVersion: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "attachment-"));
  try {
    await run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--prefix", folder, tarball]);
    const client = new Client({ name: "attachments", version: "0.1.0" }, { versionNegotiation: { mode: "auto" } });
    await client.connect(
      new StdioClientTransport({
        command: await nodeOfVersion(nodeVersion),
        args: [join(folder, "node_modules/.bin", server.program)],
        cwd: folder,
        env: { HOME: folder },
      }),
    );
    const listed = (await client.listTools()).tools.map(({ name }) => name);
    await client.close();
    const expected = server.tools.map(({ name }) => name);
    if (listed.join() !== expected.join()) throw new Error(`it lists the tools ${listed.join(", ")}`);
  } finally {
    await rm(folder, { recursive: true });
  }
}
