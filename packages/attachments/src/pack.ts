import { execFile } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { type BundledPackage, bundleServer } from "./bundle.ts";
import { claudeCodeCommand } from "./clients.ts";
import { type DescribedServer, servers } from "./description.ts";
import { desktopManifest } from "./desktop-bundle.ts";
import { json } from "./files.ts";
import { thirdPartyNotices } from "./notices.ts";
import { npmManifest, npmReadme, type WorkspaceManifest } from "./npm-package.ts";
import { repositoryRoot } from "./repository.ts";

/** A server, packed. */
export interface Packed {
  server: DescribedServer;
  /** The folder that `npm publish` takes. */
  npmFolder: string;
  /** What `npm publish` would send. */
  tarball: string;
  /** The folder that becomes the Claude Desktop bundle. */
  desktopFolder: string;
  /** The bundle's file, which is not there yet. */
  desktopBundle: string;
  packages: BundledPackage[];
}

/** Packs every built server into `outFolder`, which is emptied first. */
export async function packServers(outFolder: string): Promise<Packed[]> {
  await rm(outFolder, { recursive: true, force: true });
  const packed: Packed[] = [];
  for (const server of servers) packed.push(await packServer(server, join(outFolder, server.program)));
  return packed;
}

const manifestSchema: z.ZodType<WorkspaceManifest> = z.object({
  version: z.string(),
  license: z.string(),
  engines: z.record(z.string(), z.string()),
  bin: z.record(z.string(), z.string()),
});

/** The part of a server's own `package.json` that its packages take over. */
export async function workspaceManifest({ program }: DescribedServer): Promise<WorkspaceManifest> {
  const text = await readFile(join(repositoryRoot, "packages", program, "package.json"), "utf8");
  return manifestSchema.parse(JSON.parse(text));
}

async function packServer(server: DescribedServer, folder: string): Promise<Packed> {
  const manifest = await workspaceManifest(server);
  const [npmFolder, desktopFolder] = [join(folder, "npm"), join(folder, "desktop")];
  const packages = await bundleServer(server.program, join(npmFolder, "dist"));
  await writeFile(join(npmFolder, "THIRD-PARTY-NOTICES.txt"), await thirdPartyNotices(packages));
  await cp(join(repositoryRoot, "LICENSE"), join(npmFolder, "LICENSE"));
  await mkdir(desktopFolder);
  for (const name of ["dist", "THIRD-PARTY-NOTICES.txt", "LICENSE"]) {
    await cp(join(npmFolder, name), join(desktopFolder, name), { recursive: true });
  }
  await writeFile(join(desktopFolder, "manifest.json"), json(desktopManifest(server, manifest.engines)));
  // Claude Desktop starts main.js with its own Node, which must know that these are ES modules.
  await writeFile(join(desktopFolder, "package.json"), json({ type: "module", private: true }));
  await writeFile(join(npmFolder, "package.json"), json(npmManifest(server, manifest)));
  await writeFile(join(npmFolder, "README.md"), npmReadme(server, claudeCodeCommand(server)));
  const { stdout } = await promisify(execFile)("npm", ["pack", "--silent", "--pack-destination", folder], {
    cwd: npmFolder,
  });
  return {
    server,
    npmFolder,
    tarball: join(folder, stdout.trim()),
    desktopFolder,
    desktopBundle: join(folder, `${server.program}-${manifest.version}.mcpb`),
    packages,
  };
}
