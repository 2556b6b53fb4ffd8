import { ToolError } from "@es-to-pg/mcp-kit";

/** `xpath`, `xpath_exists` and what XMLEXISTS stands for, each with the path as its first argument. */
export const pathFunctions: ReadonlyMap<number, string> = new Map([
  [2614, "xmlexists"],
  [2931, "xpath"],
  [2932, "xpath"],
  [3049, "xpath_exists"],
  [3050, "xpath_exists"],
]);

const charactersMax = 500;

const name = String.raw`[\p{L}_][\p{L}\p{N}_.-]*`;
const node = String.raw`(?:@?(?:${name}:)?(?:${name}|\*)|text\(\)|node\(\)|\.)`;
const literal = String.raw`(?:'[^']*'|"[^"]*"|-?\d+(?:\.\d+)?)`;
const reached = `${node}(?:/${node})*`;
const value = String.raw`(?:(?:normalize-space|string|number|count|string-length)\(\s*${reached}\s*\)|(?:local-)?name\(\)|position\(\)|${reached})`;
const comparison = String.raw`${value}(?:\s*(?:!?=|[<>]=?)\s*(?:${literal}|last\(\)))?`;
const search = String.raw`(?:contains|starts-with)\(\s*${value}\s*,\s*${literal}\s*\)`;
const term = String.raw`(?:last\(\)|\d+|not\(\s*(?:${search}|${comparison})\s*\)|${search}|${comparison})`;
const predicate = String.raw`\[\s*${term}(?:\s+(?:and|or)\s+${term})*\s*\]`;
const step = `${node}(?:${predicate})*`;
const steps = `${step}(?:/${step})*`;
const plainPath = new RegExp(`^\\s*(?:/|/?${steps}(?://${steps})?|//${steps})\\s*$`, "u");
const relativePath = new RegExp(String.raw`^\s*(?:\.\./)*${steps}\s*$`, "u");
const computed = /^\s*(?:string|number|boolean|count|sum|normalize-space)\(([^]*)\)\s*$/;

/**
 * Refuses a path that is more than a walk down the document: libxml takes time quadratic and cubic in the document for
 * the rest, and while it does the server hears neither a time limit nor a cancel request nor the end of its connection.
 */
export function checkPath(path: string | undefined, { perRow = false } = {}): void {
  if (path !== undefined && path.length <= charactersMax) {
    const inner = computed.exec(path)?.[1] ?? path;
    if ((perRow ? relativePath : plainPath).test(inner)) return;
  }
  throw new ToolError(
    "sql_refused",
    path === undefined
      ? "This server does not run XPath that is computed."
      : "This server does not run XPath of this form: the database could not be made to stop it.",
    {
      next: "Write the path as a literal: steps by name with at most one //, no axes and no .., and conditions that compare with literals: //a/b[@id='1']/text(). A column of XMLTABLE takes a path from its row.",
      ...(path === undefined ? {} : { details: { path: path.slice(0, charactersMax) } }),
    },
  );
}
