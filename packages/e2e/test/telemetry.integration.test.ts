import { fifteenProducts, seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from "../../mcp-kit/test/otlp-receiver.ts";
import { Caller, runCourse } from "../src/course.ts";
import {
  entryPoint,
  type HttpServer,
  openUrl,
  type ServerName,
  type Session,
  startHttpServer,
} from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

const token = "opens-the-servers";
const traceId = "0af7651916cd43dd8448eb211c80319c";
const callerSpan = "b7ad6b7169203331";

let place: Place;
let receiver: OtlpReceiver;
let started: HttpServer[] = [];

beforeEach(async () => {
  place = await makePlace();
  receiver = await startOtlpReceiver();
});

afterEach(async () => {
  await stopServers();
  await receiver[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

/** Ends the servers, by which they send what they have gathered. */
async function stopServers(): Promise<void> {
  await Promise.all(started.map((server) => server.stop()));
  started = [];
}

/** A server as an operator runs it, watched, and a client whose calls belong to a trace. */
async function open(name: ServerName): Promise<{ session: Session; server: HttpServer }> {
  const server = await startHttpServer(entryPoint(name), {
    ...place.env,
    MCP_HTTP_TOKEN: token,
    MCP_METRICS: "on",
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  });
  started.push(server);
  const headers = { Authorization: `Bearer ${token}`, traceparent: `00-${traceId}-${callerSpan}-01` };
  return { server, session: await openUrl(server.url, headers) };
}

async function metricsOf(server: HttpServer): Promise<string> {
  const headers = { Authorization: `Bearer ${token}` };
  return await (await fetch(new URL("/metrics", server.url), { headers })).text();
}

/** Names of a span and of those above it, the outermost first. */
function pathOf(span: ReceivedSpan): string[] {
  const parent = receiver.spans.find(({ spanId }) => spanId === span.parentSpanId);
  return [...(parent === undefined ? [] : pathOf(parent)), span.name];
}

function pathsOf(wanted: (span: ReceivedSpan) => boolean): string[][] {
  return receiver.spans.filter(wanted).map(pathOf);
}

describe("a whole run that is watched", () => {
  it("is one trace with the right tree, which holds no row and no secret", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const [es, pg] = [await open("es-mcp"), await open("pg-mcp")];
    const { index, schema } = place;
    await runCourse({ es: es.session, pg: pg.session, index, schema, table: "products" });
    await es.session.call("get_document", { index, id: "prod-007" });
    await pg.session.call("execute_query", { sql: `SELECT name FROM ${schema}.products WHERE id = 'prod-007'` });
    await Promise.all([es.session.close(), pg.session.close()]);
    await stopServers();

    const { spans } = receiver;
    expect(new Set(spans.map((span) => span.traceId))).toEqual(new Set([traceId]));
    const calls = spans.filter(({ kind }) => kind === 2);
    expect(new Set(calls.map(({ parentSpanId }) => parentSpanId))).toEqual(new Set([callerSpan]));
    expect(calls.map(({ service, name }) => `${service}: ${name}`)).toEqual(
      expect.arrayContaining([
        "es-mcp: tools/call bulk_export",
        "pg-mcp: tools/call propose_mapping",
        "pg-mcp: tools/call bulk_insert",
        "pg-mcp: tools/call verify_load",
      ]),
    );
    expect(pathsOf(({ name }) => name === "export part")).toEqual([
      ["tools/call bulk_export", "export", "export part"],
    ]);
    expect(pathsOf(({ name }) => name === "load part")).toEqual([["tools/call bulk_insert", "load", "load part"]]);
    expect(pathsOf(({ name }) => name === "verification")).toEqual([["tools/call verify_load", "verification"]]);
    // Pages are of the export and not of a part: one is on its way while a part is closed.
    expect(pathsOf(({ name }) => name === "search")).toContainEqual(["tools/call bulk_export", "export", "search"]);
    expect(
      pathsOf(({ attributes }) => attributes["db.operation.name"] === "COPY").map((path) => path.slice(0, 3)),
    ).toContainEqual(["tools/call bulk_insert", "load", "load part"]);

    const part = spans.find(({ name }) => name === "load part");
    expect(part?.attributes).toMatchObject({ "etl.part": 0, "etl.documents": 15, "etl.rejected": 0 });
    const load = spans.find(({ name }) => name === "load");
    expect(load?.attributes).toMatchObject({ "etl.outcome": "completed", "etl.staged": 15, "etl.inserted": 15 });
    const page = spans.find(({ name }) => name === "search");
    expect(page).toMatchObject({
      kind: 3,
      attributes: {
        "db.system.name": "elasticsearch",
        "db.operation.name": "search",
        "http.request.method": "POST",
        "db.response.status_code": "200",
      },
    });

    const documents = await fifteenProducts();
    const values = documents.flatMap(({ source }) =>
      Object.values(JSON.parse(String(source))).filter(
        (value): value is string => typeof value === "string" && value.length > 6,
      ),
    );
    expect(values.length).toBeGreaterThan(30);
    expect(values.filter((value) => receiver.text.includes(value))).toEqual([]);
    const { password } = new URL(inject("databaseUrl"));
    for (const secret of [token, password, "SELECT name"].filter((text) => text !== "")) {
      expect(receiver.text).not.toContain(secret);
    }
  });

  it("leaves no spans of the looks that a call takes at what it waits for", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const [es, pg] = [await open("es-mcp"), await open("pg-mcp")];
    const { index, schema } = place;
    await runCourse({ es: es.session, pg: pg.session, index, schema, table: "products" });
    await Promise.all([es.session.close(), pg.session.close()]);
    await stopServers();
    const ofCall = receiver.spans.find(({ name }) => name === "tools/call bulk_insert")?.spanId;
    const commits = receiver.spans.filter(
      ({ parentSpanId, attributes }) => parentSpanId === ofCall && attributes["db.operation.name"] === "COMMIT",
    );
    // The state, the plan and the decision; each look at the load would be one more.
    expect(commits.length).toBeLessThanOrEqual(6);
  });

  it("is counted: documents, bytes, rows by outcome, jobs, requests, connections, staging", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const [es, pg] = [await open("es-mcp"), await open("pg-mcp")];
    const { index, schema } = place;
    const before = await metricsOf(pg.server);
    expect(before).toContain('etl_load_rows_total{outcome="rejected"} 0');
    expect(before).toContain('etl_conservation_breaches_total{kind="load"} 0');
    const { export: exported } = await runCourse({ es: es.session, pg: pg.session, index, schema, table: "products" });
    await es.session.call("count_documents", { index: `${index}-that-is-not` });
    const [ofEs, ofPg] = [await metricsOf(es.server), await metricsOf(pg.server)];
    // Jobs are counted where they are kept, and that is looked at every few seconds only.
    const kept = async () => lines(await metricsOf(pg.server))['etl_jobs{kind="load",state="completed"}'];
    await expect.poll(kept, { timeout: 20_000, interval: 500 }).toBe("1");
    await Promise.all([es.session.close(), pg.session.close()]);

    expect(lines(ofEs)).toMatchObject({
      etl_export_documents_total: "15",
      etl_export_size_bytes_total: String(exported.bytes),
      'etl_jobs_ended_total{kind="export",outcome="completed"}': "1",
      'etl_tool_errors_total{gen_ai_tool_name="count_documents",code="index_not_found"}': "1",
      'etl_dependency_up{dependency="elasticsearch"}': "1",
      'etl_dependency_up{dependency="staging"}': "1",
      'etl_jobs{kind="export",state="stalled"}': "0",
    });
    expect(Number(lines(ofEs)["etl_staging_usage_bytes"])).toBeGreaterThan(exported.bytes);
    expect(Number(lines(ofEs)["etl_staging_limit_bytes"])).toBeGreaterThan(exported.bytes);
    expect(ofEs).toContain(
      'db_client_operation_duration_seconds_count{db_system_name="elasticsearch",db_operation_name="search"}',
    );
    expect(lines(ofPg)).toMatchObject({
      etl_load_documents_total: "15",
      'etl_load_rows_total{outcome="inserted"}': "15",
      'etl_load_rows_total{outcome="rejected"}': "0",
      'etl_jobs_ended_total{kind="load",outcome="completed"}': "1",
      'etl_jobs_ended_total{kind="verification",outcome="completed"}': "1",
      'etl_conservation_breaches_total{kind="verification"}': "0",
      'etl_dependency_up{dependency="postgresql"}': "1",
      'db_client_connection_max{db_client_connection_pool_name="writer"}': "6",
    });
    expect(ofPg).toContain(
      'db_client_operation_duration_seconds_count{db_system_name="postgresql",db_operation_name="COPY"}',
    );
    // Names of indices, tables and columns, and ids, would be new series with every run.
    for (const text of [ofEs, ofPg]) expect(text).not.toMatch(new RegExp(`${index}|exp_|load_[0-9a-z]{26}|products`));
  });

  it("tells a comparison that finds a difference as a breach", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const [es, pg] = [await open("es-mcp"), await open("pg-mcp")];
    const { index, schema } = place;
    const { load } = await runCourse({ es: es.session, pg: pg.session, index, schema, table: "products" });
    await place.sql(`DELETE FROM ${schema}.products WHERE id = 'prod-003'`);
    await new Caller({}).call(pg.session, "verify_load", { load_id: load.load_id });
    const text = await metricsOf(pg.server);
    await Promise.all([es.session.close(), pg.session.close()]);
    expect(lines(text)).toMatchObject({ 'etl_conservation_breaches_total{kind="verification"}': "1" });
  });
});

/** Samples by name and labels. */
function lines(text: string): Record<string, string> {
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    samples.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]),
  );
}
