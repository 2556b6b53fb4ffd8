import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { IndexName, LeftOut } from "./elasticsearch.ts";
import { matchesWildcard } from "./wildcard.ts";

/** The answer of `_resolve/index`. */
export const resolvedSchema = z.object({
  indices: z.array(
    z.object({
      name: z.string(),
      aliases: z.array(z.string()).default([]),
      attributes: z.array(z.string()).default([]),
      data_stream: z.string().optional(),
    }),
  ),
  aliases: z.array(z.object({ name: z.string(), indices: z.array(z.string()).default([]) })),
  data_streams: z.array(z.object({ name: z.string(), backing_indices: z.array(z.string()).default([]) })),
});

export type Resolved = z.output<typeof resolvedSchema>;

/** Which indices this server may read, as `ES_MCP_INDICES_ALLOW` and `_DENY` say. */
export interface IndexPolicy {
  allow: readonly string[];
  deny: readonly string[];
}

/** Names of an expression: `a,b*` is two of them. */
export function expressionParts(expression: string | string[]): string[] {
  return [expression]
    .flat()
    .flatMap((part) => part.split(","))
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => (part === "_all" ? "*" : part));
}

/** Refuses, before anything is asked, names that no call may use. */
export function refuseNames(parts: readonly string[]): void {
  if (parts.length === 0) {
    throw new ToolError("index_missing", "The name of the index is empty.", {
      next: "Use list_indices to see the names there are.",
    });
  }
  const remote = parts.find((part) => part.includes(":"));
  if (remote !== undefined) {
    throw new ToolError("index_not_allowed", "Indices of remote clusters are not read.", {
      next: "Attach a server of its own to the remote cluster.",
      details: { index: remote },
    });
  }
  const system = parts.find((part) => part.startsWith(".") && !part.startsWith(".ds-"));
  if (system !== undefined) {
    throw new ToolError("index_not_allowed", "System indices (names that begin with a dot) are not read.", {
      next: "Use list_indices to see the names there are.",
      details: { index: system },
    });
  }
  // Elasticsearch reads a leading underscore as an API and a leading minus as an exclusion.
  const strange = parts.find((part) => part.startsWith("_") || /[\\/?"<>|\s#]/.test(part));
  if (strange !== undefined) {
    const isQuoted = /^["'`].*["'`]$/.test(strange);
    throw new ToolError("index_not_allowed", "This is no name of an index.", {
      next: isQuoted
        ? "Give the name without quotation marks."
        : "Give a name, an alias, a data stream or a pattern with *.",
      // Without them, as the answer's corrected call has it.
      details: { index: strange, ...(isQuoted ? { nearest: [strange.slice(1, -1)] } : {}) },
    });
  }
}

/**
 * The permitted open indices of `_resolve/index` answers. `members` describes indices that are known only as members of
 * an alias or data stream; `aliasFilters` holds the filter per index and alias.
 */
export function expand(options: {
  resolved: Resolved;
  members: Resolved["indices"];
  aliasFilters: ReadonlyMap<string, ReadonlyMap<string, unknown>>;
  includeHidden: boolean;
  policy: IndexPolicy;
}): { indices: IndexName[]; leftOut: LeftOut[]; denied: string[] } {
  const { resolved, members, aliasFilters, includeHidden, policy } = options;
  const described = new Map([...resolved.indices, ...members].map((index) => [index.name, index]));
  /** Direct by its own name or through a data stream, else the aliases that reach it. */
  const reached = new Map<string, { direct: boolean; indirect: boolean; aliases: string[] }>();
  const reach = (name: string): { direct: boolean; indirect: boolean; aliases: string[] } => {
    const known = reached.get(name) ?? { direct: false, indirect: false, aliases: [] };
    reached.set(name, known);
    return known;
  };
  const streamOf = new Map<string, string>();
  for (const { name, data_stream } of described.values())
    if (data_stream !== undefined) streamOf.set(name, data_stream);
  for (const { name } of resolved.indices) reach(name).direct = true;
  for (const stream of resolved.data_streams) {
    for (const name of stream.backing_indices) {
      reach(name).indirect = true;
      streamOf.set(name, stream.name);
    }
  }
  for (const alias of resolved.aliases) for (const name of alias.indices) reach(name).aliases.push(alias.name);

  const indices: IndexName[] = [];
  const leftOut: LeftOut[] = [];
  const denied: string[] = [];
  for (const [name, { direct, indirect, aliases }] of [...reached].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const attributes = described.get(name)?.attributes ?? ["open"];
    const dataStream = streamOf.get(name) ?? null;
    const hidden = attributes.includes("hidden");
    if (!isPermitted(name, dataStream, policy)) denied.push(name);
    else if (isSystem(name, dataStream, attributes)) leftOut.push({ name, why: "system" });
    else if (hidden && !includeHidden && direct && !indirect && aliases.length === 0) {
      leftOut.push({ name, why: "hidden" });
    } else if (attributes.includes("closed")) leftOut.push({ name, why: "closed" });
    else {
      const filters = direct || indirect ? [] : aliases.map((alias) => aliasFilters.get(name)?.get(alias));
      const filtered = filters.length > 0 && filters.every((filter) => filter !== undefined);
      indices.push({
        name,
        hidden,
        aliases: described.get(name)?.aliases ?? aliases,
        dataStream,
        ...(filtered
          ? { aliasFilter: filters.length === 1 ? filters[0] : { bool: { should: filters, minimum_should_match: 1 } } }
          : {}),
      });
    }
  }
  return { indices, leftOut, denied };
}

/** Names that only an alias or a data stream has told of. */
export function unknownMembers(resolved: Resolved): string[] {
  const known = new Set(resolved.indices.map(({ name }) => name));
  const members = [
    ...resolved.aliases.flatMap(({ indices }) => indices),
    ...resolved.data_streams.flatMap(({ backing_indices }) => backing_indices),
  ];
  return [...new Set(members)].filter((name) => !known.has(name));
}

/** A backing index goes by the name of its data stream in an allow-list; a deny-list may name either. */
export function isPermitted(name: string, dataStream: string | null, { allow, deny }: IndexPolicy): boolean {
  const names = dataStream === null ? [name] : [name, dataStream];
  const isListed = (patterns: readonly string[]): boolean =>
    patterns.some((pattern) => names.some((candidate) => matchesWildcard(pattern, candidate)));
  return (allow.length === 0 || isListed(allow)) && !isListed(deny);
}

function isSystem(name: string, dataStream: string | null, attributes: readonly string[]): boolean {
  if (attributes.includes("system")) return true;
  return (dataStream ?? name).startsWith(".") && !(dataStream === null && name.startsWith(".ds-"));
}
