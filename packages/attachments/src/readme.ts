import { anyProject, claudeCodeCommand, cursorButton, vsCodeButton } from "./clients.ts";
import { servers } from "./description.ts";
import { json } from "./files.ts";

/** What docs/clients.md says about clients in any project: commands, the common form, buttons. */
export function attachmentsSection(): string {
  const buttons = servers.map(
    (server) => `| \`${server.alias}\` | [install](${cursorButton(server)}) | [install](${vsCodeButton(server)}) |`,
  );
  return `Claude Code:

\`\`\`sh
${servers.map((server) => claudeCodeCommand(server)).join("\n")}
\`\`\`

Cursor (\`~/.cursor/mcp.json\`), Gemini CLI (\`~/.gemini/settings.json\`), Claude Desktop, and every client that reads the same form:

\`\`\`json
${json(anyProject())}\`\`\`

| server | Cursor | VS Code |
|---|---|---|
${buttons.join("\n")}
`;
}
