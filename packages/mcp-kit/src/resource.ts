import type { Completion } from "./completion.ts";
import type { AnyTool } from "./tool.ts";

/**
 * A kind of resource as one plain value: what a reading tool answers, under an address. So a resource never shows what
 * the tool would not, and costs as much.
 */
export interface ResourceDefinition<Context> {
  /** An address with one name in braces at its end, such as `es://mapping/{index}`. */
  uriTemplate: string;
  name: string;
  title: string;
  description: string;
  tool: AnyTool<Context>;
  arguments(value: string): Record<string, unknown>;
  complete: Completion<Context>;
  /** Whether all of its values are listed, too. A list is asked for at every start of a client, so it must be cheap. */
  listed: boolean;
}
