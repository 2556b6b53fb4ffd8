import { ToolError } from "@es-to-pg/mcp-kit";
import type { MappingField } from "@es-to-pg/staging";

/** Fields whose values Elasticsearch from 9.2 on leaves out of `_source`; no setting of the index tells. */
const VECTOR_TYPES = new Set(["dense_vector", "rank_vectors", "sparse_vector", "semantic_text"]);

/** Asks for documents with their vectors, where there are any, in the words that the Elasticsearch at hand knows. */
export class VectorRequest {
  #isAsked: boolean;

  constructor(mapping: readonly MappingField[]) {
    this.#isAsked = mapping.some(({ type }) => VECTOR_TYPES.has(type));
  }

  /** Sends a search whose body has this part, twice where Elasticsearch refuses the part. */
  async ask<Answer>(send: (body: VectorRequest["body"]) => Promise<Answer>): Promise<Answer> {
    try {
      return await send(this.body);
    } catch (error) {
      if (!this.isRefused(error)) throw error;
      return await send(this.body);
    }
  }

  /** The part of a search's body. */
  get body(): { _source?: { exclude_vectors: false } } {
    return this.#isAsked ? { _source: { exclude_vectors: false } } : {};
  }

  /** Whether a request failed by this alone: before 8.19 the words are unknown, and vectors are in `_source` anyway. */
  isRefused(error: unknown): boolean {
    const isUnknown =
      error instanceof ToolError &&
      error.code === "query_invalid" &&
      String(error.details["reason"]).includes("[exclude_vectors]");
    if (isUnknown) this.#isAsked = false;
    return isUnknown;
  }
}
