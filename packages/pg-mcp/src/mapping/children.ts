import { isUtf8 } from "node:buffer";
import { ToolError } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type MappingField, proposeColumnName, proposeType } from "@es-to-pg/staging";
import { quoteIdentifier, quoteTable, requireTable, type Table } from "../postgres/index.ts";
import type { ColumnDraft } from "./ddl.ts";
import { combine, createEncoder, type EncodedReject, headText, type Remark } from "./encode.ts";
import { Fields } from "./fields.ts";
import { JsonError, type JsonValue } from "./json-value.ts";
import { emptyHead, readHead } from "./line-head.ts";
import type { Mapping, MappingChild, MappingColumn } from "./mapping.ts";
import { type LoadPlan, stageColumns } from "./plan.ts";
import { Refusal } from "./refusal.ts";
import type { ResolveOptions } from "./resolve.ts";
import { Scanner } from "./scan.ts";
import { valueTypes } from "./types.ts";

/**
 * A table that takes the objects of one path, a row each, by the parent's key and the object's ordinal from 1 on. The
 * document and its objects are one: what keeps an object out keeps the document out.
 */
export interface ChildPlan {
  /** Path of the objects in the document. */
  from: string;
  /** Plan of one object as if it were a document; it has no key of its own. */
  plan: LoadPlan;
  /** Columns that take the parent's key, in the order of the parent's plan, with their types. */
  parentKey: { column: string; type: string }[];
  ordinal: { column: string; type: string };
}

type Resolve = (options: ResolveOptions) => Promise<LoadPlan>;

/** Checks the child tables of a mapping against the catalog and the export, like the parent's own columns. */
export async function resolveChildren(
  parent: Omit<LoadPlan, "children">,
  options: ResolveOptions,
  resolve: Resolve,
): Promise<ChildPlan[]> {
  const children = parent.mapping.children ?? [];
  if (children.length === 0) return [];
  if (parent.key.length === 0) {
    throw new ToolError("children_need_key", "Child rows are found by their parent's key, and the load has none.", {
      next: "Map the primary key's columns, or pass key.",
    });
  }
  const plans: ChildPlan[] = [];
  const taken = new Set([parent.table.oid]);
  for (const child of children) {
    const plan = await naming(child, () => resolveChild(child, parent, options, resolve));
    const { oid } = plan.plan.table;
    if (taken.has(oid)) throw invalid(child, "each child needs a table of its own");
    taken.add(oid);
    plans.push(plan);
  }
  return plans;
}

async function resolveChild(
  child: MappingChild,
  parent: Omit<LoadPlan, "children">,
  options: ResolveOptions,
  resolve: Resolve,
): Promise<ChildPlan> {
  const { tx, policy } = options;
  if (policy === undefined) throw new Error("child tables are resolved under a table policy");
  checkSource(child, options);
  const table = await requireTable(tx, placeOf(child, parent.table), policy);
  const own = [...child.parent_key, child.ordinal];
  if (child.parent_key.length !== parent.key.length) {
    throw invalid(child, `parent_key needs a column for each of ${parent.key.join(", ")}`);
  }
  if (new Set(own).size !== own.length) throw invalid(child, "parent_key and ordinal name a column twice");
  const clash = child.columns.find(({ column }) => own.includes(column));
  if (clash !== undefined) throw invalid(child, `${clash.column} is filled by parent_key and ordinal`);
  if (child.columns.some(({ from }) => from === "_seq_no")) throw invalid(child, "an object has no _seq_no");
  if (child.columns.some(({ on_missing }) => on_missing === "keep")) {
    throw invalid(child, "on_missing:keep has no meaning for rows that are replaced");
  }
  checkUnique(child, table, own);

  const typeOf = await valueTypes(
    tx,
    [...table.columns, ...parent.table.columns].map(({ type }) => type),
  );
  const columnOf = (name: string, of: Table) => {
    const found = of.columns.find((column) => column.name === name);
    if (found === undefined) throw invalid(child, `table ${of.table} has no column ${JSON.stringify(name)}`);
    return found;
  };
  const parentKey = child.parent_key.map((name, index) => {
    const column = columnOf(name, table);
    const source = columnOf(parent.key[index] ?? "", parent.table);
    if (typeOf(column.type).kind !== typeOf(source.type).kind) {
      throw invalid(child, `${name} is ${column.type}, and the parent's ${source.name} is ${source.type}`);
    }
    return { column: name, type: column.type };
  });
  const ordinal = columnOf(child.ordinal, table);
  if (typeOf(ordinal.type).kind !== "integer") throw invalid(child, `${child.ordinal} is ${ordinal.type}, no integer`);

  const plan = await resolve({
    ...options,
    mapping: { columns: child.columns },
    table,
    fields: inside(child.from, options.fields),
    profile: inside(child.from, options.profile ?? []),
    key: [],
    fed: own,
  });
  return { from: child.from, plan, parentKey, ordinal: { column: child.ordinal, type: ordinal.type } };
}

/** Where a child table is: beside its parent unless it says otherwise. */
function placeOf({ schema, table }: MappingChild, parent: { schema: string }): { table: string; schema?: string } {
  if (schema === undefined && table.includes(".")) return { table };
  return { table, schema: schema ?? parent.schema };
}

/** The path must be one that can hold objects. */
function checkSource(child: MappingChild, options: ResolveOptions): void {
  const { field } = new Fields(options.fields, options.profile).locate(child.from);
  if (field === null || ["nested", "object", "flattened", "passthrough"].includes(field.type)) return;
  throw new ToolError("type_never_fits", `The field is ${field.type} and holds no objects.`, {
    next: "Map it into a column, for instance of an array type.",
    details: { from: child.from },
  });
}

function checkUnique(child: MappingChild, table: Table, key: readonly string[]): void {
  const isFit = table.uniques.some(
    ({ columns, deferrable, partial, expression }) =>
      !deferrable &&
      !partial &&
      !expression &&
      columns.length === key.length &&
      columns.every((name) => key.includes(name)),
  );
  if (isFit) return;
  throw new ToolError("no_unique_key", "The child table has no unique index of exactly parent_key and ordinal.", {
    next: "Have the table's owner run the statement in sql.",
    details: {
      child: child.table,
      sql: `CREATE UNIQUE INDEX ON ${quoteTable(table)} (${key.map(quoteIdentifier).join(", ")})`,
    },
  });
}

/** Fields, or profiles, of the objects at a path, by their paths inside of it. */
function inside<T extends MappingField | FieldProfile>(from: string, entries: readonly T[]): T[] {
  return entries
    .filter(({ path }) => path.startsWith(`${from}.`))
    .map((entry) => ({ ...entry, path: entry.path.slice(from.length + 1) }));
}

function invalid(child: MappingChild, why: string): ToolError {
  return new ToolError("invalid_mapping", `The children of ${JSON.stringify(child.from)} cannot be loaded: ${why}.`, {
    next: 'Children are {"from","table","parent_key":[…],"ordinal","columns":[…]}; columns read paths inside the objects.',
    details: { child: child.table },
  });
}

/** Errors about a child say which. */
async function naming<T>(child: MappingChild, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    throw new ToolError(error.code, error.message, {
      retryable: error.retryable,
      ...(error.next === undefined ? {} : { next: error.next }),
      details: { ...error.details, child: child.table },
      cause: error,
    });
  }
}

/** COPY rows of one document's objects, by child, and what there is to say of them; or why the document stays out. */
type EncodedChildren =
  | ({ copies: Buffer[][] } & Exclude<Remark, { reject: EncodedReject }>)
  | { reject: EncodedReject };

/** How a column of a child is named among the columns of the load: rejects, rounded and replaced values. */
export function childPath(from: string, column: string | null): string {
  return column === null ? `${from}[]` : `${from}[].${column}`;
}

/** What of a line's head is told anew for each object. */
const HEAD_END = /(?:,"_seq_no":-?\d+)?(?:,"_primary_term":-?\d+)?,"_source":$/;

/**
 * Compiles the children of a plan into the encoder of their rows. Each object is encoded as a document of its own,
 * whose `_seq_no` is its ordinal among the objects of its path; nulls among them count for nothing.
 */
function createChildrenEncoder(
  children: readonly ChildPlan[],
): (line: Buffer, at: { part: number; line: number }) => EncodedChildren {
  const scanner = new Scanner(children.map(({ from }) => from));
  const encoders = children.map(({ plan }) => createEncoder(plan));
  const head = emptyHead();
  return (line, at) => {
    const rounded: string[] = [];
    const replaced: string[] = [];
    const copies: Buffer[][] = children.map(() => []);
    // A line that is no document is refused with its own row.
    if (!readHead(line, head) || scanner.scan(line, head.source, line.length) < 0) return { copies, rounded, replaced };
    const documentId = headText(line, head.id);
    const opening = line.toString("utf8", 0, head.source).replace(HEAD_END, "");
    for (const [slot, child] of children.entries()) {
      const objects = objectsAt(line, scanner, slot);
      if (objects instanceof Refusal) return { reject: refused(documentId, childPath(child.from, null), objects) };
      for (const [index, object] of objects.entries()) {
        const source = `${opening},"_seq_no":${index + 1},"_primary_term":1,"_source":${object.raw}}`;
        const encoded = encoders[slot]?.encode(Buffer.from(source), at);
        if (encoded === undefined) continue;
        if (encoded.reject !== undefined) {
          const { reject } = encoded;
          return {
            reject: {
              ...reject,
              column: childPath(child.from, reject.column),
              message: `Object ${index + 1}: ${reject.message}`,
            },
          };
        }
        copies[slot]?.push(encoded.copy);
        for (const column of encoded.rounded) rounded.push(childPath(child.from, column));
        for (const column of encoded.replaced) replaced.push(childPath(child.from, column));
      }
    }
    return { copies, rounded, replaced };
  };
}

function objectsAt(line: Buffer, scanner: Scanner, slot: number): JsonValue[] | Refusal {
  const start = scanner.starts[slot] ?? -1;
  if (start < 0) return [];
  const places = scanner.several.get(slot) ?? [{ start, end: scanner.ends[slot] ?? 0, flag: 0, inside: [] }];
  if (places.some((place) => !isUtf8(line.subarray(place.start, place.end)))) {
    return new Refusal("invalid_utf8", "The objects hold bytes that are not UTF-8.", "22021");
  }
  let value: JsonValue;
  try {
    value = combine(line, places);
  } catch (error) {
    if (error instanceof JsonError) return new Refusal(error.reason, error.message, "22P02");
    throw error;
  }
  const objects = flatten(value).filter(({ kind }) => kind !== "null");
  const stranger = objects.find(({ kind }) => kind !== "object");
  if (stranger === undefined) return objects;
  return new Refusal("wrong_kind", `The path holds a ${stranger.kind} and not objects alone.`, "22P02");
}

/** Elasticsearch takes objects of arrays in arrays for those of one. */
function flatten(value: JsonValue): JsonValue[] {
  return value.kind === "array" ? value.items.flatMap(flatten) : [value];
}

function refused(documentId: string, column: string, { reason, message, sqlstate }: Refusal): EncodedReject {
  return {
    documentId: documentId.toWellFormed().replaceAll("\0", "\uFFFD"),
    column,
    reason,
    message,
    sqlstate,
    value: "",
  };
}

/** Rows of one child that wait for their COPY. */
export interface ChildBatch {
  index: number;
  from: string;
  /** Names of its stage's columns in COPY order. */
  columns: string[];
  rows: { line: number; copy: Buffer }[];
}

/** Child rows kept in memory before they are copied. Protects the heap from documents of many objects. */
const PENDING_BYTES_MAX = 8 * 1024 * 1024;

/** Encodes the children of documents, and keeps their rows until they are taken. */
export function openChildBatches({ children }: LoadPlan) {
  const encode = children.length === 0 ? undefined : createChildrenEncoder(children);
  const empty = (): ChildBatch[] =>
    children.map(({ from, plan }, index): ChildBatch => {
      return { index, from, columns: stageColumns(plan).map(({ name }) => name), rows: [] };
    });
  let batches = empty();
  let bytesKept = 0;
  return {
    get isFull() {
      return bytesKept >= PENDING_BYTES_MAX;
    },
    take(): ChildBatch[] {
      const taken = batches;
      batches = empty();
      bytesKept = 0;
      return taken;
    },
    /** The rows of the objects of the line in [start, end), or why the document stays out; null without children. */
    encode(bytes: Buffer, start: number, end: number, at: { part: number; line: number }): EncodedChildren | null {
      return encode === undefined ? null : encode(bytes.subarray(start, end), at);
    },
    /** Keeps the rows of a document that has one itself. */
    keep({ copies }: { copies: Buffer[][] }, line: number): void {
      for (const [index, rows] of copies.entries()) {
        for (const copy of rows) {
          batches[index]?.rows.push({ line, copy });
          bytesKept += copy.length;
        }
      }
    },
  };
}

/** Tables that a mapping's children need, by the parent's columns: what `create_table` makes beside the parent. */
export function childDrafts(
  mapping: Mapping,
  parent: { schema: string; table: string; columns: readonly ColumnDraft[]; key: readonly string[] },
) {
  return (mapping.children ?? []).map((child) => ({
    ...placeOf(child, parent),
    columns: [
      ...child.parent_key.map((name, index) => ({
        name,
        type: parent.columns.find((column) => column.name === parent.key[index])?.type ?? "text",
        not_null: true,
      })),
      { name: child.ordinal, type: "integer", not_null: true },
      ...child.columns
        .filter(({ load }) => load !== false)
        .map(({ column, type = "text" }) => ({ name: column, type })),
    ],
    primaryKey: [...child.parent_key, child.ordinal],
    indexes: [],
    references: {
      columns: child.parent_key,
      table: { schema: parent.schema, table: parent.table },
      to: [...parent.key],
    },
  }));
}

/** A nested field, and the changes to a mapping that give its objects a table of their own. */
export interface ChildOffer {
  field: string;
  changes: { remove: string[]; children: MappingChild[] };
}

/** What every nested field of a proposed mapping could be instead of jsonb; the key names the parent's columns. */
export function offerChildren(
  mapping: Mapping,
  source: { table: string; fields: readonly MappingField[]; profile: readonly FieldProfile[] },
): ChildOffer[] {
  const { key = [], columns } = mapping;
  if (key.length === 0) return [];
  const nested = source.fields.filter(({ type, nested: isInside }) => type === "nested" && isInside !== true);
  return nested.flatMap(({ path }) => {
    const column = columns.find((candidate) => (candidate.from ?? candidate.column) === path)?.column;
    const child = offerChild(path, key, source);
    return column === undefined || child === undefined
      ? []
      : [{ field: path, changes: { remove: [column], children: [child] } }];
  });
}

function offerChild(
  from: string,
  key: readonly string[],
  source: { table: string; fields: readonly MappingField[]; profile: readonly FieldProfile[] },
): MappingChild | undefined {
  const fields = inside(from, source.fields);
  const profiles = new Map(inside(from, source.profile).map((profile) => [profile.path, profile]));
  const parents = new Set(fields.map(({ path }) => path.slice(0, path.lastIndexOf("."))));
  const taken = new Set<string>();
  const free = (wanted: string) => {
    let name = wanted;
    for (let number = 2; taken.has(name); number += 1) name = `${wanted.slice(0, 60)}_${number}`;
    taken.add(name);
    return name;
  };
  const parentKey = key.map((name) => free(proposeColumnName(`parent_${name}`)));
  const ordinal = free("position");
  const columns = fields.flatMap((field): MappingColumn[] => {
    const outer = field.path
      .split(".")
      .slice(0, -1)
      .map((_, index, names) => names.slice(0, index + 1).join("."));
    const isHeld = outer.some((path) => fields.some((other) => other.path === path && other.type === "nested"));
    if (isHeld || (field.type === "object" && parents.has(field.path))) return [];
    const profile = profiles.get(field.path);
    // The profile calls a path in an array of objects an array; in one object it is a value.
    const { type } = proposeType(
      { ...field, nested: false },
      profile === undefined ? undefined : { ...profile, arrays: 0 },
    );
    return type === "none" ? [] : [{ column: free(proposeColumnName(field.path)), from: field.path, type }];
  });
  if (columns.length === 0) return undefined;
  return { from, table: proposeColumnName(`${source.table}_${from}`), parent_key: parentKey, ordinal, columns };
}
