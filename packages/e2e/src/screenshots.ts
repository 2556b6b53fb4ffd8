/**
 * `npm run screenshots`: writes docs/images, the pages of jobs as a person sees them: in a client that shows pages and in
 * a browser, light and dark, from real servers that move real documents.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { acquireEngines } from "@es-to-pg/engines";
import { createSampleDatabase, seedProducts } from "@es-to-pg/seed";
import { Client } from "pg";
import type { Browser, Locator, Page } from "playwright-core";
import { AppClient } from "./app-client.ts";
import { openBrowser } from "./browser.ts";
import { elasticsearchEnvironment } from "./elasticsearch-environment.ts";
import { serveHostSite } from "./host-site.ts";
import { entryPoint, startHttpServer } from "./servers.ts";

/** Enough to be seen at work, and one bad document of each kind in every thousand. */
const documents = 300_000;
const token = "a-token-for-pictures";
const folder = fileURLToPath(new URL("../../../docs/images/", import.meta.url));

await using stack = new AsyncDisposableStack();
const engines = await acquireEngines();
stack.defer(() => engines.stop());
const { elasticsearchUrl } = engines;
const staging = await mkdtemp(join(tmpdir(), "es-to-pg-screenshots-"));
stack.defer(() => rm(staging, { recursive: true, force: true }));
const databaseUrl = await createSampleDatabase(engines.databaseUrl);
const database = new Client({ connectionString: databaseUrl });
await database.connect();
stack.defer(() => database.end());
await database.query("DROP SCHEMA IF EXISTS shop, pictures CASCADE");
await database.query("CREATE SCHEMA shop");
const env = {
  ...elasticsearchEnvironment(elasticsearchUrl),
  DATABASE_URL: databaseUrl,
  STAGING_URL: pathToFileURL(staging).href,
  // Of its own, so that the list shows these loads and no others.
  PG_MCP_STATE_SCHEMA: "pictures",
};
await mkdir(folder, { recursive: true });
await seedProducts({ elasticsearchUrl, index: "products", generate: { count: documents, dirty: true } });

const site = stack.use(await serveHostSite());
const browser = await openBrowser();
stack.defer(() => browser.close());
const es = stack.use(await AppClient.open("es-mcp", env));
const pg = stack.use(await AppClient.open("pg-mcp", env));

const exported = await pictureExport();
await pictureLoad(exported);
await pictureServer();

async function pictureExport(): Promise<string> {
  const page = await openPage(browser, site.url);
  await es.serve(page);
  const frame = await es.show(page, "bulk_export", { theme: "light" });
  const result = await es.showCall(page, "bulk_export", { index: "products", wait_seconds: 0 });
  const { export_id } = Object(result.structuredContent);
  await reach(frame.getByRole("progressbar"), 0.3);
  await picture(page, "export-working", page.locator("iframe"));
  await frame.getByText("Completed", { exact: true }).waitFor({ timeout: 300_000 });
  await page.close();
  return String(export_id);
}

async function pictureLoad(export_id: string): Promise<void> {
  const { structuredContent } = await pg.call("propose_mapping", { export_id, table: "products", schema: "shop" });
  const { mapping_id: mapping } = Object(structuredContent);
  await pg.call("create_table", { table: "products", schema: "shop", mapping });
  const page = await openPage(browser, site.url);
  await pg.serve(page);
  const frame = await pg.show(page, "bulk_insert", { theme: "light" });
  const { structuredContent: started } = await pg.showCall(page, "bulk_insert", {
    table: "products",
    schema: "shop",
    export_id,
    mapping,
    wait_seconds: 0,
  });
  await reach(frame.getByRole("progressbar"), 0.2);
  await picture(page, "load-working", page.locator("iframe"));
  await frame.getByText("Completed", { exact: true }).waitFor({ timeout: 300_000 });
  await picture(page, "load-completed", page.locator("iframe"));
  // So that there is a list: what would happen, and what was stopped.
  await pg.call("bulk_insert", {
    table: "products",
    schema: "shop",
    export_id,
    mapping,
    dry_run: true,
    wait_seconds: 45,
  });
  await pg.call("bulk_insert", {
    table: "products",
    schema: "shop",
    export_id,
    mapping,
    max_rejects: 100,
    wait_seconds: 45,
  });
  await pg.show(page, "verify_load", { theme: "light" });
  await pg.showCall(page, "verify_load", { load_id: Object(started).load_id, wait_seconds: 45 });
  await frame.getByText("Next step for the assistant").waitFor();
  await picture(page, "verified", page.locator("iframe"));
  await page.close();
}

async function pictureServer(): Promise<void> {
  const server = await startHttpServer(entryPoint("pg-mcp"), { ...env, MCP_HTTP_TOKEN: token });
  stack.defer(() => server.stop());
  const page = await openPage(browser, new URL("/", server.url).href);
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.locator(".lines").waitFor();
  await picture(page, "jobs", page.locator("body"));
  await page.close();
}

async function openPage(from: Browser, url: string): Promise<Page> {
  const page = await from.newPage({ viewport: { width: 760, height: 900 }, deviceScaleFactor: 1.5 });
  page.on("pageerror", (error) => process.stderr.write(`${error.message}\n`));
  await page.goto(url);
  return page;
}

/** Waits until a part of the documents is done. */
async function reach(bar: Locator, part: number): Promise<void> {
  for (;;) {
    const now = await bar.getAttribute("aria-valuenow").catch(() => null);
    if (Number(now) >= documents * part) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function picture(page: Page, name: string, what: Locator): Promise<void> {
  for (const theme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: theme });
    await page.evaluate(`globalThis.host?.theme(${JSON.stringify(theme)})`);
    await page.waitForTimeout(100);
    await what.screenshot({ path: join(folder, `${name}-${theme}.png`), animations: "disabled" });
  }
}
