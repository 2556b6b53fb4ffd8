/** One node of a query tree as PostgreSQL prints it (`pg_proc.prosqlbody`, `pg_rewrite.ev_action`). */
export interface TreeNode {
  /** The node's kind in capitals: `FUNCEXPR`. */
  kind: string;
  /**
   * Fields in printed order. A name chosen by the author of the SQL can look like a field (an alias `:relid`), so a
   * field is never looked up as the only one of its name: the false one shows beside the true one, and has no value.
   */
  fields: TreeField[];
}

interface TreeField {
  name: string;
  values: TreeValue[];
}

export type TreeValue = string | TreeNode | TreeValue[];

/**
 * Parses a printed tree. Blanks, brackets and backslashes inside names come escaped and stay so here, which keeps a
 * name one token that no bracket equals. Nothing recurses: an expression can be nested deeper than a stack.
 */
export function parseTree(text: string): TreeValue[] {
  const root: TreeValue[] = [];
  const open: { closes: "}" | ")"; node?: TreeNode; into: TreeValue[] }[] = [];
  let into = root;
  let expectsKind = false;
  for (let start = nextToken(text, 0), end = 0; start < text.length; start = nextToken(text, end)) {
    end = endOfToken(text, start);
    const token = text.slice(start, end);
    const top = open.at(-1);
    if (expectsKind && top?.node !== undefined) {
      top.node.kind = token;
      expectsKind = false;
    } else if (token === "{") {
      const node: TreeNode = { kind: "", fields: [] };
      into.push(node);
      open.push({ closes: "}", node, into });
      // Until the first field there is nowhere to put a value; none is printed there.
      into = [];
      expectsKind = true;
    } else if (token === "(") {
      const list: TreeValue[] = [];
      into.push(list);
      open.push({ closes: ")", into });
      into = list;
    } else if (token === "}" || token === ")") {
      if (top?.closes !== token) throw new Error("a query tree is not balanced");
      open.pop();
      into = top.into;
    } else if (token.startsWith(":") && top?.node !== undefined) {
      const field: TreeField = { name: token.slice(1), values: [] };
      top.node.fields.push(field);
      into = field.values;
    } else {
      into.push(token);
    }
  }
  if (open.length > 0) throw new Error("a query tree is not balanced");
  return root;
}

const BLANK = 1;
const BRACKET = 2;
const BACKSLASH = 0x5c;

/** What parts the tokens of a printed tree (`pg_strtok` of the server), by character code. */
const DELIMITERS = new Uint8Array(128);
for (const blank of " \n\t") DELIMITERS[blank.charCodeAt(0)] = BLANK;
for (const bracket of "(){}") DELIMITERS[bracket.charCodeAt(0)] = BRACKET;

function nextToken(text: string, from: number): number {
  let at = from;
  while (at < text.length && DELIMITERS[text.charCodeAt(at)] === BLANK) at++;
  return at;
}

function endOfToken(text: string, start: number): number {
  if (DELIMITERS[text.charCodeAt(start)] === BRACKET) return start + 1;
  let at = start;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code < DELIMITERS.length && DELIMITERS[code] !== 0) break;
  }
  return Math.min(at, text.length);
}

/** All nodes of a tree, parents before children. */
export function* nodesOf(values: readonly TreeValue[]): Generator<TreeNode> {
  const waiting: TreeValue[] = values.toReversed();
  for (let value = waiting.pop(); value !== undefined; value = waiting.pop()) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) {
      for (let index = value.length - 1; index >= 0; index--) waiting.push(value[index] ?? []);
      continue;
    }
    yield value;
    for (let index = value.fields.length - 1; index >= 0; index--) waiting.push(value.fields[index]?.values ?? []);
  }
}

/** The topmost parts of expressions that depend on no column: a planner may compute them, whatever the rows. */
export function constantParts(values: readonly TreeNode[]): TreeNode[] {
  const parts: TreeNode[] = [];
  const waiting: TreeValue[] = values.toReversed();
  for (let value = waiting.pop(); value !== undefined; value = waiting.pop()) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) waiting.push(...value);
    else if (dependsOnColumns(value)) for (const field of value.fields) waiting.push(field.values);
    else parts.push(value);
  }
  return parts;
}

function dependsOnColumns(node: TreeNode): boolean {
  for (const { kind } of nodesOf([node])) if (kind === "VAR") return true;
  return false;
}

/** The values of every field of that name, as one list. */
export function valuesOf(node: TreeNode, name: string): TreeValue[] {
  return node.fields.filter((field) => field.name === name).flatMap((field) => field.values);
}

/** The numbers of a field, lists of them included: `:funcid 42`, `:opnos (o 96 97)`. */
export function numbersOf(node: TreeNode, name: string): number[] {
  return numbersIn(valuesOf(node, name));
}

/** The numbers among values and the lists in them. */
export function numbersIn(values: readonly TreeValue[]): number[] {
  const numbers: number[] = [];
  for (const value of values) {
    if (Array.isArray(value)) {
      for (const inner of value) if (typeof inner === "string" && /^\d+$/.test(inner)) numbers.push(Number(inner));
    } else if (typeof value === "string" && /^\d+$/.test(value)) numbers.push(Number(value));
  }
  return numbers;
}

/** The text of a constant of type text, undefined for any other node. */
export function textConstant(value: TreeValue | undefined): string | undefined {
  if (value === undefined || typeof value === "string" || Array.isArray(value) || value.kind !== "CONST")
    return undefined;
  // Printed as a length and the bytes of the datum in brackets, the first four of which are its own length.
  const printed = valuesOf(value, "constvalue");
  if (numbersOf(value, "consttype")[0] !== 25 || printed[1] !== "[") return undefined;
  const bytes = printed.slice(2, -1).map(Number);
  return Buffer.from(bytes.slice(4)).toString("utf8");
}
