import type { ExportWriter, ManifestChange, PartWriter } from "@es-to-pg/staging";
import { type PartTold, tellPart } from "./telemetry.ts";

/**
 * Takes lines into parts and parts into the manifest, one step ahead of the disk: a page is written while the next one is
 * scanned, a full part made durable while the next one is filled. What fails on its way shows at the next call.
 */
export class PartSink {
  readonly #writer: ExportWriter;
  #part: PartWriter | undefined;
  #told: PartTold | undefined;
  /** Position of the next part to be opened. */
  #next: number;
  #documents = 0;
  #bytes = 0;
  /** The last lines on their way into the file. */
  #writing: Promise<void> = Promise.resolve();
  /** The last full part on its way into the manifest. */
  #listing: Promise<void> = Promise.resolve();

  constructor(writer: ExportWriter) {
    this.#writer = writer;
    this.#next = writer.manifest.parts.length;
  }

  /** Documents of the open part, those on their way included. */
  get documents(): number {
    return this.#documents;
  }

  /** Bytes of the open part, those on their way included. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Sends lines to the open part. `take` is called once the lines sent before are in the file, and their memory free. */
  async write(take: () => Buffer, documents: number): Promise<number> {
    await this.#writing;
    this.#part ??= await this.#open();
    const lines = take();
    this.#writing = this.#part.write(lines, documents);
    // Whoever needs the lines in the file awaits the promise; until then a failure is nobody's.
    this.#writing.catch(() => {});
    this.#documents += documents;
    this.#bytes += lines.length;
    return lines.length;
  }

  async #open(): Promise<PartWriter> {
    const part = await this.#writer.openPart();
    this.#told = tellPart(this.#writer.manifest.export_id, this.#next++);
    return part;
  }

  /** Closes the open part, if there is one, and commits it with `change`, which is of all that was sent so far. */
  async close(change: ManifestChange): Promise<void> {
    await this.#writing;
    await this.#listing;
    const part = this.#part;
    const told = this.#told;
    const written = { documents: this.#documents, bytes: this.#bytes };
    this.#part = this.#told = undefined;
    this.#documents = this.#bytes = 0;
    this.#listing = this.#list(part, change);
    this.#listing.then(
      () => told?.listed(written),
      (error: unknown) => told?.failed(error),
    );
  }

  async #list(part: PartWriter | undefined, change: ManifestChange): Promise<void> {
    const { parts } = this.#writer.manifest;
    await this.#writer.commit({ ...change, parts: part === undefined ? parts : [...parts, await part.close()] });
  }

  /** Waits until the manifest lists what was closed. */
  async listed(): Promise<void> {
    await this.#listing;
  }

  /** Removes the open part. What was closed before goes its way. */
  async discard(): Promise<void> {
    const part = this.#part;
    this.#told?.failed(new Error("the part was discarded"));
    this.#part = this.#told = undefined;
    await Promise.allSettled([this.#writing, this.#listing]);
    await part?.discard().catch(() => {});
  }
}
