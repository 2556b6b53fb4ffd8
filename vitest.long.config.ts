import { defineConfig } from "vitest/config";

/** What takes minutes and is no part of `npm test`: other PostgreSQL versions, a pooler, Docker, a browser, clients, exports and loads that are ill-treated, fuzzing, and the protocol's own suite. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "pg-matrix",
          include: ["packages/pg-mcp/test/**/*.integration.test.ts", "packages/pg-mcp/test/**/*.pooler.test.ts"],
          // Ask Elasticsearch alone.
          exclude: ["meaning", "shapes"].map((name) => `packages/pg-mcp/test/mapping-${name}.integration.test.ts`),
          globalSetup: ["packages/engines/src/vitest-postgres.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "pg-refused",
          include: ["packages/pg-mcp/test/**/*.refused.test.ts"],
          globalSetup: ["packages/engines/src/vitest-postgres.ts"],
        },
      },
      {
        test: {
          // Starts an Elasticsearch of its own, because it kills it.
          name: "chaos",
          include: ["packages/es-mcp/test/**/*.chaos.test.ts"],
          testTimeout: 900_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          // In the Chromium of this machine.
          name: "page",
          include: ["packages/e2e/test/**/*.page.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          // Fetches the clients from the registries; Python 3.10 or later for one of them.
          name: "clients",
          include: ["packages/e2e/test/**/*.clients.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          testTimeout: 400_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "fuzz",
          include: ["packages/*/test/**/*.fuzz.test.ts"],
          testTimeout: 7_200_000,
        },
      },
      {
        test: {
          name: "dirt",
          include: ["packages/pg-mcp/test/**/*.long.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          testTimeout: 600_000,
        },
      },
      {
        test: {
          // Fetches the conformance suite of the protocol from the registry.
          name: "conformance",
          include: ["packages/e2e/test/**/*.suite.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          // Needs Prometheus, Alertmanager and postgres_exporter: Debian's packages of these names.
          name: "monitoring",
          include: ["packages/e2e/test/**/*.monitoring.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          testTimeout: 180_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          // Builds the images and starts containers: one file at a time is load enough.
          name: "docker",
          include: ["packages/*/test/**/*.docker.test.ts", "archestra/test/**/*.docker.test.ts"],
          globalSetup: ["packages/engines/src/vitest-docker.ts"],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 1_200_000,
        },
      },
      {
        test: {
          // Needs kubectl, and Go, which brings the schemas.
          name: "kubernetes",
          include: ["archestra/test/**/*.kubectl.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          // Needs Python 3.10 or later, and installs Airflow and Prefect.
          name: "pipelines",
          include: ["archestra/test/**/*.python.test.ts"],
          testTimeout: 900_000,
        },
      },
      {
        test: {
          name: "replicas",
          include: ["packages/e2e/test/**/*.replicas.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          // A lease, and the time until somebody looks.
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: "chaos-load",
          include: ["packages/pg-mcp/test/**/*.chaos.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
