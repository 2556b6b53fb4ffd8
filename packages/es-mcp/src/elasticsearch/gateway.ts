import { createHash } from "node:crypto";
import { nearest, parseExactJson, ToolError, traced } from "@es-to-pg/mcp-kit";
import type { MappingField } from "@es-to-pg/staging";
import { z } from "zod";
import { type EsSettings, nodesOf } from "../config.ts";
import { EsConnection, type WireAnswer } from "./client.ts";
import type {
  Elasticsearch,
  EsRequest,
  LeftOut,
  Names,
  RequestOptions,
  ResolvedIndex,
  ResolveOptions,
} from "./elasticsearch.ts";
import {
  expand,
  expressionParts,
  isPermitted,
  type Resolved,
  refuseNames,
  resolvedSchema,
  unknownMembers,
} from "./expand.ts";
import { hostsOf, refused, searchTimedOut } from "./failures.ts";
import { guardBody } from "./guard.ts";
import { flattenMapping, mergeMappings, sourceModeOf } from "./mapping.ts";
import { isRecord } from "./record.ts";
import { inPaths, pathOf } from "./requests.ts";
import { answerUnreadable } from "./rewritten.ts";
import { requestOperation } from "./telemetry.ts";
import { withoutComments } from "./without-comments.ts";

/** Time for the names that an `index_not_found` suggests: a hint must not double the wait. */
const NEAREST_TIMEOUT_MS = 2_000;

/** How long an index may have become hidden before a search by its name says so, and how many indices are remembered. */
const RECENT_MS_MAX = 10_000;
const RECENT_INDICES_MAX = 1_000;

/** Indices that a search can name back, where it has to stand in for `_resolve`. */
const SEARCHED_INDICES_MAX = 1_000;

const aliasesSchema = z.record(
  z.string(),
  z.object({ aliases: z.record(z.string(), z.object({ filter: z.unknown().optional() })) }),
);
const settingsSchema = z.record(z.string(), z.object({ settings: z.record(z.string(), z.unknown()) }));
const mappingsSchema = z.record(z.string(), z.object({ mappings: z.unknown().optional() }));
/** The answer is cut down by `filter_path`, which leaves an empty object where no index was met. */
const searchedSchema = z.object({
  aggregations: z.object({ met: z.object({ buckets: z.array(z.object({ key: z.string() })) }) }).optional(),
});
const clusterSchema = z.object({ metadata: z.object({ cluster_uuid: z.string() }) });

/** Opens nothing yet: the first request connects. */
export function createElasticsearch(settings: EsSettings): Elasticsearch {
  return new Gateway(settings);
}

class Gateway implements Elasticsearch {
  readonly #settings: EsSettings;
  readonly #connection: EsConnection;
  readonly #nodes: readonly URL[];
  readonly #recent = new Map<string, { names: Names; at: number }>();

  constructor(settings: EsSettings) {
    this.#settings = settings;
    this.#nodes = nodesOf(settings);
    this.#connection = new EsConnection(settings);
  }

  get restricted(): boolean {
    return this.#settings.ES_MCP_INDICES_ALLOW.length + this.#settings.ES_MCP_INDICES_DENY.length > 0;
  }

  async json(request: EsRequest, options: RequestOptions): Promise<unknown> {
    const body = await this.bytes(request, options);
    const answer = parseAnswer(body.toString("utf8"));
    // A part of the answer that looks like the whole: no version that is told to answer wholly gives it, but a proxy may.
    if (isRecord(answer) && answer["timed_out"] === true) throw searchTimedOut({ status: 200 });
    return answer;
  }

  async bytes(request: EsRequest, options: RequestOptions): Promise<Buffer> {
    guardBody(request.lines ?? request.body);
    return await traced(requestOperation(request, this.#nodes), async ({ attributes }) => {
      const answer = await this.#send(request, options);
      attributes["db.response.status_code"] = String(answer.status);
      if (answer.status < 400 || options.accept?.includes(answer.status) === true) return answer.body;
      const failure = refused(answer, this.#settings);
      throw failure.code === "index_not_found" ? await this.#withNearest(failure, options.signal) : failure;
    });
  }

  async #send(request: EsRequest, options: RequestOptions): Promise<WireAnswer> {
    const timeoutMs = options.timeoutMs ?? this.#settings.ES_MCP_REQUEST_TIMEOUT_SECONDS * 1_000;
    const { lines } = request;
    const body = timedBody(request, timeoutMs);
    return await this.#connection.send(
      {
        method: request.method,
        path: pathOf(request),
        query: request.query,
        ...(lines === undefined
          ? { body: body === undefined ? undefined : JSON.stringify(body) }
          : { body: lines.map((line) => `${JSON.stringify(line)}\n`).join(""), contentType: "application/x-ndjson" }),
      },
      {
        signal: options.signal,
        timeoutMs,
        bytesMax: options.bytesMax,
        into: options.into,
        once: options.once,
      },
    );
  }

  async names(expression: string | string[], options: ResolveOptions): Promise<Names> {
    const parts = expressionParts(expression);
    refuseNames(parts);
    const { signal, includeHidden, allowNone = false } = options;
    const resolved = await this.#resolveWithLeast(parts, includeHidden, signal);
    const [members, aliasFilters] = await Promise.all([
      this.#describe(unknownMembers(resolved), signal),
      this.#aliasFilters(resolved, signal),
    ]);
    const policy = { allow: this.#settings.ES_MCP_INDICES_ALLOW, deny: this.#settings.ES_MCP_INDICES_DENY };
    const expanded = expand({ resolved, members, aliasFilters, includeHidden, policy });
    if (expanded.indices.length === 0 && !(allowNone && parts.every((part) => part.includes("*")))) {
      throw await this.#nothingLeft(parts, expanded, signal);
    }
    const { indices, leftOut, denied } = expanded;
    const names = { indices, leftOut, isExact: leftOut.length + denied.length === 0 };
    const [only, ...others] = indices;
    const isIndex = only !== undefined && others.length === 0 && !only.hidden && only.name === parts.join(",");
    if (isIndex && names.isExact) this.#remember(only.name, names);
    return names;
  }

  recentIndex(name: string): Names | undefined {
    const found = this.#recent.get(name);
    return found !== undefined && performance.now() - found.at <= RECENT_MS_MAX ? found.names : undefined;
  }

  #remember(name: string, names: Names): void {
    this.#recent.delete(name);
    this.#recent.set(name, { names, at: performance.now() });
    if (this.#recent.size <= RECENT_INDICES_MAX) return;
    // The first in a map is the one remembered longest ago.
    for (const oldest of this.#recent.keys()) {
      this.#recent.delete(oldest);
      return;
    }
  }

  async resolve(
    expression: string | string[],
    options: ResolveOptions,
  ): Promise<{ indices: ResolvedIndex[]; leftOut: LeftOut[] }> {
    const { indices, leftOut } = await this.names(expression, options);
    const names = indices.map(({ name }) => name);
    const [settings, sources] = await Promise.all([
      this.#perIndex(names, ["_settings"], { flat_settings: "true" }, settingsSchema, options.signal),
      this.#perIndex(names, ["_mapping"], { filter_path: "*.mappings._source" }, mappingsSchema, options.signal),
    ]);
    return {
      indices: indices.map((index) => {
        const own = settings.get(index.name)?.settings ?? {};
        return {
          ...index,
          uuid: String(own["index.uuid"]),
          shards: Number(own["index.number_of_shards"] ?? 1),
          sourceMode: sourceModeOf(sources.get(index.name)?.mappings, own),
          settings: own,
        };
      }),
      leftOut,
    };
  }

  async mappings(indices: readonly string[], options: { signal: AbortSignal }): Promise<Map<string, unknown>> {
    const found = await this.#perIndex(indices, ["_mapping"], {}, mappingsSchema, options.signal);
    // In the order asked for: Elasticsearch answers in one of its own, which changes.
    return new Map(indices.map((name) => [name, found.get(name)?.mappings]));
  }

  async mapping(index: string | string[], options: { signal: AbortSignal }): Promise<MappingField[]> {
    const names = [index].flat();
    const mappings = await this.mappings(names, options);
    return mergeMappings(names.map((name) => flattenMapping(mappings.get(name))));
  }

  async clusterUuid(options: { signal: AbortSignal }): Promise<string> {
    try {
      const state = await this.json(
        {
          method: "GET",
          path: ["_cluster", "state", "metadata"],
          query: { filter_path: "metadata.cluster_uuid", local: "true" },
        },
        options,
      );
      return clusterSchema.parse(state).metadata.cluster_uuid;
    } catch (error) {
      if (!(error instanceof ToolError) || error.code !== "forbidden") throw error;
      // Without the cluster privilege `monitor`. Index uuids still tell one cluster's data from another's.
      return `address-${createHash("sha256").update(hostsOf(this.#settings)).digest("hex").slice(0, 22)}`;
    }
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /**
   * Expands names with whatever the credentials permit. Those that may only read, and not see metadata, are refused
   * `_resolve` for a name and answered with nothing for a pattern; they can still ask a search which indices it met.
   */
  async #resolveWithLeast(parts: string[], includeHidden: boolean, signal: AbortSignal): Promise<Resolved> {
    let refusal: ToolError | undefined;
    try {
      const resolved = await this.#resolveIndex(parts.join(","), includeHidden, signal);
      const isEmpty = resolved.indices.length + resolved.aliases.length + resolved.data_streams.length === 0;
      if (!isEmpty) return resolved;
    } catch (error) {
      if (!(error instanceof ToolError) || error.code !== "forbidden") throw error;
      refusal = error;
    }
    const met = await this.#searchedIndices(parts, signal);
    if (met === undefined && refusal !== undefined) throw refusal;
    return {
      indices: (met ?? []).map((name) => ({ name, aliases: [], attributes: ["open"] })),
      aliases: [],
      data_streams: [],
    };
  }

  /** Indices that a search over the names met, or undefined where it is not permitted either. */
  async #searchedIndices(parts: string[], signal: AbortSignal): Promise<string[] | undefined> {
    const names = new Set<string>();
    // An exclusion speaks of what stands before it, so then all of it is one search.
    const searches = parts.some((part) => part.startsWith("-")) ? [parts.join(",")] : parts;
    for (const part of searches) {
      try {
        const answer = searchedSchema.parse(
          await this.json(
            {
              method: "POST",
              path: [part, "_search"],
              query: { filter_path: "timed_out,aggregations.met.buckets.key" },
              body: { size: 0, aggs: { met: { terms: { field: "_index", size: SEARCHED_INDICES_MAX } } } },
            },
            { signal },
          ),
        );
        const met = (answer.aggregations?.met.buckets ?? []).map(({ key }) => key);
        // A name stands for itself: read through an alias, the alias's filter and rights go on to hold.
        if (part.includes("*")) for (const name of met) names.add(name);
        else if (met.every((name) => this.#isPermitted(name))) names.add(part);
      } catch (error) {
        if (!(error instanceof ToolError) || error.code !== "forbidden") throw error;
        return undefined;
      }
    }
    return [...names];
  }

  #isPermitted(name: string): boolean {
    const { ES_MCP_INDICES_ALLOW: allow, ES_MCP_INDICES_DENY: deny } = this.#settings;
    return isPermitted(name, null, { allow, deny });
  }

  async #resolveIndex(names: string, includeHidden: boolean, signal: AbortSignal): Promise<Resolved> {
    const answer = await this.json(
      {
        method: "GET",
        path: ["_resolve", "index", names],
        query: { expand_wildcards: includeHidden ? "open,closed,hidden" : "open,closed" },
      },
      { signal },
    );
    return resolvedSchema.parse(answer);
  }

  async #describe(names: string[], signal: AbortSignal): Promise<Resolved["indices"]> {
    const answers = await Promise.all(inPaths(names).map((path) => this.#resolveIndex(path, true, signal)));
    return answers.flatMap(({ indices }) => indices);
  }

  async #aliasFilters(resolved: Resolved, signal: AbortSignal): Promise<Map<string, Map<string, unknown>>> {
    const filters = new Map<string, Map<string, unknown>>();
    const answers = await Promise.all(
      inPaths(resolved.aliases.map(({ name }) => name)).map((path) =>
        this.json({ method: "GET", path: [path, "_alias"] }, { signal }),
      ),
    );
    for (const answer of answers) {
      for (const [index, { aliases }] of Object.entries(aliasesSchema.parse(answer))) {
        const own = filters.get(index) ?? new Map<string, unknown>();
        for (const [alias, { filter }] of Object.entries(aliases)) own.set(alias, filter);
        filters.set(index, own);
      }
    }
    return filters;
  }

  /** One kind of metadata for every index, in as many requests as the length of a path demands. */
  async #perIndex<T>(
    names: readonly string[],
    api: string[],
    query: Record<string, string>,
    schema: z.ZodType<Record<string, T>>,
    signal: AbortSignal,
  ): Promise<Map<string, T>> {
    const found = new Map<string, T>();
    for (const path of inPaths(names)) {
      const answer = await this.json({ method: "GET", path: [path, ...api], query }, { signal });
      for (const [name, value] of Object.entries(schema.parse(answer))) found.set(name, value);
    }
    return found;
  }

  async #nothingLeft(
    parts: string[],
    { leftOut, denied }: { leftOut: LeftOut[]; denied: string[] },
    signal: AbortSignal,
  ): Promise<ToolError> {
    const index = parts.join(",");
    if (leftOut.length > 0) {
      const closed = leftOut.every(({ why }) => why === "closed");
      return new ToolError(
        closed ? "index_closed" : "index_not_allowed",
        closed
          ? "What this name stands for is closed, so nothing in it can be read."
          : "What this name stands for is not read by this server.",
        {
          next: closed
            ? "Open the index in Elasticsearch, or use another one."
            : "Name an alias of the index, or use include_hidden where a tool takes it; list_indices shows what can be read.",
          details: { index, left_out: leftOut.slice(0, 20) },
        },
      );
    }
    if (denied.length > 0 && parts.every((part) => !part.includes("*"))) {
      return new ToolError("index_not_allowed", "The configuration of this server does not permit this index.", {
        next: "Use list_indices to see what can be read, or change ES_MCP_INDICES_ALLOW and ES_MCP_INDICES_DENY.",
        details: { index },
      });
    }
    const failure = new ToolError("index_not_found", "No index matches this name.", {
      next: "Use list_indices to see the names there are.",
      details: { index },
    });
    return this.#withNearest(failure, signal);
  }

  async #withNearest(failure: ToolError, signal: AbortSignal): Promise<ToolError> {
    const wanted = failure.details["index"];
    if (typeof wanted !== "string") return failure;
    try {
      const bounded = AbortSignal.any([signal, AbortSignal.timeout(NEAREST_TIMEOUT_MS)]);
      const resolved = await this.#resolveIndex("*", false, bounded);
      const names = [...resolved.indices, ...resolved.aliases, ...resolved.data_streams].map(({ name }) => name);
      const policy = { allow: this.#settings.ES_MCP_INDICES_ALLOW, deny: this.#settings.ES_MCP_INDICES_DENY };
      const permitted = new Set(
        expand({ resolved, members: [], aliasFilters: new Map(), includeHidden: false, policy }).indices.map(
          ({ name }) => name,
        ),
      );
      const shown = names.filter(
        (name) => permitted.has(name) || !resolved.indices.some((index) => index.name === name),
      );
      const close = nearest(wanted.replaceAll("*", ""), shown);
      return new ToolError(failure.code, failure.message, {
        next:
          close.length === 0
            ? "Use list_indices to see the names there are."
            : "Use one of the nearest names, or list_indices.",
        details: { ...failure.details, nearest: close },
      });
    } catch {
      return failure;
    }
  }
}

/** Part of a request's time after which Elasticsearch is to end a search by itself, so that its word comes before ours. */
const SEARCH_SHARE = 0.9;

/**
 * The body of a search with the time that it may take at Elasticsearch. Closing the connection ends a search as well, but
 * not where a proxy keeps its own connection open. A scroll has none: a page of it that ended could not be read again.
 */
function timedBody({ path, query, body }: EsRequest, timeoutMs: number): unknown {
  if (path.at(-1) !== "_search" || !isRecord(body) || query?.["scroll"] !== undefined) return body;
  return { ...body, timeout: `${Math.floor(timeoutMs * SEARCH_SHARE)}ms` };
}

function parseAnswer(text: string): unknown {
  try {
    return parseExactJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  try {
    return parseExactJson(withoutComments(text));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw answerUnreadable(error);
  }
}
