/** Why a call came back without a tool's result. */
export class CallFailed extends Error {
  override readonly name = "CallFailed";
  /** `denied` asks for a token; `refused` will stay so; `unreachable` may pass. */
  readonly reason: "denied" | "refused" | "unreachable";

  constructor(reason: "denied" | "refused" | "unreachable", message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Calls a tool and hands on its result, or throws a `CallFailed`. */
export type CallTool = (tool: string, args: Record<string, unknown>) => Promise<unknown>;
