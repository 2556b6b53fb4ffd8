/** Bytes of a page that reading aims at: large enough that a request costs little, small enough for memory; 4 MiB measured best of 2, 4 and 8. */
export const PAGE_BYTES_TARGET = 4 * 1024 * 1024;

/** A page beyond this is not taken: it is asked for again with half the documents. */
export const PAGE_BYTES_MAX = 20 * 1024 * 1024;

/** Below this a smaller page spares a busy Elasticsearch nothing any more: what is left is the number of requests. */
const BUSY_BYTES_MIN = 64 * 1024;

const DOCUMENTS_FIRST = 500;
const GROWTH_MAX = 4;

/** How many documents the next page may have, learnt from the bytes of the last ones: those of one slice after the other. */
export class PageSize {
  readonly #documentsMax: number;
  #documents: number;
  /** After Elasticsearch was too busy the size grows again, slowly. */
  #ceiling: number;
  #bytesPerDocument = 0;

  /** `documentsMax` is the index's `max_result_window`. */
  constructor(documentsMax: number) {
    this.#documentsMax = Math.max(1, documentsMax);
    this.#documents = Math.min(DOCUMENTS_FIRST, this.#documentsMax);
    this.#ceiling = this.#documentsMax;
  }

  get documents(): number {
    return this.#documents;
  }

  /** Takes note of a page that was read. */
  saw(documents: number, bytes: number): void {
    if (documents === 0) return;
    this.#ceiling = Math.min(this.#documentsMax, this.#ceiling + Math.ceil(this.#ceiling / 16));
    this.#bytesPerDocument = bytes / documents;
    const fitting = Math.floor(PAGE_BYTES_TARGET / this.#bytesPerDocument);
    this.#documents = Math.max(1, Math.min(fitting, this.#documents * GROWTH_MAX, this.#ceiling));
  }

  /** Takes note that no more than the first documents of a page were of use: the next pages are no larger, and grow again. */
  used(documents: number): void {
    this.#documents = Math.max(1, Math.min(documents, this.#documents));
  }

  /** Whether a page of so many documents is one that Elasticsearch may be too busy for. */
  isLarge(documents: number): boolean {
    return this.#bytesPerDocument === 0 || documents * this.#bytesPerDocument > BUSY_BYTES_MIN;
  }

  /** Halves the page after a refusal; false if it cannot be smaller. */
  halve(): boolean {
    if (this.#documents === 1) return false;
    this.#documents = Math.max(1, this.#documents >> 1);
    this.#ceiling = this.#documents;
    return true;
  }
}
