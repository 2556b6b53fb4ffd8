import { type Setting, settingDefault } from "@es-to-pg/mcp-kit";
import { type DescribedServer, plainText, product } from "./description.ts";

/** The registry's schema of a `server.json`, by its date. `npm run check:attachments` holds the files against it. */
export const REGISTRY_SCHEMA_DATE = "2025-12-11";

/** The `server.json` of the MCP registry, with every variable that the server reads. */
export function registryEntry({ registryName, title, version, description, ...server }: DescribedServer): object {
  return {
    $schema: `https://static.modelcontextprotocol.io/schemas/${REGISTRY_SCHEMA_DATE}/server.schema.json`,
    name: registryName,
    title,
    description,
    version,
    repository: { url: product.repository, source: "github", subfolder: `packages/${server.program}` },
    websiteUrl: `${product.repository}#readme`,
    packages: [
      {
        registryType: "npm",
        identifier: server.npmName,
        version,
        runtimeHint: "npx",
        transport: { type: "stdio" },
        environmentVariables: Object.entries(server.settings)
          // Those of `--http`, which nobody starts from a registry, would only lengthen the form.
          .filter(([name]) => !/^MCP_(?:HTTP|METRICS)/.test(name))
          .map(([name, setting]) => environmentVariable(name, setting)),
      },
    ],
  };
}

function environmentVariable(name: string, setting: Setting): object {
  const value = settingDefault(setting);
  return {
    name,
    description: plainText(setting.description),
    isRequired: value === "required",
    isSecret: setting.secret === true,
    ...(value === "" || value === "required" ? {} : { default: value }),
    ...(setting.example === undefined ? {} : { placeholder: setting.example }),
  };
}
