import { requestElasticsearch, seedProducts } from "@es-to-pg/seed";
import type { Browser, BrowserContext, Frame, FrameLocator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { AppClient } from "../src/app-client.ts";
import { openBrowser } from "../src/browser.ts";
import { type HostSite, serveHostSite } from "../src/host-site.ts";
import { entryPoint, type HttpServer, startHttpServer } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

/** Values that would act if anything on the way to the page took them for markup. */
const hostile = {
  id: `<img src=x onerror="top.hacked=1;hacked=1">`,
  value: `<script>top.hacked=1;hacked=1</script>`,
  table: `"><svg onload="top.hacked=1;hacked=1">`,
};
const documents = [
  { id: "1", n: "17" },
  { id: "2", n: "18" },
  { id: hostile.id, n: hostile.value },
  { id: "\u202egnp.exe", n: "\u202e12" },
];
const mapping = {
  columns: [
    { column: "id", from: "_id" },
    { column: "n", from: "n" },
  ],
  key: ["id"],
};
/** A name of this machine that the server has never heard of. */
const foreignName = "jobs.test";
const token = "a-token-of-this-test";

let place: Place;
let site: HostSite;
let browser: Browser;
let es: AppClient;
let pg: AppClient;
let exportId: string;

beforeAll(async () => {
  place = await makePlace();
  const { index } = place;
  const mappings = { properties: { n: { type: "keyword" } } };
  await place.es("PUT", index, JSON.stringify({ mappings }));
  for (const { id, n } of documents) {
    await place.es("PUT", `${index}/_doc/${encodeURIComponent(id)}`, JSON.stringify({ n }));
  }
  await place.es("POST", `${index}/_refresh`);
  site = await serveHostSite();
  browser = await openBrowser([foreignName]);
  es = await AppClient.open("es-mcp", place.env);
  pg = await AppClient.open("pg-mcp", place.env);
  exportId = idOf(await es.call("bulk_export", { index }), "export_id");
});

afterAll(async () => {
  for (const one of [es, pg, site, place]) await one[Symbol.asyncDispose]();
  await browser.close();
});

let context: BrowserContext;
let page: Page;
/** What the browser complained of: a policy that was broken, a script that failed. */
let complaints: string[];

beforeEach(async () => {
  context = await browser.newContext({ viewport: { width: 760, height: 900 } });
  page = await context.newPage();
  complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
});

afterEach(async () => {
  await context.close();
});

function idOf(result: object, name: string): string {
  const answer = z.object({ structuredContent: z.record(z.string(), z.unknown()) }).parse(result);
  return z.string().parse(answer.structuredContent[name]);
}

/** A table of its own for a load of the four documents. */
async function tableOf(name: string): Promise<{ table: string; schema: string; export_id: string; mapping: object }> {
  await place.sql(`CREATE TABLE ${place.schema}."${name.replaceAll('"', '""')}" (id text PRIMARY KEY, n integer)`);
  return { table: name, schema: place.schema, export_id: exportId, mapping };
}

async function openHost(client: AppClient): Promise<void> {
  await client.serve(page);
  await page.goto(site.url);
}

function calledTools(): Promise<string[]> {
  return page.evaluate("host.called");
}

/** The window in which the page itself runs. */
function viewFrame(): Frame {
  const frame = page.frames().at(-1);
  if (frame === undefined) throw new Error("there is no frame");
  return frame;
}

/** Texts whose contrast with what lies behind them is below what WCAG AA asks for. */
const faint = `[...document.querySelectorAll("body *")].flatMap((element) => {
  const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
  if (text === "" || element.closest(".unseen, script, style, noscript") || element.getClientRects().length === 0) return [];
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  let behind = element, ground = [0, 0, 0, 0];
  while (behind && ground[3] < 255) { ground = rgb(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
  const light = (color) => color.slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return ratio < 4.5 ? [text + ": " + ratio.toFixed(2)] : [];
})`;

/** Whether something is wider than the window. */
const overflows = "document.documentElement.scrollWidth > document.documentElement.clientWidth";

async function showLoad(name: string, theme: "light" | "dark" = "light"): Promise<FrameLocator> {
  const args = await tableOf(name);
  await openHost(pg);
  const frame = await pg.show(page, "bulk_insert", { theme });
  await pg.showCall(page, "bulk_insert", args);
  return frame;
}

async function giveToken(given: string): Promise<void> {
  await page.getByLabel("Token").waitFor();
  await page.keyboard.type(given);
  await page.keyboard.press("Enter");
}

describe("in a client that shows pages", () => {
  it("shows a load: its figures, the law, and rejects by reason", async () => {
    const frame = await showLoad("plain");
    await frame.getByRole("heading", { name: `${place.schema}.plain` }).waitFor();
    await expect.poll(() => frame.locator(".sum").innerText()).toBe("4 expected = 2 inserted + 2 rejected");
    expect(await frame.locator(".verdict").innerText()).toBe("Every document is accounted for.");
    expect(await frame.locator(".verdict").getAttribute("data-verdict")).toBe("holds");
    expect(await frame.locator(".badge").innerText()).toBe("Completed");
    const bar = frame.getByRole("progressbar", { name: "Documents" });
    expect(await bar.getAttribute("aria-valuetext")).toBe("4 of 4 documents");
    const reject = frame.locator(".rejects li");
    expect(await reject.count()).toBe(1);
    expect(await reject.locator(".count").innerText()).toBe("2");
    expect(await reject.locator(".reason").innerText()).toBe("not an integer in n");
    expect(await frame.locator("section", { hasText: "Next step" }).innerText()).toContain("list_rejects");
    expect(complaints).toEqual([]);
    expect(await calledTools()).toEqual([]);
  });

  it("takes no document and no name for markup", async () => {
    const frame = await showLoad(hostile.table);
    await frame.getByRole("heading", { name: `${place.schema}.${hostile.table}`, exact: true }).waitFor();
    expect(await frame.locator(".example").innerText()).toContain(hostile.id);
    expect(await frame.locator(".example").innerText()).toContain(hostile.value);
    expect(await frame.locator("main").locator("img, script, svg[onload]").count()).toBe(0);
    expect(await viewFrame().evaluate("globalThis.hacked")).toBeUndefined();
    expect(await page.evaluate("globalThis.hacked")).toBeUndefined();
    expect(complaints).toEqual([]);
  });

  it("follows a load that works, and asks no more once it has ended", async () => {
    const args = await tableOf("slow");
    await openHost(pg);
    const frame = await pg.show(page, "bulk_insert", { theme: "light" });
    // Nobody can write while this holds the table, and everybody can read.
    await place.sql("BEGIN");
    await place.sql(`LOCK TABLE ${place.schema}.slow IN EXCLUSIVE MODE`);
    await pg.showCall(page, "bulk_insert", { ...args, wait_seconds: 0 });
    await frame.getByText("Working", { exact: true }).waitFor();
    await expect.poll(async () => (await calledTools()).length, { timeout: 20_000 }).toBeGreaterThan(1);
    expect(await frame.locator(".verdict").getAttribute("data-verdict")).toBe("open");
    await place.sql("COMMIT");
    await frame.getByText("Completed", { exact: true }).waitFor({ timeout: 30_000 });
    expect(await frame.locator(".sum").innerText()).toBe("4 expected = 2 inserted + 2 rejected");
    expect(await frame.getByRole("status").textContent()).toContain("completed, 4 of 4 documents");
    const called = await calledTools();
    expect([...new Set(called)]).toEqual(["get_load"]);
    await page.waitForTimeout(2_500);
    expect(await calledTools()).toEqual(called);
  });

  it("asks nothing more once it is taken away", async () => {
    const args = await tableOf("gone");
    await openHost(pg);
    const frame = await pg.show(page, "bulk_insert", { theme: "light" });
    await place.sql("BEGIN");
    await place.sql(`LOCK TABLE ${place.schema}.gone IN EXCLUSIVE MODE`);
    await pg.showCall(page, "bulk_insert", { ...args, wait_seconds: 0 });
    await frame.getByText("Working", { exact: true }).waitFor();
    await page.evaluate("host.teardown()");
    const called = await calledTools();
    await page.waitForTimeout(2_500);
    expect(await calledTools()).toEqual(called);
    await place.sql("COMMIT");
  });

  it("says so where the client passes on no calls", async () => {
    const args = await tableOf("mute");
    await openHost(pg);
    const frame = await pg.show(page, "bulk_insert", { theme: "light", calls: false });
    await place.sql("BEGIN");
    await place.sql(`LOCK TABLE ${place.schema}.mute IN EXCLUSIVE MODE`);
    await pg.showCall(page, "bulk_insert", { ...args, wait_seconds: 0 });
    await frame.getByText("This client lets the page ask nothing").waitFor();
    await place.sql("COMMIT");
    expect(await calledTools()).toEqual([]);
  });

  it("shows a comparison with what it found", async () => {
    const args = await tableOf("compared");
    const loadId = idOf(await pg.call("bulk_insert", args), "load_id");
    await place.sql(`UPDATE ${place.schema}.compared SET n = 99 WHERE id = '1'`);
    await openHost(pg);
    const frame = await pg.show(page, "verify_load", { theme: "light" });
    await pg.showCall(page, "verify_load", { load_id: loadId });
    await frame.getByText("Different", { exact: true }).waitFor();
    const sum = await frame.locator(".sum").innerText();
    expect(sum.replaceAll(/\s+/g, " ")).toBe("4 staged: 1 matched · 0 missing · 1 different · 2 rejected");
    expect(await frame.locator("section", { hasText: "Columns that differ" }).innerText()).toContain("n");
    expect(await calledTools()).toEqual([]);
  });

  it("shows why a tool failed, and what to do", async () => {
    await openHost(pg);
    const frame = await pg.show(page, "get_load", { theme: "dark", calls: false });
    await pg.showCall(page, "get_load", { load_id: "load_00000000000000000000000000" });
    await frame.locator(".box.bad").waitFor();
    expect(await frame.locator(".box.bad h2").innerText()).toBe("unknown load");
    expect(await viewFrame().evaluate(faint)).toEqual([]);
  });

  it("lists exports, opens one, and leads back, by keyboard alone", async () => {
    await openHost(es);
    const frame = await es.show(page, "list_exports", { theme: "light" });
    await es.showCall(page, "list_exports", {});
    await frame.getByRole("heading", { name: "Exports" }).waitFor();
    await frame.getByRole("button").first().focus();
    expect(await viewFrame().evaluate("getComputedStyle(document.activeElement).outlineStyle")).toBe("solid");
    await page.keyboard.press("Enter");
    await frame.getByText("Every document is staged.").waitFor();
    expect(await frame.locator(".sum").innerText()).toBe("4 expected = 4 staged");
    await frame.getByRole("button", { name: "All jobs" }).focus();
    await page.keyboard.press("Enter");
    await frame.getByRole("heading", { name: "Exports" }).waitFor();
    expect(await calledTools()).toEqual(["get_export", "list_exports"]);
  });

  it.each(["light", "dark"] as const)(
    "is readable in the client's %s theme, and follows when it changes",
    async (theme) => {
      const frame = await showLoad(`themed_${theme}`, theme);
      await frame.getByText("Completed", { exact: true }).waitFor();
      const ground = (): Promise<string> => viewFrame().evaluate("getComputedStyle(document.body).backgroundColor");
      const grounds = { light: "rgb(255, 255, 255)", dark: "rgb(20, 23, 27)" };
      expect(await ground()).toBe(grounds[theme]);
      await frame.getByText("Details").click();
      expect(await viewFrame().evaluate(faint)).toEqual([]);
      const other = theme === "light" ? "dark" : "light";
      await page.evaluate(`host.theme("${other}")`);
      await expect.poll(ground).toBe(grounds[other]);
      expect(await viewFrame().evaluate(faint)).toEqual([]);
    },
  );

  it("takes the client's own colours and fonts", async () => {
    const args = await tableOf("styled");
    await openHost(pg);
    const variables = { "--color-background-primary": "rgb(1, 2, 3)", "--font-sans": "Georgia", "--other": "x" };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a client may give some of the variables, which its type does not say
    const styles = { variables } as unknown as NonNullable<Parameters<AppClient["show"]>[2]["styles"]>;
    const frame = await pg.show(page, "bulk_insert", { theme: "dark", styles });
    await pg.showCall(page, "bulk_insert", args);
    await frame.getByText("Completed", { exact: true }).waitFor();
    expect(await viewFrame().evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(1, 2, 3)");
    expect(await viewFrame().evaluate("getComputedStyle(document.body).fontFamily")).toBe("Georgia");
    expect(await viewFrame().evaluate("document.documentElement.style.getPropertyValue('--other')")).toBe("");
  });

  it("fits a narrow window, tells its height, and moves nothing where nothing shall move", async () => {
    await page.setViewportSize({ width: 340, height: 700 });
    await page.emulateMedia({ reducedMotion: "reduce" });
    const frame = await showLoad("narrow_as_a_telephone_and_with_quite_a_long_name");
    await frame.getByText("Completed", { exact: true }).waitFor();
    expect(await viewFrame().evaluate(overflows)).toBe(false);
    const heights = async (): Promise<unknown[]> => [
      (await page.locator("iframe").boundingBox())?.height,
      await viewFrame().evaluate("Math.ceil(document.body.getBoundingClientRect().height)"),
    ];
    await expect
      .poll(async () => {
        const [outer, inner] = await heights();
        return Math.abs(Number(outer) - Number(inner)) <= 2;
      })
      .toBe(true);
    expect(await viewFrame().evaluate("getComputedStyle(document.querySelector('.segment')).transitionDuration")).toBe(
      "0s",
    );
  });
});

describe("at / of a server", () => {
  let server: HttpServer;
  let loadId: string;

  beforeAll(async () => {
    server = await startHttpServer(entryPoint("pg-mcp"), { ...place.env, MCP_HTTP_TOKEN: token });
    loadId = idOf(await pg.call("bulk_insert", await tableOf("served")), "load_id");
  });

  afterAll(async () => {
    await server.stop();
  });

  const root = (): string => new URL("/", server.url).href;

  it("shows nothing without the token, and says what becomes of it", async () => {
    const requests: string[] = [];
    page.on("request", (request) => requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await page.goto(root());
    await page.getByRole("heading", { name: "This server asks for a token" }).waitFor();
    expect(await page.getByLabel("Token").evaluate((input) => input.matches(":focus"))).toBe(true);
    expect(await page.locator("body").innerText()).not.toMatch(/load_|served/);
    expect(await page.locator("#token-note").innerText()).toContain("forgotten when the tab is closed");
    await giveToken("wrong");
    await page.getByRole("alert").waitFor();
    expect(await page.getByRole("alert").innerText()).toBe("The server refused this token.");
    expect(await page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")).toBe('[{},{},""]');
    expect([...new Set(requests)]).toEqual(["GET /", "POST /mcp"]);
  });

  it("lists loads and shows one, by keyboard alone, in a tab that forgets the token", async () => {
    await page.goto(root());
    await giveToken(token);
    await page.getByRole("heading", { name: "Loads" }).waitFor();
    expect(page.url()).toBe(root());
    expect(await page.evaluate("JSON.stringify([localStorage, document.cookie])")).toBe('[{},""]');
    const line = page.getByRole("button", { name: `${place.schema}.served` });
    await line.waitFor();
    for (let presses = 0; presses < 40 && !(await line.evaluate((one) => one.matches(":focus"))); presses++) {
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Enter");
    await page.getByText("Every document is accounted for.").waitFor();
    expect(page.url()).toBe(`${root()}#${loadId}`);
    await page.reload();
    await page.getByText("Every document is accounted for.").waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "Loads" }).waitFor();
    await page.getByRole("button", { name: "Forget the token" }).click();
    await page.getByRole("heading", { name: "This server asks for a token" }).waitFor();
  });

  it.each(["light", "dark"] as const)("is readable where the system is %s", async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    await page.goto(root());
    await page.getByLabel("Token").waitFor();
    expect(await page.evaluate(faint)).toEqual([]);
    await giveToken(token);
    await page.getByRole("heading", { name: "Loads" }).waitFor();
    expect(await page.evaluate(faint)).toEqual([]);
    expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).toBe(
      colorScheme === "dark" ? "rgb(20, 23, 27)" : "rgb(255, 255, 255)",
    );
    await page.setViewportSize({ width: 320, height: 700 });
    expect(await page.evaluate(overflows)).toBe(false);
  });

  it("runs nothing that was not in it when it was built", async () => {
    await page.goto(root());
    await page.getByLabel("Token").waitFor();
    complaints.length = 0;
    await page.evaluate(`{
      const script = document.createElement("script");
      try { script.textContent = "globalThis.hacked = 1"; } catch {}
      document.body.append(script);
      try { document.body.innerHTML += "<img src=x onerror='globalThis.hacked = 1'>"; } catch (error) { globalThis.refused = error.name; }
    }`);
    expect(await page.evaluate("[globalThis.hacked, globalThis.refused]")).toEqual([undefined, "TypeError"]);
    const gone = await page.evaluate(`fetch("http://localhost:9/").then(() => "sent", () => "refused")`);
    expect(gone).toBe("refused");
    expect(complaints.join("\n")).toContain("connect-src 'self'");
  });

  it("cannot be framed by another site", async () => {
    await page.goto(site.url);
    await page.evaluate(`{
      const frame = document.createElement("iframe");
      frame.src = ${JSON.stringify(root())};
      document.body.append(frame);
    }`);
    await expect.poll(() => complaints.join("\n")).toContain("frame-ancestors 'none'");
  });

  it("shows what was asked for last, however late an earlier answer comes", async () => {
    await page.goto(root());
    await giveToken(token);
    await page.getByRole("button", { name: `${place.schema}.served` }).waitFor();
    const { promise: mayAnswer, resolve: letAnswer } = Promise.withResolvers<void>();
    await page.route("**/mcp", async (route) => {
      if (route.request().postData()?.includes("get_load") === true) await mayAnswer;
      await route.continue();
    });
    await page.getByRole("button", { name: `${place.schema}.served` }).click();
    await page.getByText("Asking for its state").waitFor();
    await page.getByRole("button", { name: "All jobs" }).click();
    await page.getByRole("button", { name: `${place.schema}.served` }).waitFor();
    const answered = page.waitForResponse((response) => response.request().postData()?.includes("get_load") === true);
    letAnswer();
    await (await answered).finished();
    await page.waitForTimeout(300);
    expect(await page.getByRole("heading").allInnerTexts()).toEqual(["Loads"]);
  });

  it("gives data to no page of a name that it does not know, though it has the token", async () => {
    await page.goto(`http://${foreignName}:${new URL(server.url).port}/`);
    await page.getByText("This Origin is not allowed; MCP_HTTP_ALLOWED_ORIGINS lists those that are.").waitFor();
    expect(await page.locator("body").innerText()).not.toMatch(/load_|served/);
  });

  it("needs no token where the server has none, and says when the server is away", async () => {
    const open = await startHttpServer(entryPoint("es-mcp"), place.env);
    await page.goto(new URL("/", open.url).href);
    await page.getByRole("heading", { name: "Exports" }).waitFor();
    await page.getByRole("button", { name: place.index }).first().waitFor();
    await open.stop();
    await page.getByText("The server does not answer.").waitFor({ timeout: 20_000 });
    // What was heard last stays to be read.
    expect(await page.getByRole("button", { name: place.index }).count()).toBeGreaterThan(0);
  });
});

it("moves while documents move", async () => {
  const name = `${place.index}_many`;
  // More than fits one part, so that there is something to be seen in between.
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: name, generate: { count: 120_000 } });
  try {
    await openHost(es);
    const frame = await es.show(page, "bulk_export", { theme: "light" });
    await es.showCall(page, "bulk_export", { index: name, wait_seconds: 0 });
    const seen = new Set<string>();
    const bar = frame.getByRole("progressbar", { name: "Documents" });
    await expect
      .poll(
        async () => {
          seen.add((await bar.getAttribute("aria-valuenow")) ?? "");
          return frame.getByText("Completed", { exact: true }).isVisible();
        },
        { timeout: 60_000, interval: 20 },
      )
      .toBe(true);
    expect(seen.size).toBeGreaterThan(1);
    expect(await frame.locator(".pace").innerText()).toMatch(/per second on average$/);
  } finally {
    await requestElasticsearch(inject("elasticsearchUrl"), { method: "DELETE", path: name }, [404]);
  }
});
