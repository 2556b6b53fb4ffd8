/** What each command does, on an opened world. */
import { createInterface } from "node:readline/promises";
import { calls } from "./api/calls.ts";
import { chat } from "./chat.ts";
import { examine, report } from "./doctor.ts";
import type { Opened } from "./open.ts";
import { type Actual, describe, planned, readActual, reconcile, removals } from "./reconcile.ts";
import { ownKeys } from "./session.ts";
import { contents, statusOf, usage } from "./status.ts";

/** Options as `main` parses them. */
export interface Options {
  yaml?: boolean | undefined;
  context?: string | undefined;
  approve?: boolean | undefined;
  decline?: boolean | undefined;
  yes?: boolean | undefined;
}

/** What was typed is not what a command takes. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

type Command = (opened: Opened, options: Options, words: readonly string[]) => Promise<void>;

export const commands: Readonly<Record<string, Command>> = {
  plan: async (opened, { yaml }) => {
    await tellPlan(opened);
    const { servers } = opened.world.desired;
    if (yaml === true)
      for (const server of servers) if (server.kind === "local") opened.world.say(`---\n${server.yaml}`);
  },

  apply: async (opened) => {
    const { world, settings, makeKey } = opened;
    const plan = await tellPlan(opened);
    let { actual } = plan;
    if (plan.changes > 0) {
      world.say("\nApplying:");
      if (makeKey !== undefined) {
        world.say(describe(makeKey));
        await makeKey.run();
      }
      const reconciled = await reconcile(world, actual, planned);
      actual = reconciled.actual;
      world.say(`\nDone: ${reconciled.made + (makeKey === undefined ? 0 : 1)} changes.`);
    }
    world.say(`\n${contents(actual)}\n\n${usage(actual, settings)}`);
  },

  status: async ({ world, settings }) => {
    const actual = await readActual(world);
    world.say(`${await statusOf(world)}\n${contents(actual)}\n\n${usage(actual, settings)}`);
  },

  doctor: async ({ world }) => {
    const findings = await examine(world);
    world.say(report(findings));
    if (findings.some(({ verdict }) => verdict === "failure")) process.exitCode = 1;
  },

  chat: async ({ world }, { context, approve, decline }, words) => {
    if (words.length === 0) throw new UsageError('Say something: npm run archestra:chat -- "Copy the products index"');
    if (approve === true && decline === true) throw new UsageError("Give one of --approve and --decline.");
    await chat(world, {
      text: words.join(" "),
      contextId: context,
      approve: approve === true ? true : decline === true ? false : undefined,
      progress: (line) => process.stderr.write(`${line}\n`),
      answer: world.say,
    });
  },

  token: async ({ world }) => {
    world.say((await world.api.call(calls.personalToken)).value);
  },

  destroy: async ({ world }, { yes }) => {
    const actual = await readActual(world);
    const changes = removals(actual, world);
    if (changes.length === 0) world.say("Nothing of this program is on the platform.");
    else world.say(`To be removed:\n${changes.map((change) => `  ${describe(change)}`).join("\n")}`);
    if (changes.length > 0 && yes !== true && !(await confirmed())) return world.say("Nothing was removed.");
    await reconcile(world, actual, removals);
    for (const { id } of await ownKeys(world)) {
      world.say("delete API key");
      await world.api.call(calls.deleteApiKey, { params: { id } });
    }
    await world.stateFile.remove();
    world.say("Done. Images stay in the cluster until it goes; databases and their data are untouched.");
  },
};

/** Prints what is to be changed, and returns how much that is, and of what. */
async function tellPlan({ world, makeKey }: Opened): Promise<{ actual: Actual; changes: number }> {
  world.say(await statusOf(world));
  const actual = await readActual(world);
  const changes = [...(makeKey === undefined ? [] : [makeKey]), ...planned(actual, world)];
  for (const warning of world.desired.warnings) world.say(`warning: ${warning}`);
  if (changes.length === 0) world.say("\nNothing to change.");
  else world.say(`\n${changes.length} changes:\n${changes.map((change) => `  ${describe(change)}`).join("\n")}`);
  return { actual, changes: changes.length };
}

async function confirmed(): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError("Nobody can be asked here; --yes says yes.");
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return /^y(es)?$/i.test((await terminal.question("Remove all of this? [y/N] ")).trim());
  } finally {
    terminal.close();
  }
}
