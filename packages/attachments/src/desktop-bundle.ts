import { environment } from "./clients.ts";
import { type DescribedServer, OWNER, product } from "./description.ts";

/** The `manifest.json` of a Claude Desktop bundle (`.mcpb`), which holds the bundled server beside it. */
export function desktopManifest(server: DescribedServer, engines: Record<string, string>): object {
  const entryPoint = "dist/main.js";
  return {
    manifest_version: "0.3",
    name: server.program,
    display_name: server.title,
    version: server.version,
    description: server.description,
    author: { name: OWNER },
    repository: { type: "git", url: `${product.repository}.git` },
    homepage: `${product.repository}#readme`,
    license: product.license,
    keywords: [...product.keywords],
    server: {
      type: "node",
      entry_point: entryPoint,
      mcp_config: {
        command: "node",
        args: [`\${__dirname}/${entryPoint}`],
        env: environment(server, ({ name }) => `\${user_config.${name}}`),
      },
    },
    tools: server.tools.map(({ name, description }) => ({ name, description })),
    user_config: Object.fromEntries(
      server.asked.map(({ name, title, description, secret, sample }) => [
        name,
        // Empty is unset for the server; without a default the placeholder itself would reach it.
        { type: "string", title, description, sensitive: secret, required: false, default: secret ? "" : sample },
      ]),
    ),
    compatibility: { runtimes: { node: engines["node"] } },
  };
}
