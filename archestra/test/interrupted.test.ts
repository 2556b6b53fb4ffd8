/** Ctrl-C at every step: before it reached the other side, and after it did and was not heard of again. */
import { describe, expect, it } from "vitest";
import type { Shell } from "../src/process.ts";
import { Bench } from "./harness.ts";
import { isWrite } from "./platform.ts";

interface Moment {
  at: "before" | "after";
  what: string;
}

/** What is cut off, and what was done before. */
interface Course {
  name: string;
  command: "apply" | "destroy";
  prepare: (bench: Bench) => Promise<unknown>;
  /** What a run says that finds nothing left to do. */
  over: { command: "plan" | "destroy"; says: string };
}

const courses: readonly Course[] = [
  {
    name: "apply",
    command: "apply",
    prepare: () => Promise.resolve(),
    over: { command: "plan", says: "Nothing to change." },
  },
  {
    name: "apply of changes",
    command: "apply",
    prepare: async (bench) => {
      await bench.run("apply");
      bench.cluster.build("pg-mcp:latest", "second");
      bench.values = {
        ...bench.values,
        // A secret more, which makes the platform rewrite the YAML; a plain setting; another model.
        POD_ELASTICSEARCH_API_KEY: "id:key",
        POD_LOG_LEVEL: "debug",
        LLM_MODEL: "gpt-small",
        ARCHESTRA_NETWORK_POLICY: "false",
      };
    },
    over: { command: "plan", says: "Nothing to change." },
  },
  {
    name: "destroy",
    command: "destroy",
    prepare: (bench) => bench.run("apply"),
    over: { command: "destroy", says: "Nothing of this program is on the platform." },
  },
];

/** A run that tells every moment at which it may be cut off, and is cut off where `cut` says so. */
async function runOn(bench: Bench, command: string, cut: (moment: Moment) => boolean): Promise<void> {
  const stopping = new AbortController();
  const pass = (moment: Moment): "drop" | undefined => {
    if (!cut(moment)) return undefined;
    stopping.abort();
    return "drop";
  };
  bench.platform.onRequest = (at, what) => (isWrite(what) ? pass({ at, what }) : undefined);
  bench.wrapShell = (shell) => cutting(shell, pass);
  try {
    await bench.run(command, { signal: stopping.signal, yes: true });
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
      /connect|apply|delete/.test(command.join(" "))
        ? around(command.slice(-3).join(" "), options.signal, () => shell.run(command, options))
        : shell.run(command, options),
    pipe: (from, to, signal) => around(from.join(" "), signal, () => shell.pipe(from, to, signal)),
  };
}

async function withBench<Result>({ prepare }: Course, work: (bench: Bench) => Promise<Result>): Promise<Result> {
  const bench = new Bench();
  bench.values = { ...bench.values, ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" };
  await bench.platform.start();
  try {
    await prepare(bench);
    return await work(bench);
  } finally {
    await bench.close();
  }
}

const references = await Promise.all(
  courses.map((course) =>
    withBench(course, async (bench) => {
      const moments: Moment[] = [];
      await runOn(bench, course.command, (moment) => {
        moments.push(moment);
        return false;
      });
      return { course, moments, snapshot: bench.snapshot() };
    }),
  ),
);

it("has every kind of step among those that are cut off", () => {
  const kinds = references.map(({ course, moments }) => [
    course.name,
    [...new Set(moments.map(({ what }) => what))].sort(),
  ]);
  expect(Object.fromEntries(kinds)).toMatchInlineSnapshot(`
    {
      "apply": [
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
      ],
      "apply of changes": [
        "POST /api/internal_mcp_catalog/{id}/refresh-image",
        "POST /api/mcp_server/{id}/reinstall",
        "PUT /api/agents/{id}",
        "PUT /api/internal_mcp_catalog/{id}",
        "data-transformer --ignore-not-found --timeout=120s",
        "docker save pg-mcp:latest",
      ],
      "destroy": [
        "DELETE /api/agents/{id}",
        "DELETE /api/api-keys/{id}",
        "DELETE /api/internal_mcp_catalog/{id}",
        "DELETE /api/llm-provider-api-keys/{id}",
        "DELETE /api/schedule-triggers/{id}",
        "data-transformer --ignore-not-found --timeout=120s",
        "data-transformer-staging --ignore-not-found --timeout=120s",
        "disconnect es-to-pg_default archestra-mcp-control-plane",
      ],
    }
  `);
});

describe.for(references)("$course.name", ({ course, moments, snapshot }) => {
  const cases = moments.map(({ at, what }, number) => ({ number, at, what }));

  it.concurrent.for(cases)(
    "ends in the same state when stopped $at step $number, $what",
    { timeout: 60_000 },
    async ({ number }) => {
      await withBench(course, async (bench) => {
        let seen = -1;
        await expect(
          runOn(bench, course.command, () => {
            seen += 1;
            return seen === number;
          }),
        ).rejects.toThrow("abort");
        await bench.run(course.command, { yes: true });
        expect(bench.snapshot()).toEqual(snapshot);
        expect(await bench.run(course.over.command, { yes: true })).toContain(course.over.says);
      });
    },
  );
});
