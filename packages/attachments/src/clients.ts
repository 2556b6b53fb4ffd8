import { type AskedSetting, type DescribedServer, servers } from "./description.ts";

/** How a client starts a server. */
interface Launch {
  command: string;
  args: string[];
}

/**
 * The server as a clone of the repository has built it, by the clone's own Node: that of the machine may be too old.
 * `root` is how the client writes the path of the open folder, with a slash at its end.
 */
function fromClone({ program }: DescribedServer, root: string): Launch {
  return { command: `${root}node_modules/.bin/node`, args: [`${root}packages/${program}/dist/main.js`] };
}

/** The published package. Its version is named, so that what was reviewed is what runs. */
export function fromRegistry({ npmName, version }: DescribedServer): Launch {
  return { command: "npx", args: ["-y", `${npmName}@${version}`] };
}

/** `.mcp.json` of the repository. A variable that is set where Claude Code starts wins over the sample. */
export function claudeCodeProject(): object {
  return {
    mcpServers: byAlias((server) => ({
      type: "stdio",
      // Claude Code sets the variable for the servers that it starts, and not in every version for this file.
      ...fromClone(server, `\${CLAUDE_PROJECT_DIR:-.}/`),
      env: environment(server, ({ name, sample }) => `\${${name}:-${sample ?? ""}}`),
    })),
  };
}

/** `.cursor/mcp.json` of the repository. Cursor has no defaults for variables, so the samples stand in it. */
export function cursorProject(): object {
  return {
    mcpServers: byAlias((server) => ({
      type: "stdio",
      ...fromClone(server, `\${workspaceFolder}/`),
      env: environment(server, ({ sample }) => sample),
    })),
  };
}

/** `.gemini/settings.json` of the repository; Gemini CLI starts servers in the folder it was started in. */
export function geminiProject(): object {
  return {
    mcpServers: byAlias((server) => ({
      ...fromClone(server, ""),
      env: environment(server, ({ sample }) => sample),
    })),
  };
}

/** `.vscode/mcp.json` of the repository. VS Code asks once, offers the samples and keeps secrets out of the file. */
export function vsCodeProject(): object {
  return {
    inputs: servers.flatMap(({ asked }) => asked.map(vsCodeInput)),
    servers: byAlias((server) => ({
      type: "stdio",
      ...fromClone(server, `\${workspaceFolder}/`),
      env: environment(server, ({ name }) => `\${input:${name}}`),
    })),
  };
}

function vsCodeInput({ name, title, description, secret, sample }: AskedSetting): object {
  return {
    type: "promptString",
    id: name,
    description: `${title}: ${description}`,
    ...(sample === undefined ? {} : { default: sample }),
    password: secret,
  };
}

/** The form that most clients read, for any project, with values that the reader has to change. */
export function anyProject(): object {
  return {
    mcpServers: byAlias((server) => ({
      ...fromRegistry(server),
      env: environment(server, ({ example }) => example),
    })),
  };
}

/** The command that adds a server to Claude Code in any project. */
export function claudeCodeCommand(server: DescribedServer): string {
  const variables = Object.entries(environment(server, ({ example }) => example));
  const { command, args } = fromRegistry(server);
  // The option for variables takes all words that follow it, so the name comes first and `--` ends it.
  const options = variables.map(([name, value]) => `-e ${name}=${shellWord(value)}`);
  return ["claude mcp add", server.alias, ...options, "--", command, ...args].join(" ");
}

/** The text as one word for a shell: zsh would take a `?` in an address for a pattern. */
function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The address of a button that installs a server in Cursor. */
export function cursorButton(server: DescribedServer): string {
  const config = { ...fromRegistry(server), env: environment(server, ({ example }) => example) };
  const encoded = Buffer.from(JSON.stringify(config)).toString("base64");
  return `https://cursor.com/install-mcp?name=${server.alias}&config=${encodeURIComponent(encoded)}`;
}

/** The address of a button that installs a server in VS Code, which asks for the values then. */
export function vsCodeButton(server: DescribedServer): string {
  const config = {
    name: server.alias,
    ...fromRegistry(server),
    env: environment(server, ({ name }) => `\${input:${name}}`),
    inputs: server.asked.map(vsCodeInput),
  };
  // Twice: once for the address inside the address.
  const inner = `vscode:mcp/install?${encodeURIComponent(JSON.stringify(config))}`;
  return `https://insiders.vscode.dev/redirect?url=${encodeURIComponent(inner)}`;
}

function byAlias(entry: (server: DescribedServer) => object): Record<string, object> {
  return Object.fromEntries(servers.map((server) => [server.alias, entry(server)]));
}

/** The asked settings for which `value` has one. */
export function environment(
  { asked }: DescribedServer,
  value: (setting: AskedSetting) => string | undefined,
): Record<string, string> {
  return Object.fromEntries(
    asked.flatMap((setting) => {
      const text = value(setting);
      return text === undefined ? [] : [[setting.name, text]];
    }),
  );
}
