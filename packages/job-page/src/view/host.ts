import { CallFailed, type CallTool } from "./calls.ts";
import { type Fields, fieldsOf, textOf } from "./fields.ts";

const VERSION = "2026-01-26";

/** Longest time for one answer, in milliseconds: a client may ask its user first. */
const TIMEOUT_MS = 120_000;

/** What the page hears of the client that shows it. */
export interface HostEvents {
  input(args: Fields): void;
  result(result: unknown): void;
  cancelled(reason: string): void;
  context(context: Fields): void;
  /** The page is taken away. */
  teardown(): void;
}

/** The client that shows the page, once both have greeted each other. */
export interface Host {
  context: Fields;
  /** Undefined where the client passes on no calls. */
  call: CallTool | undefined;
  sizeChanged: (width: number, height: number) => void;
}

/** Greets the client that shows this page, by MCP Apps: JSON-RPC in messages between windows. */
export async function greetHost(events: HostEvents): Promise<Host> {
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  let requests = 0;
  const request = (method: string, params: object): Promise<unknown> => {
    const id = ++requests;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    waiting.set(id, { resolve, reject });
    const timer = setTimeout(
      () => reject(new CallFailed("unreachable", "The client that shows this page does not answer.")),
      TIMEOUT_MS,
    );
    post({ id, method, params });
    return promise.finally(() => {
      clearTimeout(timer);
      waiting.delete(id);
    });
  };

  const answer = (message: Fields): void => {
    const id = message["id"];
    const asked = typeof id === "number" ? waiting.get(id) : undefined;
    if (message["error"] === undefined) asked?.resolve(message["result"]);
    else
      asked?.reject(
        new CallFailed("unreachable", textOf(fieldsOf(message["error"]), "message") ?? "The client refused."),
      );
  };
  const hear = (method: string, params: Fields, id: unknown): void => {
    switch (method) {
      case "ui/notifications/tool-input":
        return events.input(fieldsOf(params["arguments"]));
      case "ui/notifications/tool-result":
        return events.result(params);
      case "ui/notifications/tool-cancelled":
        return events.cancelled(textOf(params, "reason") ?? "");
      case "ui/notifications/host-context-changed":
        return events.context(params);
      case "ui/resource-teardown":
        events.teardown();
        return post({ id, result: {} });
      case "ping":
        return post({ id, result: {} });
      default:
        // A request must be answered; a notification that this page does not know is none of its business.
        if (id !== undefined) post({ id, error: { code: -32_601, message: `This page does not know ${method}.` } });
    }
  };
  window.addEventListener("message", ({ source, data }) => {
    if (source !== window.parent) return;
    const message = fieldsOf(data);
    if (message["jsonrpc"] !== "2.0") return;
    const method = textOf(message, "method");
    if (method === undefined) answer(message);
    else hear(method, fieldsOf(message["params"]), message["id"]);
  });

  const greeting = fieldsOf(
    await request("ui/initialize", {
      protocolVersion: VERSION,
      appInfo: { name: "job-page", title: "Exports and loads", version: "0.1.0" },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    }),
  );
  const mayCall = fieldsOf(greeting["hostCapabilities"])["serverTools"] !== undefined;
  post({ method: "ui/notifications/initialized", params: {} });
  return {
    context: fieldsOf(greeting["hostContext"]),
    call: mayCall ? (tool, args) => request("tools/call", { name: tool, arguments: args }) : undefined,
    sizeChanged: (width, height) => post({ method: "ui/notifications/size-changed", params: { width, height } }),
  };
}

function post(message: object): void {
  // The client's origin cannot be known before it speaks; what goes there is no secret of the page's.
  window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
}
