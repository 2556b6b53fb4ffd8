import { environment, fromRegistry } from "./clients.ts";
import { OWNER, product, servers } from "./description.ts";

/** Where the Claude Code plugin lies in the repository. */
export const PLUGIN_FOLDER = "packages/attachments/plugin";

/** The version of the servers, which are published together, and of the plugin with them. */
function productVersion(): string {
  const [version, ...others] = new Set(servers.map((server) => server.version));
  if (version === undefined || others.length > 0) throw new Error("the servers' package.json name different versions");
  return version;
}

/** `.claude-plugin/marketplace.json`: the repository as a marketplace of one plugin. */
export function marketplace(): object {
  const { name, description, keywords } = product;
  return {
    name,
    description,
    owner: { name: OWNER },
    plugins: [{ name, source: `./${PLUGIN_FOLDER}`, description, category: "database", keywords }],
  };
}

/** `plugin.json`: what Claude Code asks for when the plugin is switched on. Secrets go to the system's keychain. */
export function pluginManifest(): object {
  const { name, description, repository, license, keywords } = product;
  return {
    name,
    version: productVersion(),
    description,
    author: { name: OWNER, url: `https://github.com/${OWNER}` },
    homepage: `${repository}#readme`,
    repository,
    license,
    keywords,
    userConfig: Object.fromEntries(
      servers
        .flatMap(({ asked }) => asked)
        .map(({ name: key, title, description: text, secret, sample }) => [
          key,
          {
            type: "string",
            title,
            description: text,
            sensitive: secret,
            // Empty is unset for the servers. Without a default the field would have to be filled.
            default: secret ? "" : (sample ?? ""),
          },
        ]),
    ),
  };
}

/** The plugin's `.mcp.json`: both servers from the registry of packages. */
export function pluginServers(): object {
  return {
    mcpServers: Object.fromEntries(
      servers.map((server) => [
        server.alias,
        { type: "stdio", ...fromRegistry(server), env: environment(server, ({ name }) => `\${user_config.${name}}`) },
      ]),
    ),
  };
}

/** The skill that teaches the method: the text of `agent-prompt.md` under the head that Claude Code reads. */
export function skill(agentPrompt: string): string {
  const description =
    "Moves documents from Elasticsearch to PostgreSQL with the tools of the es and pg servers, and proves that none was lost. Use it to copy, migrate or sync an index into a table, to plan a mapping, or to explain and repair rejected documents.";
  return `---\nname: ${product.name}\ndescription: ${description}\n---\n\n${agentPrompt.trimEnd()}\n`;
}

/** The plugin's README. */
export function pluginReadme(): string {
  const tools = servers.map(({ alias, title, tools: { length } }) => `- \`${alias}\`: ${title}, ${length} tools`);
  return `# ${product.title}

${product.description}. This plugin brings both servers and a skill that teaches the method.

${tools.join("\n")}

Install it with \`/plugin marketplace add ${new URL(product.repository).pathname.slice(1)}\` and \`/plugin install ${product.name}@${product.name}\`, and answer the questions for the two addresses. It needs Node 22 or newer. Then ask for what you want: "Copy the products index to PostgreSQL".
`;
}
