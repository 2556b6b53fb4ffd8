import { ProtocolError, ProtocolErrorCode, Server } from "@modelcontextprotocol/server";
import { z } from "zod";
import { clip } from "./answer.ts";
import { type Boundary, type Caller, callTool } from "./call.ts";
import type { Cursors } from "./cursor.ts";
import { toldByEnvelope } from "./envelope.ts";
import { nearest } from "./nearest.ts";
import { type Offers, offeredCapabilities, serveOffers } from "./offers.ts";
import { showsPages } from "./page.ts";
import { type PublishedTool, publishedTool } from "./publish.ts";
import { QuestionOpen, Questions } from "./question.ts";
import { answersStructured, type StructuredOutput } from "./structured.ts";
import type { RequestOrigin } from "./telemetry/request.ts";
import type { AnyTool, ToolCall } from "./tool.ts";

/** What makes an MCP server of a list of tools. */
export interface ServedTools<Context>
  extends Omit<Boundary<Context>, "caller" | "origin" | "structuredOutput">,
    Offers<Context> {
  structuredOutput: StructuredOutput;
  cursors: Cursors;
  name: string;
  title: string;
  version: string;
  /** What a model reads before it sees any tool. */
  instructions: string;
  tools: readonly AnyTool<Context>[];
  /** How long a person may take to answer a question, in milliseconds; 0 asks nobody. */
  askMs: number;
}

/** How long a client of the 2026 generation may keep a list, in milliseconds. It changes with a new version only. */
const TOOLS_TTL_MS = 300_000;

/** Makes protocol instances over one list of tools: one for each pipe, or for each request over HTTP. */
export function serverFactory<Context>(served: ServedTools<Context>): () => Server {
  const { name, title, version, instructions, structuredOutput, cursors, askMs } = served;
  const tools = new Map(served.tools.map((tool) => [tool.name, tool]));
  if (tools.size !== served.tools.length) throw new Error("two tools have the same name");
  const published = publishedLists(served);
  const cacheHint = { ttlMs: TOOLS_TTL_MS, cacheScope: "public" } as const;
  // What one client is shown of the page and of schemas is not for every other.
  const isSame = served.page === undefined && structuredOutput !== "auto";
  const toolsHint = isSame ? cacheHint : ({ ...cacheHint, cacheScope: "private" } as const);

  return () => {
    const server = new Server(
      { name, title, version },
      {
        capabilities: { tools: {}, ...offeredCapabilities(served) },
        instructions,
        cacheHints: {
          "tools/list": toolsHint,
          "prompts/list": cacheHint,
          "resources/templates/list": cacheHint,
          "server/discover": cacheHint,
        },
      },
    );
    server.setRequestHandler("tools/list", (_request, { mcpReq }) => ({
      tools: published({
        structured: answersStructured(structuredOutput, callerOf(server, mcpReq.envelope)),
        page: showsPages(mcpReq.envelope, server.getClientCapabilities()),
      }),
    }));
    server.setRequestHandler("tools/call", async ({ params }, { mcpReq, http }) => {
      const tool = tools.get(params.name);
      if (tool === undefined) {
        served.logger.info("tool_call", { tool: clip(params.name, 80), outcome: "unknown_tool" });
        throw unknownTool(params.name, tools.keys());
      }
      const caller = callerOf(server, mcpReq.envelope);
      const progress = progressReporter(mcpReq._meta?.progressToken, mcpReq.notify);
      const questions = new Questions({
        tool: tool.name,
        given: params.arguments,
        mcpReq,
        capabilities: server.getClientCapabilities(),
        cursors,
        waitMs: askMs,
      });
      const call = () =>
        callTool(
          tool,
          params.arguments,
          { signal: mcpReq.signal, progress: progress.report, cursors, confirm: questions.confirm },
          {
            ...served,
            caller,
            origin: originOf(server, mcpReq, http?.req),
            structuredOutput: answersStructured(structuredOutput, caller),
          },
        );
      try {
        return { ...(await questions.askingInBetween(call)) };
      } catch (error) {
        if (error instanceof QuestionOpen) return questions.inputRequired(error.question);
        throw error;
      } finally {
        progress.end();
      }
    });
    serveOffers(server, served, (tool, given, request) =>
      callTool(
        tool,
        given,
        { signal: request.signal, progress: () => {}, cursors },
        {
          ...served,
          caller: callerOf(server, request.envelope),
          origin: originOf(server, request, undefined),
          structuredOutput: true,
        },
      ),
    );
    return server;
  };
}

/** The tools as each kind of client sees them, made once. */
function publishedLists<Context>(
  served: ServedTools<Context>,
): (client: { structured: boolean; page: boolean }) => PublishedTool[] {
  const list = (structured: boolean, page: boolean) =>
    served.tools.map((tool) =>
      publishedTool(tool, { structuredOutput: structured, page: page ? served.page : undefined }),
    );
  const text = { plain: list(false, false), withPage: list(false, true) };
  const structured = { plain: list(true, false), withPage: list(true, true) };
  return (client) => (client.structured ? structured : text)[client.page ? "withPage" : "plain"];
}

const callerSchema = z.object({ name: z.string(), version: z.string() });

/** Who calls, as far as the protocol says; nothing proves it. */
function callerOf(server: Server, envelope: object | undefined): Caller | undefined {
  const client = toldByEnvelope(envelope, "clientInfo");
  const parsed = callerSchema.safeParse(client);
  return parsed.success ? parsed.data : server.getClientVersion();
}

/** Where a request comes from, for its trace. */
function originOf(
  server: Server,
  request: Pick<RequestOrigin, "method" | "id"> & { _meta?: object | undefined; envelope?: object | undefined },
  http: Request | undefined,
): RequestOrigin {
  const version = toldByEnvelope(request.envelope, "protocolVersion");
  return {
    method: request.method,
    id: request.id,
    _meta: { ...request._meta },
    protocolVersion: typeof version === "string" ? version : server.getNegotiatedProtocolVersion(),
    headers: http?.headers,
  };
}

function unknownTool(name: string, known: Iterable<string>): ProtocolError {
  const names = [...known];
  const near = nearest(name, names);
  const hint = near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are ${names.join(", ")}.`;
  return new ProtocolError(ProtocolErrorCode.InvalidParams, `There is no tool ${clip(name, 80)}; ${hint}`, {
    nearest: near,
  });
}

/** Progress as the protocol wants it: only for a caller who gave a token, always growing, never after the result. */
function progressReporter(
  progressToken: string | number | undefined,
  notify: (notification: { method: string; params: Record<string, unknown> }) => Promise<void>,
): { report: ToolCall["progress"]; end(): void } {
  let last = -1;
  let ended = false;
  return {
    report({ done, total, message }) {
      if (progressToken === undefined || ended || done <= last) return;
      last = done;
      const params = {
        progressToken,
        progress: done,
        ...(total === undefined ? {} : { total }),
        ...(message === undefined ? {} : { message }),
      };
      // A caller who has gone away misses progress, and that is all.
      notify({ method: "notifications/progress", params }).catch(() => {});
    },
    end() {
      ended = true;
    },
  };
}
