import { createServer, type IncomingHttpHeaders } from "node:http";
import { gunzipSync } from "node:zlib";
import { z } from "zod";

/** A span as OTLP/JSON carries it, with its attributes as an object. */
export interface ReceivedSpan {
  service: string;
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  /** 1 internal, 2 server, 3 client. */
  kind: number;
  attributes: Record<string, unknown>;
  /** 2 where it failed. */
  status: number;
}

const valueSchema = z.record(z.string(), z.unknown()).transform((value) => {
  const [[kind, inner] = ["", undefined]] = Object.entries(value);
  return kind === "intValue" ? Number(inner) : inner;
});
const attributesSchema = z
  .array(z.object({ key: z.string(), value: valueSchema }))
  .default([])
  .transform((pairs) => Object.fromEntries(pairs.map(({ key, value }) => [key, value])));
const resourceSchema = z.object({ attributes: attributesSchema });
const tracesSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: resourceSchema,
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.object({
              traceId: z.string(),
              spanId: z.string(),
              parentSpanId: z.string().default(""),
              name: z.string(),
              kind: z.number(),
              attributes: attributesSchema,
              status: z.object({ code: z.number().default(0) }).default({ code: 0 }),
            }),
          ),
        }),
      ),
    }),
  ),
});
const metricsSchema = z.object({
  resourceMetrics: z.array(
    z.object({ scopeMetrics: z.array(z.object({ metrics: z.array(z.looseObject({ name: z.string() })) })) }),
  ),
});

/** A collector that keeps what it is sent, and reads it where it is OTLP/JSON. */
export interface OtlpReceiver extends AsyncDisposable {
  url: string;
  spans: ReceivedSpan[];
  /** Names of the metrics that came. */
  metrics: Set<string>;
  /** All that came, as text. */
  text: string;
  headers: IncomingHttpHeaders[];
}

/** Listens on a free port of loopback. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const text = (request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body).toString("utf8");
      receiver.text += text;
      receiver.headers.push(request.headers);
      if (request.headers["content-type"] === "application/json") take(request.url ?? "", JSON.parse(text));
      response.writeHead(200, { "Content-Type": "application/json" }).end("{}");
    });
  });
  const take = (path: string, body: unknown): void => {
    if (path === "/v1/traces") {
      for (const { resource, scopeSpans } of tracesSchema.parse(body).resourceSpans) {
        const service = String(resource.attributes["service.name"]);
        for (const { status, ...span } of scopeSpans.flatMap(({ spans }) => spans)) {
          receiver.spans.push({ ...span, service, status: status.code });
        }
      }
    } else if (path === "/v1/metrics") {
      for (const { scopeMetrics } of metricsSchema.parse(body).resourceMetrics) {
        for (const { name } of scopeMetrics.flatMap(({ metrics }) => metrics)) receiver.metrics.add(name);
      }
    }
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the receiver has no address");
  const receiver: OtlpReceiver = {
    url: `http://127.0.0.1:${address.port}`,
    spans: [],
    metrics: new Set(),
    text: "",
    headers: [],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return receiver;
}
