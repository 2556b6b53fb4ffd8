/** Time over which a rate is measured, in milliseconds: long enough to be calm, short enough to notice a change. */
const WINDOW_MS = 15_000;

/** How fast a job goes, by what was seen of it lately. */
export class Rate {
  #seen: { atMs: number; done: number }[] = [];

  /** Notes how much was done at a moment. Less than before is another run, which starts the measurement anew. */
  see(done: number, atMs: number): void {
    const last = this.#seen.at(-1);
    if (last !== undefined && done < last.done) this.#seen = [];
    this.#seen.push({ atMs, done });
    const from = atMs - WINDOW_MS;
    // The youngest that is older than the window stays: between looks that are far apart there is a rate, too.
    while (this.#seen.length > 2 && (this.#seen[1]?.atMs ?? atMs) <= from) this.#seen.shift();
  }

  get isNew(): boolean {
    return this.#seen.length === 0;
  }

  /** Per second; undefined where too little was seen. */
  get perSecond(): number | undefined {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (first === undefined || last === undefined || last.atMs - first.atMs < 500) return undefined;
    return ((last.done - first.done) / (last.atMs - first.atMs)) * 1000;
  }

  /** Seconds until `total` at this rate; undefined where nothing moves. */
  secondsLeft(total: number): number | undefined {
    const done = this.#seen.at(-1)?.done ?? 0;
    const rate = this.perSecond;
    return rate === undefined || rate <= 0 || done >= total ? undefined : (total - done) / rate;
  }
}
