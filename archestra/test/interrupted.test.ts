/** Ctrl-C at every step of `apply`: before it reached the other side, and after it did and was not heard of again. */
import { expect, it } from "vitest";
import type { Shell } from "../src/process.ts";
import { Bench } from "./harness.ts";
import { isWrite } from "./platform.ts";

interface Moment {
  at: "before" | "after";
  what: string;
}

/** A run of `apply` that tells every moment at which it may be cut off, and is cut off where `cut` says so. */
async function applyOn(bench: Bench, cut: (moment: Moment) => boolean): Promise<void> {
  const stopping = new AbortController();
  const pass = (moment: Moment): "drop" | undefined => {
    if (!cut(moment)) return undefined;
    stopping.abort();
    return "drop";
  };
  bench.platform.onRequest = (at, what) => (isWrite(what) ? pass({ at, what }) : undefined);
  bench.wrapShell = (shell) => cutting(shell, pass);
  try {
    await bench.run("apply", { signal: stopping.signal });
  } finally {
    bench.platform.onRequest = () => undefined;
    bench.wrapShell = (shell) => shell;
  }
}

/** Commands that change something can be cut off as requests can. */
function cutting(shell: Shell, pass: (moment: Moment) => "drop" | undefined): Shell {
  const around = async <Result>(what: string, signal: AbortSignal, work: () => Promise<Result>): Promise<Result> => {
    pass({ at: "before", what });
    signal.throwIfAborted();
    const result = await work();
    pass({ at: "after", what });
    signal.throwIfAborted();
    return result;
  };
  return {
    run: (command, options) =>
      /connect|apply/.test(command.join(" "))
        ? around(command.slice(-3).join(" "), options.signal, () => shell.run(command, options))
        : shell.run(command, options),
    pipe: (from, to, signal) => around(from.join(" "), signal, () => shell.pipe(from, to, signal)),
  };
}

async function withBench<Result>(work: (bench: Bench) => Promise<Result>): Promise<Result> {
  const bench = new Bench();
  bench.values = { ...bench.values, ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" };
  await bench.platform.start();
  try {
    return await work(bench);
  } finally {
    await bench.close();
  }
}

const reference = await withBench(async (bench) => {
  const moments: Moment[] = [];
  await applyOn(bench, (moment) => {
    moments.push(moment);
    return false;
  });
  return { moments, snapshot: bench.snapshot() };
});

it("has every kind of step among those that are cut off", () => {
  expect([...new Set(reference.moments.map(({ what }) => what))].sort()).toMatchInlineSnapshot(`
    [
      "POST /api/agents",
      "POST /api/agents/tools/bulk-assign",
      "POST /api/agents/{agentId}/delegations",
      "POST /api/api-keys",
      "POST /api/autonomy-policies/tool-invocation",
      "POST /api/internal_mcp_catalog",
      "POST /api/llm-provider-api-keys",
      "POST /api/mcp_server",
      "POST /api/schedule-triggers",
      "POST /api/tool-invocation/bulk-default",
      "POST /api/trusted-data-policies/bulk-default",
      "PUT /api/internal_mcp_catalog/{id}",
      "apply -f -",
      "connect es-to-pg_default archestra-mcp-control-plane",
      "docker save es-mcp:latest",
      "docker save pg-mcp:latest",
    ]
  `);
});

const cases = reference.moments.map(({ at, what }, number) => ({ number, at, what }));

it.concurrent.for(cases)(
  "ends in the same state when stopped $at step $number, $what",
  { timeout: 60_000 },
  async ({ number }) => {
    await withBench(async (bench) => {
      let seen = -1;
      await expect(
        applyOn(bench, () => {
          seen += 1;
          return seen === number;
        }),
      ).rejects.toThrow("abort");
      await bench.run("apply");
      expect(bench.snapshot()).toEqual(reference.snapshot);
      expect(await bench.run("plan")).toContain("Nothing to change.");
    });
  },
);
