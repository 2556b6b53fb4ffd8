import { z } from "zod";

/** One wish of the model: call this tool. */
export interface Wish {
  tool: string;
  args: Record<string, unknown>;
}

/** What the model says in one turn: calls side by side, or words to the user, whose answer it then waits for. */
export type Turn = { calls: Wish[] } | { say: string };

/** What the model reads after a turn: one text for each call, or the user's answer. */
export type Heard = string[];

/**
 * A scripted model: it yields turns, hears what came of them, and returns its last words. Like a model it knows nothing
 * but the texts that it heard, so it is run from the start for every request, over the messages that the request brings.
 */
export type Script = Generator<Turn, string, Heard>;

/** A tool's answer as the script reads it. */
export type Told = z.infer<typeof toldSchema>;
const toldSchema = z.looseObject({
  error: z.looseObject({ code: z.string(), nearest: z.array(z.string()).optional() }).optional(),
});

/** As agent-prompt.md asks: jobs are polled briefly. */
export const waitSeconds = 20;

/** Makes calls side by side and reads their answers, in order. */
export function* call(...wishes: [tool: string, args: Record<string, unknown>][]): Generator<Turn, Told[], Heard> {
  const heard = yield { calls: wishes.map(([tool, args]) => ({ tool, args })) };
  return heard.map((text) => toldSchema.parse(JSON.parse(text)));
}

/** Polls a job that was started until it has ended. */
export function* finish([started]: Told[], poll: string, handle: string): Generator<Turn, Told, Heard> {
  let state: Told = started ?? {};
  while (state.error === undefined && state["status"] === "working") {
    const [next] = yield* call([poll, { [handle]: state[handle], wait_seconds: waitSeconds }]);
    state = next ?? {};
  }
  return state;
}

/** Says something and waits for the user's answer. */
export function* ask(words: string): Generator<Turn, string, Heard> {
  const [answer = ""] = yield { say: words };
  return answer;
}

/** A member of an answer, which a model would see at once and a script has to be told the type of. */
export function read<Schema extends z.ZodType>(told: Told | undefined, name: string, schema: Schema): z.infer<Schema> {
  return schema.parse(told?.[name]);
}
