import type { z } from "zod";
import type { AnyTool, ToolDefinition } from "./tool.ts";

/** Where the values of an argument come from: words, or a reading tool that is asked with what is typed so far. */
export type Completion<Context> =
  | readonly string[]
  | {
      tool: AnyTool<Context>;
      arguments(typed: string): Record<string, unknown>;
      /** The values in an answer of the tool. */
      values(answer: unknown): string[];
    };

/** Makes completions out of a server's tools: `const completeWith = completionsFor<EsContext>()`. */
export function completionsFor<Context>() {
  return <Input extends z.ZodObject, Output extends z.ZodObject>(
    tool: ToolDefinition<Context, Input, Output>,
    ask: (typed: string) => z.input<Input>,
    values: (answer: z.output<Output>) => string[],
  ): Completion<Context> => ({ tool, arguments: ask, values: (answer) => values(tool.output.parse(answer)) });
}
