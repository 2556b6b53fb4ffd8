/**
 * What a page says, held against the code: blocks of code, commands, links, names. Each check throws an error that says
 * what is wrong. A block, or a program, of a kind that is not known here is wrong, too.
 */
import { execFileSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { bundleSettings } from "@es-to-pg/archestra/dist/settings.js";
import { kitSettings, readSettings, type SettingsDefinition, stagingSettings } from "@es-to-pg/mcp-kit";
import { server as esServer } from "es-mcp/dist/server.js";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { changeMapping, parseMappingReference } from "pg-mcp/dist/mapping/mapping.js";
import { server as pgServer } from "pg-mcp/dist/server.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { parse } from "yaml";
import { z } from "zod";
import { figureNames } from "./course.ts";
import { anchors, type CodeBlock, codeBlocks, inlineCode, type Page, readPage, repositoryRoot } from "./markdown.ts";
import { metricsTable } from "./metrics.ts";
import { repositoryFiles, wordsOfCode } from "./repository.ts";
import { type ShellCommand, shellCommands } from "./shell-words.ts";

interface CheckedServer {
  settings: SettingsDefinition;
  options: string[];
}

/** Both servers, as their command lines and environments are checked. */
export const checkedServers: Record<"es-mcp" | "pg-mcp", CheckedServer> = {
  "es-mcp": checkedServer(esServer),
  "pg-mcp": checkedServer(pgServer),
};

function checkedServer({ settings, prints = {} }: { settings: SettingsDefinition; prints?: object }): CheckedServer {
  return {
    settings: { ...settings, ...stagingSettings, ...kitSettings },
    options: ["--http", "--help", "--version", ...Object.keys(prints).map((name) => `--${name}`)],
  };
}

const packageSchema = z.looseObject({ scripts: z.record(z.string(), z.string()) });
/** Scripts of package.json by name. */
export const { scripts } = packageSchema.parse(JSON.parse(readRoot("package.json")));

const composeSchema = z.looseObject({
  services: z.record(z.string(), z.looseObject({ profiles: z.array(z.string()).default([]), mem_limit: z.string() })),
});
/** Services of the compose file by name. */
export const { services } = composeSchema.parse(parse(readRoot("docker-compose.yml"), { merge: true }));
const profiles = Object.values(services).flatMap((service) => service.profiles);
const stages = [...readRoot("Dockerfile").matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) => name ?? "");

const files = repositoryFiles();
const codeWords = wordsOfCode();
const settingNames = [...Object.values(checkedServers).map(({ settings }) => settings), bundleSettings].flatMap(
  (definition: SettingsDefinition) =>
    Object.entries(definition).flatMap(([name, { secret }]) => (secret === true ? [name, `${name}_FILE`] : [name])),
);

function readRoot(path: string): string {
  return readFileSync(`${repositoryRoot}${path}`, "utf8");
}

function must(holds: boolean, problem: string): void {
  if (!holds) throw new Error(problem);
}

function mustKnow(names: readonly string[], known: Iterable<string>, what: string): void {
  const all = new Set(known);
  const unknown = names.filter((name) => !all.has(name));
  must(unknown.length === 0, `there is no ${what} ${unknown.join(", ")}`);
}

/** A file or folder of the repository, a heading where it names one, or a well-formed address elsewhere. */
export function checkLink(link: string, page: Page): void {
  if (/^https?:/.test(link)) return must(URL.canParse(link), "no address");
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page.path : normalize(join(dirname(page.path), path));
  must(existsSync(`${repositoryRoot}${target}`), `there is no ${target}`);
  if (anchor !== undefined) mustKnow([anchor], anchors(readPage(target)), `heading in ${target} for`);
}

/** Read by the Archestra platform, and by nothing here. */
const PLATFORM_NAMES = [
  "ARCHESTRA_ORCHESTRATOR_LOAD_KUBECONFIG_FROM_CURRENT_CLUSTER",
  "ARCHESTRA_MCP_GATEWAY_TOOL_CALL_TIMEOUT_MS",
];

/** A setting, one of a pod, the beginning of some (`PG_MCP_SCHEMAS_*`), or another name that sources read. */
function isVariable(name: string): boolean {
  const plain = name.replace(/_?\*$/, "");
  if (settingNames.includes(plain) || codeWords.has(plain) || PLATFORM_NAMES.includes(plain)) return true;
  if (settingNames.some((known) => known.startsWith(`${plain}_`))) return true;
  return plain.startsWith("POD_") && isVariable(plain.slice("POD_".length));
}

/** Names of variables anywhere on a page that nothing reads. */
export function unknownVariables(page: Page): string[] {
  const withoutAddresses = page.text.replaceAll(/\]\([^)]*\)/g, "");
  const named = withoutAddresses.match(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?:_\*|\*)?/g) ?? [];
  return [...new Set(named)].filter((name) => !isVariable(name));
}

/** Metrics and their labels: in code they have dots where Prometheus has underscores. */
const metricWords = new Set(metricsTable().match(/\w+/g));

/** Words with underscores in backticks (tools, arguments, codes, tables) that neither the code nor the page's examples have. */
export function unknownNames(page: Page): string[] {
  const names = inlineCode(page).filter((text) => /^[a-z]+(?:_[a-z]+)+$/.test(text));
  const own = new Set(codeBlocks(page).flatMap(({ text }) => text.match(/\w+/g) ?? []));
  return [...new Set(names)].filter((name) => !codeWords.has(name) && !own.has(name) && !metricWords.has(name));
}

/** Paths and tests in backticks that are not there. */
export function unknownPaths(page: Page): string[] {
  const isPath = /^(?:packages|docs|archestra|seed|src|test|pg-mcp|es-mcp|\.\w+)(?:\/[\w.*-]+)+\/?$/;
  const isTest = /^[\w-]+(?:\.[\w-]+)*\.test\.ts$/;
  return inlineCode(page).filter((text) => {
    if (isTest.test(text)) return !files.some((path) => path.endsWith(`/${text}`));
    return isPath.test(text) && !pathExists(text, page);
  });
}

/** From the page's folder, the root, or `packages` where a table leaves that out. What is made by a run is known by its maker. */
function pathExists(path: string, page: Page): boolean {
  if (path.startsWith("packages/attachments/out/") || path === "archestra/.state.json") return true;
  return [dirname(page.path), ".", "packages"].some(
    (folder) => globSync(join(repositoryRoot, folder, path)).length > 0,
  );
}

/** Commands in backticks that can be checked as those in blocks are. */
export function inlineCommands(page: Page): string[] {
  const isCommand = /^(?:npm run (?!…)|npm test|npx vitest|docker compose |docker build )/;
  return [...new Set(inlineCode(page))].filter((text) => isCommand.test(text));
}

/** A block of code, by its language. */
export function checkBlock({ language, text }: CodeBlock, page: Page): void {
  const check = languages[language];
  if (check === undefined) throw new Error(`nothing here knows how to check a block of ${JSON.stringify(language)}`);
  check(text, page);
}

const languages: Record<string, (text: string, page: Page) => void> = {
  sh: checkScript,
  json: (text, page) => checkJson(JSON.parse(text), page),
  ndjson(text) {
    for (const line of text.split("\n")) JSON.parse(line);
  },
  // Run on PostgreSQL: those of docs/mapping.md by mapping-examples.integration.test.ts, all others by
  // documentation.integration.test.ts.
  sql: (text) => must(/^(?:SELECT|CREATE TABLE) /.test(text), "a statement is SELECT or CREATE TABLE"),
  text(text) {
    const [expected, staged, ...fates] = figureNames;
    must(text.trim() === `${expected} = ${staged} = ${fates.join(" + ")}`, "the law names other figures");
  },
  // A picture, or the format of staging: nothing that one could run.
  "": (text) => must(/[─▶]|^<root>\/|^\{"_index"/.test(text), "a block without a language is a picture"),
};

const changesSchema = z
  .looseObject({})
  .refine((value) =>
    Object.keys(value).every((name) => ["columns", "remove", "key", "version_from", "children"].includes(name)),
  );
const callSchema = z.strictObject({ name: z.string(), arguments: z.record(z.string(), z.unknown()) });
const clientsSchema = z.strictObject({
  mcpServers: z.record(z.string(), z.looseObject({ env: z.record(z.string(), z.string()) })),
});
const indexSchema = z.strictObject({ mappings: z.looseObject({ properties: z.looseObject({}) }) });

/** An attachment, calls of tools, an index, or changes of a mapping. */
function checkJson(value: unknown, { path }: Page): void {
  const clients = clientsSchema.safeParse(value);
  const calls = z.union([callSchema, z.array(callSchema)]).safeParse(value);
  if (clients.success) {
    // That the entries are those that are printed is seen to by `npm run check`.
    for (const [alias, { env }] of Object.entries(clients.data.mcpServers)) checkEnvironment(alias, env);
  } else if (calls.success) {
    for (const call of [calls.data].flat()) checkCall(call);
  } else if (path !== "docs/mapping.md" || !indexSchema.safeParse(value).success) {
    const reference = parseMappingReference({ id: `map_${"0".repeat(26)}`, changes: changesSchema.parse(value) });
    // What is removed is the proposal's, which only the run of an example has.
    const { remove: _, ...changes } = reference.kind === "stored" ? (reference.changes ?? {}) : {};
    changeMapping({ columns: [{ column: "anything" }] }, changes);
  }
}

/** A tool takes the arguments. The calls are made, too: by the tests that run a page's SQL. */
function checkCall({ name, arguments: args }: z.infer<typeof callSchema>): void {
  const tool = [...esTools, ...pgTools].find((candidate) => candidate.name === name);
  if (tool === undefined) throw new Error(`there is no tool ${name}`);
  const withHandles = JSON.stringify(args).replaceAll(/(exp|map|load)_…/g, `$1_${"0".repeat(26)}`);
  tool.input.parse(JSON.parse(withHandles));
}

/** Variables of one server, which it could start with. */
function checkEnvironment(alias: string, env: Record<string, string>): void {
  const { settings } = checkedServers[programOf(alias)];
  mustKnow(Object.keys(env), Object.keys(settings), "setting");
  readSettings(settings, env);
}

function programOf(alias: string): "es-mcp" | "pg-mcp" {
  must(alias === "es" || alias === "pg", `there is no server ${alias}`);
  return alias === "es" ? "es-mcp" : "pg-mcp";
}

/** Every command of a script. */
export function checkScript(script: string): void {
  for (const command of shellCommands(script)) checkCommand(command);
}

function checkCommand({ env, words: [program = "", ...args], substitutions }: ShellCommand): void {
  for (const inner of substitutions) checkScript(inner);
  checkVariables(Object.keys(env));
  const check = programs[program];
  if (check === undefined) throw new Error(`nothing here knows how to check the program ${program}`);
  check(args);
}

function checkVariables(names: readonly string[]): void {
  const unknown = names.filter((name) => !isVariable(name));
  must(unknown.length === 0, `nothing reads ${unknown.join(", ")}`);
}

/** By program, what its arguments are held against. */
const programs: Record<string, (args: string[]) => void> = {
  npm: checkNpm,
  npx: checkVitest,
  node: checkServer,
  "node_modules/.bin/node": checkServer,
  claude: checkClaude,
  docker: checkDocker,
  kubectl: checkKubectl,
  // PostgreSQL's own programs are not among the engines' packages: only what they are told is looked at.
  pg_dump: checkDump,
  pg_restore: checkDump,
  // The calls run: those of docs/clients.md in documentation.integration.test.ts, that of archestra/README.md in
  // archestra/test/readme.test.ts, but for the platform's own description, which the stand-in has not.
  curl(args) {
    const known =
      /^http:\/\/(?:127\.0\.0\.1:808[01]\/(?:mcp|healthz|readyz)|localhost:9000\/(?:v2\/a2a\/|openapi\.json))/;
    must(
      args.some((word) => known.test(word)),
      "no test makes this call",
    );
  },
  export: (args) => checkVariables(args.map((word) => word.slice(0, word.indexOf("=")))),
};

/** The script is there, and the program behind it says in its `--help` that it takes the options. */
function checkNpm(args: string[]): void {
  const rest = args[0] === "run" ? args.slice(1) : args;
  const name = rest.find((word) => !word.startsWith("-")) ?? "";
  const script = scripts[name];
  if (script === undefined) throw new Error(`package.json has no script ${name}`);
  const own = rest.includes("--") ? rest.slice(rest.indexOf("--") + 1) : [];
  const options = own.filter((word) => word.startsWith("--"));
  if (options.length === 0) return;
  mustKnow(options, helpOf(script).match(/--[\w-]+/g) ?? [], `option of ${name}`);
}

const helps = new Map<string, string>();

/** What the built program behind a script of package.json answers to `--help`. */
function helpOf(script: string): string {
  const last = script.split("&&").at(-1)?.trim() ?? "";
  const nested = /^npm run --silent ([\w:]+)/.exec(last)?.[1];
  if (nested !== undefined) return helpOf(scripts[nested] ?? "");
  const file = /^(?:tsx|node) (\S+)/.exec(last)?.[1]?.replace("/src/", "/dist/").replace(/\.ts$/, ".js");
  if (file === undefined) throw new Error(`no program is known behind ${script}`);
  let help = helps.get(file);
  if (help === undefined) {
    help = execFileSync(process.execPath, [file, "--help"], { cwd: repositoryRoot, encoding: "utf8" });
    helps.set(file, help);
  }
  return help;
}

/** A project of the configuration, and files that are there. */
function checkVitest([name = "", run = "", ...args]: string[]): void {
  must(name === "vitest" && run === "run", "npx starts vitest alone, once");
  const project = args[args.indexOf("--project") + 1];
  must(readRoot("vitest.config.ts").includes(`name: "${project}"`), `there is no project ${project}`);
  mustKnow(
    args.filter((word) => word.includes("/")),
    files,
    "file",
  );
}

/** A built server with options that it has; they run in documentation.integration.test.ts. */
function checkServer([file = "", ...options]: string[]): void {
  must(existsSync(`${repositoryRoot}${file}`), `there is no ${file}`);
  // These take no options here; packages/e2e/test/examples.integration.test.ts runs them.
  if (file.startsWith("packages/examples/dist/")) return mustKnow(options, [], "option");
  const alias = /^packages\/(\w+)-mcp\/dist\/main\.js$/.exec(file)?.[1] ?? "";
  mustKnow(options, checkedServers[programOf(alias)].options, "option");
}

/** `claude mcp add`: a server's own variables, and a command that starts this server or an address that it serves. */
function checkClaude(args: string[]): void {
  must(args[0] === "mcp" && args[1] === "add", "claude adds servers");
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const [own, command] = [args.slice(2, end), args.slice(end + 1)];
  const alias = own.find((word) => word === "es" || word === "pg") ?? "";
  const variables = [...own, ...command].filter((_, at, all) => all[at - 1] === "-e");
  checkEnvironment(alias, Object.fromEntries(variables.map((word) => word.split(/=(.*)/s).slice(0, 2))));
  const started = command.join(" ");
  if (command[0] === "docker") checkDockerRun(command.slice(2), programOf(alias));
  else if (command[0] === "npx") {
    must(started === `npx -y @es-to-pg/${programOf(alias)}@${pgServer.version}`, `no package is started by ${started}`);
  } else must(own.join(" ").startsWith("--transport http "), "neither a command nor an address");
}

/** Of the state schema by its default name, and to or from the database of the settings. */
function checkDump(args: string[]): void {
  must(!args.includes("--schema") || args.includes("data_transformer"), "no schema of the servers");
  must(args.includes("$DATABASE_URL"), "no database");
}

/** Folders that `npm run test:kubernetes` builds. */
function checkKubectl([what = "", option = "", folder = "", ...rest]: string[]): void {
  must(what === "apply" && option === "-k" && rest.length === 0, "nothing here knows this");
  must(existsSync(`${repositoryRoot}${folder}/kustomization.yaml`), `there is no kustomization in ${folder}`);
}

/** What needs Docker, held against the Dockerfile and the compose file; `npm run test:docker` runs them. */
function checkDocker([what = "", ...args]: string[]): void {
  if (what === "compose") return checkCompose(args);
  must(what === "build", `nothing here knows docker ${what}`);
  const target = args[args.indexOf("--target") + 1] ?? "";
  mustKnow([target], stages, "stage of the Dockerfile");
  must(args.join(" ").endsWith(`-t ${target}:latest .`), "the image has its stage's name");
}

function checkDockerRun(args: string[], image: string): void {
  const started = args.join(" ");
  const shared = "-i --rm --network es-to-pg_default -v es-to-pg_staging:/staging -e ";
  must(started.startsWith(shared), "it runs on the compose file's network and volume");
  must(args.at(-1) === image, `it runs the image ${image}`);
}

const COMPOSE_WORDS = ["up", "build", "logs", "--build", "--detach"];

function checkCompose(args: readonly string[]): void {
  const words = [...args];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--profile") mustKnow([words.shift() ?? ""], profiles, "profile");
    else if (word === "exec") {
      // What follows runs inside of the container.
      return mustKnow([words.shift() ?? ""], Object.keys(services), "service");
    } else mustKnow([word], [...COMPOSE_WORDS, ...Object.keys(services)], "service or option");
  }
}
