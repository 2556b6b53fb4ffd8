import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { fileURLToPath } from "node:url";
import { freePort } from "@es-to-pg/engines";
import { seedProducts } from "@es-to-pg/seed";
import { afterAll, beforeAll, describe, expect, inject, it, vi } from "vitest";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { runCourse } from "../src/course.ts";
import { monitoringFolder, panelQueries } from "../src/monitoring.ts";
import { entryPoint, type HttpServer, openUrl, type ServerName, startHttpServer } from "../src/servers.ts";
import { Daemon, lintMetrics, type Prometheus, runTool, startPrometheus } from "./prometheus.ts";
import { makePlace, type Place } from "./support.ts";

const path = (name: string): string => fileURLToPath(new URL(name, monitoringFolder));
const metricsToken = "opens-metrics";
const token = "opens-all";

let place: Place;
let servers: Record<ServerName, HttpServer>;
let exporter: Daemon;
let platform: Server;
let prometheus: Prometheus;
let targets: Record<string, string>;

/** The value of the one series that a query finds. */
async function valueOf(query: string): Promise<number | undefined> {
  return (await prometheus.query(query))[0]?.value;
}

/** One label of all series that a query finds. */
async function labelsOf(query: string, label: string): Promise<(string | undefined)[]> {
  return (await prometheus.query(query)).map(({ labels }) => labels[label]).toSorted();
}

/** Waits until Prometheus has scraped what a query finds. */
async function scraped(query: string): Promise<void> {
  await vi.waitFor(async () => {
    if ((await prometheus.query(query)).length === 0) throw new Error(`${query} finds nothing`);
  }, 60_000);
}

const patience = { timeout: 60_000, interval: 1_000 };

/** A whole course, and a call with an error, which the panel of errors is about. */
async function run(): Promise<void> {
  const { index, schema } = place;
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index });
  const headers = { Authorization: `Bearer ${token}` };
  const [es, pg] = [await openUrl(servers["es-mcp"].url, headers), await openUrl(servers["pg-mcp"].url, headers)];
  await runCourse({ es, pg, index, schema, table: "products" });
  const look = () => Promise.all([es.call("list_indices"), pg.call("list_tables")]);
  await es.call("count_documents", { index: `${index}-that-is-not` });
  await look();
  // A rate needs a tool to be called again once its first call was seen.
  await scraped(
    'count(mcp_server_operation_duration_seconds_count{gen_ai_tool_name=~"list_indices|list_tables"}) == 2',
  );
  await look();
  await Promise.all([es.close(), pg.close()]);
}

describe("the rules", () => {
  it("are what Prometheus takes, and fire when they should and only then", async () => {
    await runTool("promtool", ["check", "rules", path("prometheus/rules.yml")]);
    expect(await runTool("promtool", ["test", "rules", path("prometheus/rules.test.yml")])).toContain("SUCCESS");
  });

  it("are sent on by a configuration that Alertmanager takes", async () => {
    expect(await runTool("amtool", ["check-config", path("alertmanager/alertmanager.yml")])).toContain("SUCCESS");
  });
});

describe("after a real run", () => {
  beforeAll(async () => {
    place = await makePlace();
    const env = { ...place.env, MCP_HTTP_TOKEN: token, MCP_METRICS: "on", MCP_METRICS_TOKEN: metricsToken };
    servers = {
      "es-mcp": await startHttpServer(entryPoint("es-mcp"), env),
      "pg-mcp": await startHttpServer(entryPoint("pg-mcp"), env),
    };
    const exporterAddress = `127.0.0.1:${await freePort()}`;
    const database = new URL(inject("databaseUrl"));
    database.searchParams.set("sslmode", "disable");
    exporter = await Daemon.start("prometheus-postgres-exporter", [`--web.listen-address=${exporterAddress}`], {
      url: `http://${exporterAddress}/metrics`,
      env: { DATA_SOURCE_NAME: database.href },
    });
    platform = await startPlatform();
    targets = {
      "es-mcp": new URL(servers["es-mcp"].url).host,
      "pg-mcp": new URL(servers["pg-mcp"].url).host,
      postgresql: exporterAddress,
      archestra: addressOf(platform),
    };
    prometheus = await startPrometheus(configFor(targets));
    // Counters are there with their zeros before anything happens, as they are for who watches all the time.
    await scraped("etl_load_rows_total");
    await run();
  });

  afterAll(async () => {
    await prometheus?.[Symbol.asyncDispose]();
    platform?.close();
    await exporter?.[Symbol.asyncDispose]();
    await Promise.all(Object.values(servers ?? {}).map((server) => server.stop()));
    await place?.[Symbol.asyncDispose]();
  });

  it("every target of the configuration is scraped", async () => {
    await expect.poll(() => labelsOf("up == 1", "job"), patience).toEqual(Object.keys(targets).toSorted());
  });

  it.each(panelQueries("1m", "5m"))("the panel $panel shows something", async ({ query }) => {
    const found = async () => (await prometheus.query(query)).filter(({ value }) => Number.isFinite(value)).length;
    await expect.poll(found, patience).toBeGreaterThan(0);
  });

  it("the figures are those of the run", async () => {
    await expect.poll(() => valueOf('etl_load_rows_total{outcome="inserted"}'), patience).toBe(15);
    await expect.poll(() => valueOf("etl_export_documents_total"), patience).toBe(15);
    await expect.poll(() => valueOf('etl_jobs{kind="load",state="completed"}'), patience).toBe(1);
    await expect.poll(() => valueOf('sum(ALERTS{alertstate="firing"}) or vector(0)'), patience).toBe(0);
  });

  it.each([
    ["es-mcp", ""],
    // The semantic conventions call it so, and a collector hands it on under the same name.
    ["pg-mcp", 'db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix\n'],
  ] as const)("promtool takes what %s shows", async (name, complaints) => {
    const headers = { Authorization: `Bearer ${metricsToken}` };
    const text = await (await fetch(new URL("/metrics", servers[name].url), { headers })).text();
    expect(await lintMetrics(text)).toBe(complaints);
  });

  it("a server that ends is told", async () => {
    await servers["es-mcp"].stop();
    await expect
      .poll(() => labelsOf('ALERTS{alertname="ServerDown",job="es-mcp"}', "alertstate"), patience)
      .toEqual(["pending"]);
  });
});

const configSchema = z.looseObject({
  global: z.object({ scrape_interval: z.string(), evaluation_interval: z.string() }),
  scrape_configs: z.array(
    z.looseObject({
      job_name: z.string(),
      authorization: z.object({ credentials_file: z.string() }).optional(),
      static_configs: z.array(z.object({ targets: z.array(z.string()) })),
    }),
  ),
});

/** The configuration of the bundle, with the addresses, the tokens and the patience of this test. */
function configFor(addresses: Record<string, string>): string {
  const config = configSchema.parse(parse(readFileSync(path("prometheus/prometheus.yml"), "utf8")));
  const scrapes = config.scrape_configs
    .filter(({ job_name: name }) => name in addresses)
    .map(({ authorization, ...scrape }) => ({
      ...scrape,
      static_configs: [{ targets: [addresses[scrape.job_name]] }],
      ...(authorization === undefined ? {} : { authorization: { credentials: metricsToken } }),
    }));
  expect(scrapes).toHaveLength(Object.keys(addresses).length);
  return stringify({
    global: { scrape_interval: "2s", scrape_timeout: "2s", evaluation_interval: "2s" },
    rule_files: [path("prometheus/rules.yml")],
    scrape_configs: scrapes,
  });
}

/** The platform's metrics, by the names and labels that its documentation gives them; the platform is none of this project's. */
async function startPlatform(): Promise<Server> {
  let seconds = 0;
  const server = createServer((request, response) => {
    seconds += 1;
    if (request.headers.authorization !== `Bearer ${metricsToken}`) return response.writeHead(401).end();
    const agent = 'agent_id="1",agent_name="Data Transformer",agent_type="agent"';
    return response.end(
      [
        "# TYPE llm_request_duration_seconds histogram",
        `llm_request_duration_seconds_bucket{${agent},model="m",le="+Inf"} ${seconds}`,
        `llm_request_duration_seconds_sum{${agent},model="m"} ${seconds * 2}`,
        `llm_request_duration_seconds_count{${agent},model="m"} ${seconds}`,
        "# TYPE mcp_tool_call_duration_seconds histogram",
        `mcp_tool_call_duration_seconds_bucket{${agent},tool_name="t",le="+Inf"} ${seconds}`,
        `mcp_tool_call_duration_seconds_sum{${agent},tool_name="t"} ${seconds / 2}`,
        `mcp_tool_call_duration_seconds_count{${agent},tool_name="t"} ${seconds}`,
        "# TYPE llm_tokens_total counter",
        `llm_tokens_total{${agent},model="m",type="input"} ${seconds * 100}`,
        "",
      ].join("\n"),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

function addressOf(server: Server): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no address");
  return `127.0.0.1:${address.port}`;
}
