import type { WriteStream } from "node:tty";
import type { Progress } from "./servers.ts";

const width = 30;

/** Shows how far a job is: one line that moves on a terminal, nothing where output is not a terminal. */
export class ProgressBar {
  readonly #stream: WriteStream;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  /** Draws the bar over itself. */
  show(label: string, { progress, total }: Progress): void {
    if (!this.#stream.isTTY) return;
    const share = total === undefined || total === 0 ? 0 : Math.min(1, progress / total);
    const full = Math.round(share * width);
    const bar = `${"█".repeat(full)}${"░".repeat(width - full)}`;
    const figures =
      total === undefined
        ? progress.toLocaleString("en")
        : `${progress.toLocaleString("en")} of ${total.toLocaleString("en")}`;
    this.#stream.write(`\r\u001b[2K      ${bar} ${label} ${figures}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#stream.isTTY) this.#stream.write("\r\u001b[2K");
  }
}
