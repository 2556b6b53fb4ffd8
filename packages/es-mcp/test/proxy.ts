import { createServer, type IncomingMessage, type RequestListener, request, type ServerResponse } from "node:http";
import { createServer as createTlsServer, request as requestTls, type ServerOptions } from "node:https";
import { setTimeout as delay } from "node:timers/promises";

/** What stands before Elasticsearch does with a request: answers it itself, or lets it through. */
export type Rule = (request: {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  /** What was sent with it. */
  body: string;
}) => { status: number; body: unknown } | Trouble | undefined;

/** No answer at all, a connection that breaks off after some bytes of the answer, or an answer that comes late. */
type Trouble = "hang" | { cutAfterBytes: number } | { delayMs: number };

export interface Proxy extends AsyncDisposable {
  url: string;
  /** Method and path of everything that came. */
  seen: string[];
}

export interface ProxyOptions {
  /** How the proxy itself is reached by TLS; plain HTTP without it. */
  tls?: ServerOptions;
  /** The authority of a target that speaks TLS. */
  ca?: string;
  /** A path that Elasticsearch does not know of: it is taken off, and what lies beside it is not found. */
  prefix?: string;
}

/** What may stand before Elasticsearch: a security layer, a terminator of TLS, a path. */
export async function openProxy(target: string, rule: Rule, options: ProxyOptions = {}): Promise<Proxy> {
  const { tls, prefix = "" } = options;
  const seen: string[] = [];
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const { method = "GET", url = "/", headers } = incoming;
    seen.push(`${method} ${url}`);
    const body = Buffer.concat(await incoming.toArray());
    const answer = rule({ method, path: url, headers, body: body.toString() });
    if (answer === "hang") return;
    if (answer === undefined || !("status" in answer)) {
      if (!url.startsWith(`${prefix}/`)) {
        outgoing.writeHead(404).end("<html>not found</html>");
        return;
      }
      const to = { url: new URL(url.slice(prefix.length), target), ca: options.ca };
      const late = answer !== undefined && "delayMs" in answer ? answer.delayMs : 0;
      const cut = answer !== undefined && "cutAfterBytes" in answer ? answer.cutAfterBytes : undefined;
      if (late > 0) await delay(late);
      forward(to, { incoming, body }, outgoing, cut);
    } else {
      const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
      outgoing.writeHead(answer.status, { "content-type": "application/json", "x-elastic-product": "Elasticsearch" });
      outgoing.end(text);
    }
  };
  // Who goes away in the middle of a request needs no answer.
  const listener: RequestListener = (incoming, outgoing) =>
    void handle(incoming, outgoing).catch(() => outgoing.destroy());
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${address.port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The answer of Elasticsearch's security to a request that the credentials do not permit. */
export function forbidden(action: string): { status: number; body: unknown } {
  const cause = { type: "security_exception", reason: `action [${action}] is unauthorized for user [reader]` };
  return { status: 403, body: { error: { root_cause: [cause], ...cause }, status: 403 } };
}

function forward(
  { url, ca }: { url: URL; ca: string | undefined },
  { incoming, body }: { incoming: IncomingMessage; body: Buffer },
  outgoing: ServerResponse,
  cutAfterBytes?: number,
): void {
  const send = url.protocol === "https:" ? requestTls : request;
  const upstream = send(
    url,
    { method: incoming.method, headers: { ...incoming.headers, host: url.host }, ...(ca === undefined ? {} : { ca }) },
    (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      if (cutAfterBytes === undefined) answer.pipe(outgoing);
      else {
        answer.once("data", (chunk: Buffer) => {
          outgoing.write(chunk.subarray(0, cutAfterBytes), () => outgoing.socket?.resetAndDestroy());
        });
      }
    },
  );
  upstream.on("error", () => outgoing.destroy());
  upstream.end(body);
}
