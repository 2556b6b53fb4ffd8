/** Pauses between two looks, in milliseconds: short while something changes, longer while nothing does. */
const PAUSE_MS = 1_000;
const QUIET_PAUSE_MS_MAX = 8_000;
const FAILED_PAUSE_MS_MAX = 30_000;

/** What a look found: something new, the same as before, nothing at all, or the end. */
export type Found = "changed" | "same" | "failed" | "ended";

/** The pause after a look, by what it found and the pause before it. */
export function pauseAfter(found: Exclude<Found, "ended">, pauseMs: number): number {
  if (found === "changed") return PAUSE_MS;
  const max = found === "failed" ? FAILED_PAUSE_MS_MAX : QUIET_PAUSE_MS_MAX;
  return Math.min(Math.max(pauseMs, PAUSE_MS) * (found === "failed" ? 2 : 1.5), max);
}

/** Looks again and again until a look says that it was the last one. Nobody looks at a page that is hidden. */
export class Watch {
  readonly #look: () => Promise<Found>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pauseMs = PAUSE_MS;
  #isLooking = false;
  #isStopped = false;

  constructor(look: () => Promise<Found>) {
    this.#look = look;
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Looks at once, or after a pause. */
  start(pauseMs = 0): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#turn(), pauseMs);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  async #turn(): Promise<void> {
    if (this.#isLooking || this.#isStopped || document.hidden) return;
    this.#isLooking = true;
    let found: Found;
    try {
      found = await this.#look();
    } finally {
      this.#isLooking = false;
    }
    if (found === "ended") return this.stop();
    this.#pauseMs = pauseAfter(found, this.#pauseMs);
    this.start(this.#pauseMs);
  }

  readonly #onVisibility = (): void => {
    if (!document.hidden) this.start();
  };
}
