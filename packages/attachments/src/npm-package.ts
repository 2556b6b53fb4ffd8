import { type DescribedServer, OWNER, product } from "./description.ts";

/** What the packed `package.json` takes over from that of the workspace. */
export interface WorkspaceManifest {
  version: string;
  license: string;
  engines: Record<string, string>;
  bin: Record<string, string>;
}

/** The `package.json` of a published server. Everything is bundled, so it depends on nothing. */
export function npmManifest(server: DescribedServer, { version, license, engines, bin }: WorkspaceManifest): object {
  return {
    name: server.npmName,
    version,
    description: server.description,
    // The registry looks for its own name of the server here before it lists the package.
    mcpName: server.registryName,
    keywords: [...product.keywords],
    homepage: `${product.repository}#readme`,
    bugs: { url: `${product.repository}/issues` },
    repository: { type: "git", url: `git+${product.repository}.git`, directory: `packages/${server.program}` },
    license,
    author: OWNER,
    type: "module",
    bin,
    files: ["dist", "THIRD-PARTY-NOTICES.txt"],
    engines,
    // A package in a scope is private unless this says otherwise; with provenance, only CI can publish it.
    publishConfig: { access: "public", provenance: true },
  };
}

/** The README of a published server: what it is, how it is attached, what it can do. */
export function npmReadme(server: DescribedServer, attach: string): string {
  const tools = server.tools.map(({ name, description }) => `- \`${name}\`: ${description}`);
  return `# ${server.npmName}

${server.title}: an MCP server. ${server.description}. It is one of the two servers of [${product.name}](${product.repository}#readme), where all settings are listed; \`npx -y ${server.npmName} --help\` lists them too. Node 22 or newer.

    ${attach}

${tools.join("\n")}
`;
}
