/** Memory that a buffer starts with: what most pages of an export fit in. */
const BYTES_FIRST = 1024 * 1024;

/**
 * Memory for one answer after the other. A page of megabytes in a buffer of its own each would cost more in garbage
 * collection than everything else that is done with it.
 */
export class ResponseBuffer {
  #memory: Buffer;
  #length = 0;

  /** `bytesFirst` is the memory to begin with. What holds one answer only takes none before it comes. */
  constructor(bytesFirst: number = BYTES_FIRST) {
    this.#memory = Buffer.allocUnsafeSlow(bytesFirst);
  }

  clear(): void {
    this.#length = 0;
  }

  append(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (length > this.#memory.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, this.#memory.length + (this.#memory.length >> 1)));
      this.#memory.copy(larger, 0, 0, this.#length);
      this.#memory = larger;
    }
    this.#memory.set(chunk, this.#length);
    this.#length = length;
  }

  /** What was appended. Valid until the next `clear` or `append`. */
  get bytes(): Buffer {
    return this.#memory.subarray(0, this.#length);
  }
}
