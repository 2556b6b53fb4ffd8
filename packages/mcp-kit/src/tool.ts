import type { z } from "zod";
import type { Cursors } from "./cursor.ts";
import type { Question } from "./question.ts";

/** The four hints, all written out: an undefined hint is a silent gap for the client that gates on it. */
export interface ToolAnnotations {
  readOnlyHint: boolean;
  destructiveHint: boolean;
  idempotentHint: boolean;
  openWorldHint: boolean;
}

/** What the protocol brings with one call. */
export interface ToolCall {
  /** Aborts when the caller cancels or goes away. It ends waiting, never a job. */
  signal: AbortSignal;
  /** Sends a progress notification if the caller asked for them, else does nothing. `done` never decreases. */
  progress: (update: { done: number; total?: number; message?: string }) => void;
  /** Makes and reads the cursors of paged answers. */
  cursors: Cursors;
  /**
   * Asks the person behind the call, and returns after a yes. Called before anything is done, as the call is made again
   * with the answer. Absent where nobody can be asked, so it is never the only gate.
   */
  confirm?: ((question: Question) => void) | undefined;
}

/**
 * A tool as one plain value. `input` is strict, so that a misspelt argument is answered and not dropped; `output`
 * describes the object that `handler` returns. Every failure that a caller can cause is thrown as a `ToolError`.
 */
export interface ToolDefinition<
  Context,
  Input extends z.ZodObject = z.ZodObject,
  Output extends z.ZodObject = z.ZodObject,
> {
  name: string;
  title: string;
  description: string;
  input: Input;
  output: Output;
  annotations: ToolAnnotations;
  /** Set where the server's page shows what this tool answers. */
  onPage?: true;
  handler(params: z.output<Input>, context: Context & ToolCall): Promise<z.input<Output>>;
}

/** A tool whose schemas the holder does not care about, as a server's list of tools keeps it. */
export type AnyTool<Context> = ToolDefinition<Context>;

/** The identity function that types a tool for a server's context: `export const defineTool = toolsFor<EsContext>()`. */
export function toolsFor<Context>() {
  return <Input extends z.ZodObject, Output extends z.ZodObject>(
    tool: ToolDefinition<Context, Input, Output>,
  ): ToolDefinition<Context, Input, Output> => tool;
}
