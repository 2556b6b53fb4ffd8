import { claudeCodeProject, cursorProject, geminiProject, vsCodeProject } from "./clients.ts";
import { servers } from "./description.ts";
import { marketplace, PLUGIN_FOLDER, pluginManifest, pluginReadme, pluginServers, skill } from "./plugin.ts";
import { registryEntry } from "./registry.ts";

/** Every attachment that lies in the repository, by its path from the root. */
export function attachmentFiles(agentPrompt: string): Record<string, string> {
  return {
    ".mcp.json": json(claudeCodeProject()),
    ".cursor/mcp.json": json(cursorProject()),
    ".vscode/mcp.json": json(vsCodeProject()),
    ".gemini/settings.json": json(geminiProject()),
    ".claude-plugin/marketplace.json": json(marketplace()),
    [`${PLUGIN_FOLDER}/.claude-plugin/plugin.json`]: json(pluginManifest()),
    [`${PLUGIN_FOLDER}/.mcp.json`]: json(pluginServers()),
    [`${PLUGIN_FOLDER}/README.md`]: pluginReadme(),
    [`${PLUGIN_FOLDER}/skills/es-to-pg/SKILL.md`]: skill(agentPrompt),
    ...Object.fromEntries(
      servers.map((server) => [`packages/${server.program}/server.json`, json(registryEntry(server))]),
    ),
  };
}

/** JSON as every file here has it: short lists of texts stand on one line. */
export function json(value: object): string {
  const text = JSON.stringify(value, null, 2);
  return `${text.replaceAll(/\[\n\s+("[^\n]+",?\n\s+)+\]/g, (list) => onOneLine(list))}\n`;
}

/** More than this is hard to read in one line. */
const LINE_CHARACTERS_MAX = 110;

function onOneLine(list: string): string {
  const line = JSON.stringify(JSON.parse(list)).replaceAll('","', '", "');
  return line.length > LINE_CHARACTERS_MAX ? list : line;
}
