/** What can be checked of archestra/monitoring without Prometheus; with it, `npm run test:monitoring` checks the rest. */
import { readdirSync, readFileSync } from "node:fs";
import { parser } from "@prometheus-io/lezer-promql";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { seriesNames } from "./metrics.ts";
import { monitoringFolder, panelQueries } from "./monitoring.ts";

const root = new URL("../../../", import.meta.url);

/** Series that others show: Prometheus itself, postgres_exporter, and the platform. */
const FOREIGN =
  /^(up|ALERTS|pg_(stat_database_xact_commit|database_size_bytes)|llm_(request_duration_seconds_(sum|count)|tokens_total)|mcp_tool_call_duration_seconds_sum)$/;

const rulesSchema = z.object({
  groups: z.array(
    z.object({
      rules: z.array(
        z.object({
          alert: z.string(),
          expr: z.string(),
          annotations: z.object({ summary: z.string(), runbook_url: z.string() }),
          labels: z.object({ severity: z.enum(["warning", "critical"]) }),
        }),
      ),
    }),
  ),
});
const ruleTestsSchema = z.object({
  tests: z.array(
    z.object({
      alert_rule_test: z.array(z.object({ alertname: z.string(), exp_alerts: z.array(z.unknown()) })),
    }),
  ),
});

function readYaml(path: string): unknown {
  return parse(readFileSync(new URL(path, monitoringFolder), "utf8"), { merge: true });
}

const rules = rulesSchema.parse(readYaml("prometheus/rules.yml")).groups.flatMap((group) => group.rules);
const queries = panelQueries("5m", "1h");
const known = seriesNames();

/** The series that a query asks for; throws where it is no PromQL. */
function seriesOf(query: string): string[] {
  const names: string[] = [];
  parser.parse(query).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${query}`);
      if (node.name === "Identifier" && node.node.parent?.name === "VectorSelector") {
        names.push(query.slice(node.from, node.to));
      }
    },
  });
  return names;
}

describe("the dashboard", () => {
  it.each(queries)("asks in $panel for series that there are", ({ query }) => {
    const names = seriesOf(query);
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !known.has(name) && !FOREIGN.test(name))).toEqual([]);
  });
});

describe("the alert", () => {
  it.each(rules)("$alert asks for series that there are", ({ expr }) => {
    const names = seriesOf(expr);
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !known.has(name) && !FOREIGN.test(name))).toEqual([]);
  });

  it.each(rules)("$alert has a runbook where its link leads", ({ alert, annotations }) => {
    const link = /\/(docs\/[\w-]+\.md)#([\w-]+)$/.exec(annotations.runbook_url);
    const page = readFileSync(new URL(link?.[1] ?? "", root), "utf8");
    const anchors = [...page.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) => title.toLowerCase().replaceAll(" ", "-"));
    expect(anchors).toContain(link?.[2]);
    expect(link?.[2]).toBe(alert.toLowerCase());
  });

  it.each(rules)("$alert has a test that fires it and one that does not", ({ alert }) => {
    const tests = ruleTestsSchema
      .parse(readYaml("prometheus/rules.test.yml"))
      .tests.flatMap(({ alert_rule_test: ofTest }) => ofTest.filter(({ alertname }) => alertname === alert));
    expect(tests.some(({ exp_alerts: fired }) => fired.length > 0)).toBe(true);
    expect(tests.some(({ exp_alerts: fired }) => fired.length === 0)).toBe(true);
  });
});

const composeSchema = z.object({
  services: z.record(
    z.string(),
    z.object({
      profiles: z.array(z.string()),
      volumes: z.array(z.string()).default([]),
      ports: z.array(z.string()).default([]),
    }),
  ),
});
const composed = composeSchema.parse(parse(readFileSync(new URL("docker-compose.yml", root), "utf8"), { merge: true }));
const monitoring = Object.entries(composed.services).filter(([, { profiles }]) => profiles.includes("monitoring"));

describe("the profile monitoring", () => {
  it("mounts files that are there, and opens ports on this machine alone", () => {
    const mounted = monitoring.flatMap(([, { volumes }]) => volumes.filter((volume) => volume.startsWith("./")));
    expect(mounted.length).toBeGreaterThan(4);
    for (const volume of mounted) {
      const path = volume.split(":")[0] ?? "";
      expect(readdirSync(new URL(path.slice(0, path.lastIndexOf("/") + 1), root))).toContain(path.split("/").at(-1));
    }
    const ports = monitoring.flatMap(([, service]) => service.ports);
    expect(ports.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([]);
  });

  it("scrapes and reads from services that the project has", () => {
    const texts = [
      readFileSync(new URL("prometheus/prometheus.yml", monitoringFolder), "utf8"),
      readFileSync(new URL("grafana/provisioning/datasources/datasources.yml", monitoringFolder), "utf8"),
      readFileSync(new URL("collector/otel-collector.yml", monitoringFolder), "utf8"),
    ];
    const hosts = texts.flatMap((text) => [...text.matchAll(/\b([a-z][a-z-]+):\d{4,5}\b/g)].map(([, host]) => host));
    const services = new Set<string | undefined>(Object.keys(composed.services));
    expect(hosts).toContain("es-mcp");
    expect(hosts.filter((host) => host !== "localhost" && !services.has(host))).toEqual([]);
  });

  it.each(["alertmanager/alertmanager.yml", "grafana/provisioning/dashboards/dashboards.yml"])(
    "can read %s",
    (path) => {
      expect(readYaml(path)).toBeTypeOf("object");
    },
  );
});
