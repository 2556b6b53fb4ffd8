/** Every page that a user reads, against the code; what can be run is run by the tests that `page-checks.ts` names. */
import { readFileSync } from "node:fs";
import { bundleSettings } from "@es-to-pg/archestra/dist/settings.js";
import { prompts as esPrompts } from "es-mcp/dist/prompts/index.js";
import { resources as esResources } from "es-mcp/dist/resources.js";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { prompts as pgPrompts } from "pg-mcp/dist/prompts/index.js";
import { resources as pgResources } from "pg-mcp/dist/resources.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { codeBlocks, links, type Page, readPage, readPages, repositoryRoot } from "./markdown.ts";
import {
  checkBlock,
  checkedServers,
  checkLink,
  checkScript,
  inlineCommands,
  scripts,
  services,
  unknownNames,
  unknownPaths,
  unknownVariables,
} from "./page-checks.ts";

const pages = readPages();
const byPath = pages.map((page): [string, Page] => [page.path, page]);

/** What a check says is wrong. */
function problemOf(check: () => void): string | undefined {
  try {
    check();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return undefined;
}

function row(definition: string): string {
  return `| \`${definition}\` |`;
}

describe("the pages that list things list all of them:", () => {
  const toolPage = readPage("docs/tools.md").text;
  const settingPage = readPage("docs/settings.md").text;
  const all: [string, string, readonly string[]][] = [
    ["tools", toolPage, [...esTools, ...pgTools].map(({ name }) => name)],
    ["prompts", toolPage, [...esPrompts, ...pgPrompts].map(({ name }) => name)],
    ["resources", toolPage, [...esResources, ...pgResources].map(({ uriTemplate }) => uriTemplate)],
    ["settings of es-mcp", settingPage, Object.keys(checkedServers["es-mcp"].settings)],
    ["settings of pg-mcp", settingPage, Object.keys(checkedServers["pg-mcp"].settings)],
    ["settings of the bundle", readPage("archestra/README.md").text, Object.keys(bundleSettings)],
  ];

  it.each(all)("%s", (_what, text, names) => {
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !text.includes(row(name)))).toEqual([]);
  });

  it("scripts of package.json that a person starts", () => {
    const text = pages.map((page) => page.text).join("\n");
    // Parts of other scripts.
    const inside = ["setup", "compile", "check:licences", "archestra"];
    const missing = Object.keys(scripts).filter((name) => {
      const mention = name === "test" ? "npm test" : `(?:npm run |\`)${name}(?![\\w:-])`;
      return !inside.includes(name) && !new RegExp(mention).test(text);
    });
    expect(missing).toEqual([]);
  });
});

describe("a count in a sentence is that of the data:", () => {
  const attacks = dataLines("attacks");
  const classes = new Set(attacks.map((line) => z.looseObject({ class: z.string() }).parse(JSON.parse(line)).class));
  const claims: [string, string][] = [
    ["SECURITY.md", `${attacks.length} attacks in ${classes.size} classes`],
    ["SECURITY.md", `${dataLines("denials").length} costly statements`],
    ["SECURITY.md", `${dataLines("legitimate").length} statements, none refused`],
    ["docs/operations.md", `Memory limits add up to ${memoryLimitGib()} GiB`],
  ];

  it.each(claims)("%s: %s", (path, claim) => {
    expect(readPage(path).text).toContain(claim);
  });
});

/** Statements that the judge is tested with. */
function dataLines(name: string): string[] {
  return readFileSync(`${repositoryRoot}packages/pg-mcp/test/data/${name}.jsonl`, "utf8").trim().split("\n");
}

/** What all services of the compose file may take together that start where no profile is asked for. */
function memoryLimitGib(): number {
  const started = Object.values(services).filter(({ profiles }) => profiles.includes(""));
  const sizes = started.map(({ mem_limit: limit }) =>
    limit.endsWith("g") ? Number.parseInt(limit, 10) : Number.parseInt(limit, 10) / 1024,
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

describe("a page's names are those of the code:", () => {
  it.each(byPath)("variables of %s", (_path, page) => {
    expect(unknownVariables(page)).toEqual([]);
  });

  it.each(byPath)("words in backticks of %s", (_path, page) => {
    expect(unknownNames(page)).toEqual([]);
  });

  it.each(byPath)("paths and tests of %s", (_path, page) => {
    expect(unknownPaths(page)).toEqual([]);
  });
});

describe("a link leads somewhere:", () => {
  const found = pages.flatMap((page) =>
    [...new Set(links(page))].map((link): [string, string, string, Page] => [page.path, link.slice(0, 80), link, page]),
  );

  it.each(found)("%s, %s", (_path, _shown, link, page) => {
    expect(problemOf(() => checkLink(link, page))).toBeUndefined();
  });
});

/** Asking a program for its options starts it, which takes long on a busy machine. */
const timeout = 60_000;

describe("a command in a sentence is one that there is:", { timeout }, () => {
  const found = pages.flatMap((page) => inlineCommands(page).map((command): [string, string] => [page.path, command]));

  it.each(found)("%s, %s", (_path, command) => {
    expect(problemOf(() => checkScript(command))).toBeUndefined();
  });
});

describe("a block of code is known and right (Docker's by its files alone):", { timeout }, () => {
  const found = pages.flatMap((page) =>
    codeBlocks(page).map((block): [string, string, typeof block, Page] => [block.place, block.language, block, page]),
  );

  it.each(found)("%s (%s)", (_place, _language, block, page) => {
    expect(problemOf(() => checkBlock(block, page))).toBeUndefined();
  });

  it.each([
    ["python", "print()", "nothing here knows how to check a block"],
    ["indented", "npm run demo", "nothing here knows how to check a block"],
    ["", "npm run demo", "a block without a language is a picture"],
    ["sh", "npm run demos", "package.json has no script demos"],
    ["sh", "npm run demo -- --dirt", "there is no option of demo --dirt"],
    ["sh", "rm -r /", "nothing here knows how to check the program rm"],
    ["sh", "ES_URL=x npm run seed", "nothing reads ES_URL"],
    ["sh", "docker compose --profile data up", "there is no profile data"],
    ["sh", "docker build --target es -t es:latest .", "there is no stage of the Dockerfile es"],
    ["sh", "claude mcp add es -e DATABASE_URL=x -- npx -y @es-to-pg/es-mcp@0.1.0", "there is no setting DATABASE_URL"],
    ["sh", "node packages/es-mcp/dist/main.js --print-roles", "there is no option --print-roles"],
    ["sh", "curl http://127.0.0.1:8080/metrics", "no test makes this call"],
    ["json", '{"name":"bulk_load","arguments":{}}', "there is no tool bulk_load"],
    ["json", '{"name":"count_rows","arguments":{"tabel":"t"}}', "tabel"],
    ["json", '{"columns":[{"column":"a","on_eror":"null"}]}', "on_eror"],
    ["text", "expected = staged = inserted", "the law names other figures"],
  ])("and a wrong one is told: %s, %s", (language, text, problem) => {
    const page = readPage("README.md");
    expect(problemOf(() => checkBlock({ language, text, place: "" }, page))).toContain(problem);
  });
});
