import { z } from "zod";
import { protocols } from "../agent/conversation.ts";
import type { Driver } from "./run-task.ts";

const set = z
  .string()
  .optional()
  .transform((text) => (text === "" ? undefined : text));

const environmentSchema = z.object({
  EVAL_MODEL: set,
  EVAL_BASE_URL: set.pipe(z.url({ protocol: /^https?$/ }).optional()),
  EVAL_API_KEY: set,
  EVAL_PROTOCOL: set.pipe(z.enum(protocols).default("openai")),
});

/** Who drives the tasks, by the environment; throws a sentence that says what is wrong with it. */
export function readDriver(environment: Record<string, string | undefined>): Driver {
  const read = environmentSchema.safeParse(environment);
  if (!read.success) {
    throw new Error(read.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; "));
  }
  const { EVAL_MODEL: model, EVAL_BASE_URL: baseUrl, EVAL_API_KEY: apiKey, EVAL_PROTOCOL: protocol } = read.data;
  if (model !== undefined) {
    // Servers of one's own mostly want none, and the clients demand something.
    return { model: { protocol, baseUrl, apiKey: apiKey ?? "none", model } };
  }
  if (baseUrl === undefined && apiKey === undefined) return { recordedOver: protocol };
  throw new Error("EVAL_BASE_URL or EVAL_API_KEY is set, but EVAL_MODEL is not: say which model, or unset them.");
}
