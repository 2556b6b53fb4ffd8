import type { Completion } from "./completion.ts";

/** What a user is asked for before a prompt is written. */
export interface PromptArgument<Context> {
  name: string;
  description: string;
  required: boolean;
  complete?: Completion<Context>;
}

/** A prompt as one plain value: what the user says to the model by choosing it. */
export interface PromptDefinition<Context> {
  name: string;
  title: string;
  description: string;
  arguments: readonly PromptArgument<Context>[];
  /** The user's message. Arguments that were not given are undefined. */
  text(values: Readonly<Record<string, string | undefined>>): string;
}
