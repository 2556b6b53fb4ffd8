import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import GithubSlugger from "github-slugger";
import { lexer, type Token, type Tokens, walkTokens } from "marked";

/** The folder that all pages lie in. */
export const repositoryRoot = fileURLToPath(new URL("../../../", import.meta.url));

/** One page of the documentation, as GitHub's own flavour of Markdown is read. */
export interface Page {
  /** Path from the root of the repository. */
  path: string;
  text: string;
  /** Blocks in order: headings, paragraphs, code, tables. */
  blocks: Token[];
}

/** The pages that a user of the project reads. */
export function readPages(): Page[] {
  const inDocs = readdirSync(`${repositoryRoot}docs`).filter((name) => name.endsWith(".md"));
  const paths = [
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "agent-prompt.md",
    "archestra/README.md",
    "archestra/kubernetes/README.md",
    ...inDocs.toSorted().map((name) => `docs/${name}`),
    ...["attachments", "mcp-kit", "staging"].map((name) => `packages/${name}/README.md`),
  ];
  return paths.map(readPage);
}

/** One page by its path from the root of the repository. */
export function readPage(path: string): Page {
  const text = readFileSync(`${repositoryRoot}${path}`, "utf8");
  return { path, text, blocks: lexer(text) };
}

/** A block of code and where it stands, for messages. */
export interface CodeBlock {
  language: string;
  text: string;
  /** Page and line. */
  place: string;
}

export const isCode = (token: Token): token is Tokens.Code => token.type === "code";
export const isHeading = (token: Token): token is Tokens.Heading => token.type === "heading";
export const isTable = (token: Token): token is Tokens.Table => token.type === "table";
const isCodespan = (token: Token): token is Tokens.Codespan => token.type === "codespan";
const isLink = (token: Token): token is Tokens.Link | Tokens.Image => token.type === "link" || token.type === "image";

/** Every block of code of a page: fenced by its language, indented as "indented". */
export function codeBlocks(page: Page): CodeBlock[] {
  return tokensOf(page)
    .filter(isCode)
    .map(({ lang, codeBlockStyle, text, raw }) => ({
      language: codeBlockStyle === "indented" ? "indented" : (lang ?? ""),
      text,
      place: `${page.path}:${lineOf(page, raw)}`,
    }));
}

/** Everything that stands in backticks in the text of a page. */
export function inlineCode(page: Page): string[] {
  return tokensOf(page)
    .filter(isCodespan)
    .map(({ text }) => text);
}

/** The targets of a page's links and pictures. */
export function links(page: Page): string[] {
  return tokensOf(page)
    .filter(isLink)
    .map(({ href }) => href);
}

/** What GitHub lets an address point at in a page, behind its `#`. */
export function anchors(page: Page): Set<string> {
  const slugger = new GithubSlugger();
  const headings = tokensOf(page).filter(isHeading);
  return new Set(headings.map(({ text }) => slugger.slug(text.replaceAll(/[`*]/g, ""))));
}

/** All tokens of a page, those inside of others too. */
function tokensOf(page: Page): Token[] {
  const all: Token[] = [];
  void walkTokens(page.blocks, (token) => void all.push(token));
  return all;
}

function lineOf({ text }: Page, raw: string): number {
  return text.slice(0, Math.max(0, text.indexOf(raw))).split("\n").length;
}

/** The rows of a table, as they read without marks; the first is the head. */
export function tableRows({ header, rows }: Tokens.Table): string[][] {
  return [header, ...rows].map((cells) => cells.map(({ text }) => text.replaceAll(/^`|`$/g, "")));
}
