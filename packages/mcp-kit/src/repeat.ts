import { setTimeout as sleep } from "node:timers/promises";

/**
 * Runs `look` now, and again `intervalMs` milliseconds after it has settled, until `stop` is called, which aborts the
 * look under way. Keeps no process alive. A look that throws is told to `onFailure` and does not end the others.
 */
export function repeatInBackground(options: {
  intervalMs: number;
  look: (signal: AbortSignal) => Promise<void>;
  onFailure: (error: unknown) => void;
}): { stop(): void } {
  const { intervalMs, look, onFailure } = options;
  const stopped = new AbortController();
  const { signal } = stopped;
  void (async () => {
    while (!signal.aborted) {
      try {
        await look(signal);
      } catch (error) {
        if (!signal.aborted) onFailure(error);
      }
      // Ends early, and rejects, when it is stopped.
      await sleep(intervalMs, undefined, { signal, ref: false }).catch(() => {});
    }
  })();
  return { stop: () => stopped.abort() };
}

/**
 * How often a server that lives long looks for jobs whose process is gone, in milliseconds. They have been so for the
 * length of a lease, so that any replica takes one up within a minute of a kill.
 */
export const RESUME_INTERVAL_MS = 30_000;
