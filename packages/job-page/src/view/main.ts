import { answerOf } from "./answer.ts";
import { Desk, type JobKind } from "./desk.ts";
import { drawTokenForm } from "./draw.ts";
import { become, button, element } from "./element.ts";
import { type Fields, fieldsOf, numberOf, textOf } from "./fields.ts";
import { greetHost, type Host } from "./host.ts";
import { serverCalls } from "./server.ts";

const { documentElement: root, body } = document;
const page = document.querySelector("#page") ?? body;
const said = document.querySelector("#said");
const kind: JobKind = root.dataset["jobs"] === "loads" ? "loads" : "exports";
const { endpoint = "" } = root.dataset;

/** Where the token lies for as long as the tab does. */
const TOKEN_KEY = "mcp-token";

function show(view: HTMLElement, title: string): void {
  become(page, element("main", {}, view));
  document.title = title;
}

function say(sentence: string): void {
  if (said !== null) said.textContent = sentence;
}

function token(): string | undefined {
  return sessionStorage.getItem(TOKEN_KEY) ?? undefined;
}

/** The job that the page's address names. */
function addressed(): string | undefined {
  return /^#((?:exp|load)_[\w-]+)$/.exec(location.hash)?.[1];
}

/** The page in a browser tab: all jobs of the server that it came from. */
function openOnServer(): void {
  root.dataset["place"] = "server";
  const forget = button("Forget the token", () => {
    sessionStorage.removeItem(TOKEN_KEY);
    location.reload();
  });
  const foot = element("footer", {}, element("span", {}, location.host, " · this page only looks"), forget);
  body.append(foot);
  const showFoot = (): void => {
    forget.hidden = token() === undefined;
  };
  const desk = new Desk(
    {
      call: serverCalls(endpoint, token),
      isPatient: true,
      show: (view, title) => show(view, `${title} · ${location.host}`),
      say,
      moved(id) {
        const hash = id === undefined ? "" : `#${id}`;
        if (location.hash !== hash) history.pushState(null, "", `${location.pathname}${hash}`);
      },
      denied(problem) {
        desk.leave();
        const had = token() !== undefined;
        sessionStorage.removeItem(TOKEN_KEY);
        showFoot();
        const use = (given: string): void => {
          sessionStorage.setItem(TOKEN_KEY, given);
          open();
        };
        show(drawTokenForm(had ? problem : undefined, use), `Token · ${location.host}`);
        document.querySelector<HTMLInputElement>("#token")?.focus();
      },
    },
    kind,
  );
  const open = (): void => {
    showFoot();
    const id = addressed();
    if (id === undefined) desk.openList();
    else desk.openJob(id);
  };
  window.addEventListener("popstate", open);
  open();
}

/** The page in a conversation: what one tool answered, by grace of the client that shows it. */
async function openInHost(): Promise<void> {
  root.dataset["place"] = "host";
  show(element("p", { class: "about" }, "Waiting for the client …"), "Job");
  let host: Host | undefined;
  let desk: Desk | undefined;
  // What comes before the greeting has ended is kept: the client may be quick.
  const early: (() => void)[] = [];
  const soon = (act: (desk: Desk) => void): void => {
    const ready = desk;
    if (ready === undefined) early.push(() => soon(act));
    else act(ready);
  };
  host = await greetHost({
    input: (args) => soon((ready) => begin(ready, args, host)),
    result: (result) => soon((ready) => ready.showAnswer(answerOf(result))),
    cancelled: (reason) => soon((ready) => ready.notice("The call was cancelled", reason)),
    context: applyContext,
    teardown: () => desk?.leave(),
  });
  applyContext(host.context);
  desk = new Desk({ call: host.call, isPatient: false, show, say }, kind);
  desk.notice("Waiting for the tool", "Its answer will show here.");
  const { sizeChanged } = host;
  new ResizeObserver(() => {
    sizeChanged(root.clientWidth, Math.ceil(body.getBoundingClientRect().height));
  }).observe(body);
  for (const act of early.splice(0)) act();
}

/** What can be shown before the tool has answered: a job that was asked about by its id is asked about here, too. */
function begin(desk: Desk, args: Fields, host: Host | undefined): void {
  const tool = textOf(fieldsOf(fieldsOf(host?.context["toolInfo"])["tool"]), "name");
  const id =
    tool === "get_export" ? textOf(args, "export_id") : tool === "get_load" ? textOf(args, "load_id") : undefined;
  if (id !== undefined && host?.call !== undefined) return desk.openJob(id);
  const what = textOf(args, "table") ?? textOf(args, "index");
  if (what !== undefined) desk.notice(what, "The work has begun. Its first figures come with the tool's answer.");
}

/** Takes the client's colours, fonts and theme, as far as it gives any. */
function applyContext(context: Fields): void {
  const theme = textOf(context, "theme");
  if (theme === "light" || theme === "dark") root.dataset["theme"] = theme;
  const variables = fieldsOf(fieldsOf(context["styles"])["variables"]);
  for (const name of Object.keys(variables)) {
    const value = textOf(variables, name);
    if (value !== undefined && /^--(?:color|font|border-radius)-[\w-]+$/.test(name))
      root.style.setProperty(name, value);
  }
  const insets = fieldsOf(context["safeAreaInsets"]);
  for (const side of ["top", "right", "bottom", "left"]) {
    const inset = numberOf(insets, side);
    if (inset !== undefined) root.style.setProperty(`--inset-${side}`, `${inset}px`);
  }
}

if (endpoint !== "") openOnServer();
else {
  openInHost().catch((error: unknown) => {
    show(
      element("p", { class: "about" }, error instanceof Error ? error.message : "The client did not answer."),
      "Job",
    );
  });
}
