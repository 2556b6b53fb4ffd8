import type { CallToolResult, Tool } from "@modelcontextprotocol/client";
import {
  AppBridge,
  type McpUiHostCapabilities,
  type McpUiHostContext,
  PostMessageTransport,
} from "@modelcontextprotocol/ext-apps/app-bridge";

/** What the test gives this page to show: a tool, its page, and how the client looks. */
export interface Shown {
  tool: Tool;
  html: string;
  theme: "light" | "dark";
  styles?: NonNullable<McpUiHostContext["styles"]>;
  /** Whether the page may call tools. */
  calls: boolean;
}

declare global {
  interface Window {
    /** Calls a tool of the real server; the test process has the connection. */
    callServerTool(name: string, args: Record<string, unknown>): Promise<CallToolResult>;
    host: Host;
  }
}

/** A client that shows pages, as small as it can be: the extension's own bridge, a sandbox of another origin, one page. */
class Host {
  readonly #sandbox = new URLSearchParams(location.search).get("sandbox") ?? "";
  #bridge: AppBridge | undefined;
  /** Tools that the page called. */
  readonly called: string[] = [];

  async show({ tool, html, theme, styles, calls }: Shown): Promise<void> {
    document.documentElement.dataset["theme"] = theme;
    document.querySelector("iframe")?.remove();
    const frame = document.createElement("iframe");
    frame.title = tool.title ?? tool.name;
    const capabilities: McpUiHostCapabilities = calls ? { serverTools: {} } : {};
    const hostContext = { theme, toolInfo: { tool }, ...(styles === undefined ? {} : { styles }) };
    const bridge = new AppBridge(null, { name: "host", version: "1.0.0" }, capabilities, { hostContext });
    bridge.oncalltool = ({ name, arguments: args = {} }) => {
      this.called.push(name);
      return window.callServerTool(name, { ...args });
    };
    bridge.addEventListener("sizechange", ({ height }) => {
      if (height !== undefined) frame.style.height = `${height}px`;
    });
    const initialized = new Promise<void>((resolve) => bridge.addEventListener("initialized", () => resolve()));
    const ready = new Promise<void>((resolve) => bridge.addEventListener("sandboxready", () => resolve()));
    document.querySelector("#conversation")?.append(frame);
    const view = frame.contentWindow;
    if (view === null) throw new Error("the frame has no window");
    await bridge.connect(new PostMessageTransport(view, view));
    frame.src = this.#sandbox;
    await ready;
    await bridge.sendSandboxResourceReady({ html });
    await initialized;
    this.#bridge = bridge;
  }

  async input(args: Record<string, unknown>): Promise<void> {
    await this.#bridge?.sendToolInput({ arguments: args });
  }

  async result(result: CallToolResult): Promise<void> {
    await this.#bridge?.sendToolResult(result);
  }

  theme(theme: "light" | "dark"): void {
    document.documentElement.dataset["theme"] = theme;
    this.#bridge?.setHostContext({ theme });
  }

  async teardown(): Promise<void> {
    await this.#bridge?.teardownResource({});
  }
}

window.host = new Host();
