import type { Failure, JobLine, JobList, Verification } from "./answer.ts";
import { button, type Child, element, icon } from "./element.ts";
import type { Job, Law, Reject, Share, State } from "./job.ts";
import type { Rate } from "./rate.ts";
import { counted, duration, figure, moment, pace, percent, remaining } from "./words.ts";

const icons = {
  tick: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4 12 12 M12 4 4 12",
  dot: "M8 8h.01",
  pause: "M5.5 4v8 M10.5 4v8",
  bar: "M4 8h8",
  mark: "M8 3.5v5.5 M8 12.2v.01",
  back: "M10 3 5 8l5 5",
};

const states: Record<State, { word: string; look: string; path: string }> = {
  working: { word: "Working", look: "busy", path: icons.dot },
  stalled: { word: "Stalled", look: "warn", path: icons.pause },
  completed: { word: "Completed", look: "good", path: icons.tick },
  failed: { word: "Failed", look: "bad", path: icons.cross },
  cancelled: { word: "Cancelled", look: "idle", path: icons.bar },
};

function badge({ word, look, path }: { word: string; look: string; path: string }): HTMLElement {
  return element("span", { class: `badge ${look}` }, icon(path), word);
}

/** What the page knows besides the answer itself. */
export interface Surroundings {
  rate: Rate;
  /** What to say of the connection, where something is to be said. */
  trouble: string | undefined;
  /** Asks again at once; undefined where the page asks by itself, or may not. */
  lookAgain: (() => void) | undefined;
  /** Leads back to the list, where there is one. */
  back: (() => void) | undefined;
}

/** A job with all that is known of it. */
export function drawJob(job: Job, around: Surroundings): HTMLElement {
  return element(
    "article",
    { class: "job" },
    navigation(around.back),
    element(
      "header",
      {},
      element("p", { class: "kind" }, job.kind === "export" ? "Export" : "Load", " ", code(job.id)),
      element("h1", {}, job.heading === "" ? job.id : job.heading),
      badge(states[job.state]),
      element("p", { class: "about" }, job.about.join(" · ")),
    ),
    progress(job, around.rate),
    job.failure === undefined
      ? undefined
      : box("bad", `It failed: ${inWords(job.failure.code)}`, [
          job.failure.message,
          ...(job.failure.retryable ? ["Trying again can help."] : []),
        ]),
    job.state === "stalled"
      ? box("warn", "Nothing moves", ["The process that did this work is gone. The next step says how to go on."])
      : undefined,
    account(job),
    job.rejected > 0 ? rejects(job.rejects, job.rejected) : undefined,
    job.warnings.length === 0
      ? undefined
      : box("warn", job.warnings.length === 1 ? "Warning" : "Warnings", job.warnings),
    job.next === undefined || job.state === "working" ? undefined : nextStep(job.next),
    job.details.length === 0 ? undefined : details(job.details),
    connection(around),
  );
}

function navigation(back: (() => void) | undefined): HTMLElement | undefined {
  if (back === undefined) return undefined;
  const link = button("All jobs", back, { class: "back" });
  link.prepend(icon(icons.back));
  return element("nav", {}, link);
}

function progress(job: Job, rate: Rate): HTMLElement {
  const { done, expected, state } = job;
  const reached = expected === 0 && state === "working" ? "counting" : percent(done, expected);
  const said = `${figure(done)} of ${counted(expected, "document")}`;
  return element(
    "section",
    { class: "progress", "aria-label": "Progress" },
    element(
      "p",
      { class: "reached" },
      element("strong", {}, figure(done)),
      ` of ${counted(expected, "document")}`,
      element("span", { class: "percent" }, reached),
    ),
    meter(job.shares, Math.max(expected - done, 0), said, done, expected),
    element("p", { class: "pace" }, speed(job, rate)),
  );
}

/** Everything that has a fate, by width, and the rest. */
function meter(shares: readonly Share[], rest: number, said: string, done: number, total: number): HTMLElement {
  const track = element("div", {
    class: "meter",
    role: "progressbar",
    "aria-label": "Documents",
    "aria-valuemin": "0",
    "aria-valuemax": String(total),
    "aria-valuenow": String(Math.min(done, total)),
    "aria-valuetext": said,
  });
  for (const { name, count } of shares) track.append(segment(name, count));
  if (rest > 0 || shares.length === 0) track.append(segment("rest", Math.max(rest, 1)));
  return track;
}

function segment(name: string, count: number): HTMLElement {
  const made = element("span", { class: "segment", "data-key": name, "data-fate": name });
  made.style.flexGrow = String(count);
  return made;
}

function speed(job: Job, rate: Rate): string {
  const { state, seconds, done, expected } = job;
  if (state === "working") {
    const perSecond = rate.perSecond;
    const left = rate.secondsLeft(expected);
    return [job.phase ?? "", perSecond === undefined ? "" : pace(perSecond), left === undefined ? "" : remaining(left)]
      .filter((text) => text !== "")
      .join(" · ");
  }
  if (seconds === undefined) return "";
  const mean = seconds > 0 && done > 0 ? ` · ${pace(done / seconds)} on average` : "";
  return `${duration(seconds)}${state === "completed" ? mean : ""}`;
}

/** The law of conservation, as a sum that can be checked by eye, and what it comes to. */
function account(job: Job): HTMLElement {
  const shares = job.shares.filter(({ count }) => count !== 0);
  return section(
    "Where every document went",
    element(
      "p",
      { class: "sum" },
      element("span", { class: "term" }, element("b", {}, figure(job.expected)), " expected"),
      ...(shares.length === 0 ? [operator("="), term({ name: "", count: 0 })] : []),
      ...shares.flatMap((one, index) => [operator(index === 0 ? "=" : "+"), term(one)]),
      ...(job.law.verdict === "holds" ? [] : unaccounted(job, shares)),
    ),
    verdict(job.law),
  );
}

/** What is missing in the sum, so that it adds up for whoever reads it. */
function unaccounted({ expected, state, law }: Job, shares: readonly Share[]): Child[] {
  const gap = expected - shares.reduce((sum, { count }) => sum + count, 0);
  if (gap === 0) return [];
  const name = law.verdict === "broken" ? "unaccounted for" : state === "working" ? "to come" : "not reached";
  return [operator(gap > 0 ? "+" : "−"), term({ name, count: Math.abs(gap) }, "rest")];
}

function operator(sign: string): HTMLElement {
  return element("span", { class: "operator" }, ` ${sign} `);
}

function term({ name, count }: Share, fate = name): HTMLElement {
  const swatch = name === "" ? undefined : element("i", { class: "swatch", "data-fate": fate });
  return element("span", { class: "term" }, swatch, element("b", {}, figure(count)), name === "" ? "" : ` ${name}`);
}

function verdict({ verdict: held, sentence }: Law): HTMLElement {
  const looks = {
    holds: { look: "good", path: icons.tick },
    broken: { look: "bad", path: icons.cross },
    open: { look: "idle", path: icons.dot },
  };
  const { look, path } = looks[held];
  return element("p", { class: `verdict ${look}`, "data-verdict": held }, icon(path), sentence);
}

function rejects(kinds: readonly Reject[], rejected: number): HTMLElement {
  const shown = kinds.reduce((sum, { count }) => sum + count, 0);
  return section(
    "Rejected, by reason",
    element(
      "ul",
      { class: "rejects" },
      ...kinds.map((kind) =>
        element(
          "li",
          {},
          element("b", { class: "count" }, figure(kind.count)),
          element(
            "div",
            {},
            element(
              "p",
              { class: "reason" },
              element("span", {}, inWords(kind.reason)),
              ...(kind.column === undefined ? [] : [" in ", code(kind.column)]),
            ),
            share(kind.count, rejected),
            element("p", { class: "example" }, ...example(kind)),
          ),
        ),
      ),
    ),
    shown < rejected
      ? element(
          "p",
          { class: "about" },
          `${counted(rejected - shown, "document")} more for other reasons: list_rejects has all.`,
        )
      : undefined,
  );
}

function share(count: number, total: number): HTMLElement {
  const track = element("div", { class: "share", "aria-hidden": "true" });
  track.append(segment("rejected", count), segment("rest", Math.max(total - count, 0)));
  return track;
}

function example({ documentId, value, message }: Reject): Child[] {
  return [
    ...(documentId === undefined ? [] : ["For example document ", code(documentId)]),
    ...(value === undefined ? [] : [documentId === undefined ? "For example " : " with ", code(value)]),
    ...(message === "" ? [] : [documentId === undefined && value === undefined ? message : `: ${message}`]),
  ];
}

/** What the tool tells the model: whoever reads along knows what comes, or asks for it. */
function nextStep(sentence: string): HTMLElement {
  return section("Next step for the assistant", element("p", {}, sentence));
}

function details(rows: readonly (readonly [name: string, value: string])[]): HTMLElement {
  const list = element(
    "dl",
    {},
    ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
  return element("details", {}, element("summary", {}, "Details"), list);
}

function connection({ trouble, lookAgain }: Surroundings): HTMLElement | undefined {
  if (trouble === undefined && lookAgain === undefined) return undefined;
  return element(
    "p",
    { class: "trouble" },
    trouble ?? "",
    lookAgain === undefined ? undefined : button("Look again", lookAgain),
  );
}

/** The comparison of a load with its table. */
export function drawVerification(found: Verification, around: Surroundings): HTMLElement {
  const looks = {
    equal: {
      word: "Equal",
      look: "good",
      path: icons.tick,
      says: "The table holds every staged row, as it was staged.",
    },
    different: { word: "Different", look: "bad", path: icons.cross, says: "The table does not equal the export." },
    not_comparable: { word: "Not comparable", look: "warn", path: icons.mark, says: found.note ?? "" },
    working: { word: "Comparing", look: "busy", path: icons.dot, says: "Every staged row is compared with the table." },
  };
  const look = looks[found.verdict];
  const said = `${figure(found.staged)} of ${counted(found.total ?? found.staged, "row")} compared`;
  // That nothing is missing or different is what one came to read; the others matter where there are some.
  const always = ["matched", "missing", "different"];
  const shares = found.shares.filter(({ name, count }) => count > 0 || always.includes(name));
  return element(
    "article",
    { class: "job" },
    navigation(around.back),
    element(
      "header",
      {},
      element("p", { class: "kind" }, "Comparison of ", code(found.loadId)),
      element("h1", {}, found.table),
      badge(look),
      element("p", { class: "about" }, look.says),
    ),
    found.verdict === "working"
      ? element(
          "section",
          { class: "progress", "aria-label": "Progress" },
          element(
            "p",
            { class: "reached" },
            element("strong", {}, figure(found.staged)),
            said.slice(figure(found.staged).length),
          ),
          meter(
            [{ name: "matched", count: found.staged }],
            Math.max((found.total ?? 0) - found.staged, 0),
            said,
            found.staged,
            found.total ?? found.staged,
          ),
        )
      : section(
          "Rows compared",
          element(
            "p",
            { class: "sum" },
            element("span", { class: "term" }, element("b", {}, figure(found.staged)), " staged:"),
            ...(shares.length === 0 ? [" none compared"] : []),
            ...shares.flatMap((one, index) => [
              operator(index === 0 ? "" : "·"),
              // Nothing of a bad kind is nothing bad.
              term(one, one.count === 0 ? "rest" : one.name),
            ]),
          ),
        ),
    found.columns.length === 0
      ? undefined
      : section("Columns that differ", facts(found.columns.map(({ name, count }) => [name, counted(count, "row")]))),
    found.samples.length === 0
      ? undefined
      : section("Keys, for example", facts(found.samples.map(({ name, keys }) => [name, keys.join("\n")]))),
    found.note === undefined || found.verdict === "not_comparable"
      ? undefined
      : element("p", { class: "about" }, found.note),
    found.next === undefined ? undefined : nextStep(found.next),
    connection(around),
  );
}

function facts(rows: readonly (readonly [name: string, value: string])[]): HTMLElement {
  return element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/** All jobs of a server. */
export function drawList(
  title: string,
  list: JobList,
  around: Surroundings & { open: ((id: string) => void) | undefined; more: (() => void) | undefined },
): HTMLElement {
  const lines = list.jobs.map((line) => drawLine(line, around.open));
  const total = list.total ?? list.jobs.length;
  return element(
    "article",
    { class: "jobs" },
    element(
      "header",
      {},
      element("h1", {}, title),
      element(
        "p",
        { class: "about" },
        list.total === undefined && list.nextCursor !== undefined
          ? `the newest ${figure(total)}`
          : `${figure(total)} in all${total > 1 ? ", newest first" : ""}`,
      ),
    ),
    lines.length === 0
      ? element("p", { class: "empty" }, "There is none yet.")
      : element("ul", { class: "lines" }, ...lines),
    around.more === undefined ? undefined : button("More", around.more),
    list.notes.length === 0 ? undefined : box("warn", "Not readable", list.notes),
    connection(around),
  );
}

function drawLine(line: JobLine, open: ((id: string) => void) | undefined): HTMLElement {
  const about = [`${figure(line.done)} of ${counted(line.expected, "document")}`, line.note, moment(line.createdAt)];
  const inside = [
    element("span", { class: "title" }, line.heading === "" ? line.id : line.heading),
    badge(states[line.state]),
    element(
      "span",
      { class: "about" },
      about.filter((text) => text !== undefined && text !== "").join(" · "),
      ...(line.rejected > 0 ? [" · ", element("b", { class: "bad" }, `${figure(line.rejected)} rejected`)] : []),
    ),
    element("code", { class: "id" }, line.id),
  ];
  if (open === undefined) return element("li", { "data-key": line.id, class: "line" }, ...inside);
  const opener = element("button", { type: "button", class: "line" }, ...inside);
  opener.onclick = () => open(line.id);
  return element("li", { "data-key": line.id }, opener);
}

/** A tool's failure. */
export function drawFailure({ code: word, message, next }: Failure, around: Surroundings): HTMLElement {
  return element(
    "article",
    { class: "job" },
    navigation(around.back),
    box("bad", inWords(word), [message, ...(next === undefined ? [] : [next])]),
    connection(around),
  );
}

/** A sentence on an otherwise empty page. */
export function drawNotice(title: string, sentence: string, around?: Surroundings): HTMLElement {
  return element(
    "article",
    { class: "job" },
    around === undefined ? undefined : navigation(around.back),
    element("header", {}, element("h1", {}, title), element("p", { class: "about" }, sentence)),
    around === undefined ? undefined : connection(around),
  );
}

/** Asks for the token of a server, and says what becomes of it. */
export function drawTokenForm(problem: string | undefined, use: (token: string) => void): HTMLElement {
  const input = element("input", {
    id: "token",
    name: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: "",
    "aria-describedby": "token-note",
    ...(problem === undefined ? {} : { "aria-invalid": "true" }),
  });
  const form = element(
    "form",
    { class: "token" },
    element("label", { for: "token" }, "Token"),
    element("div", { class: "row" }, input, element("button", { type: "submit", class: "main" }, "Show jobs")),
    problem === undefined
      ? undefined
      : element("p", { class: "verdict bad", role: "alert" }, icon(icons.cross), problem),
    element(
      "p",
      { id: "token-note", class: "about" },
      "The value of MCP_HTTP_TOKEN. It stays in this tab, is sent to this server alone, and is forgotten when the tab is closed.",
    ),
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    // Of the form that was sent, which need not be the one that was made here.
    if (!(event.currentTarget instanceof HTMLFormElement)) return;
    const given = new FormData(event.currentTarget).get("token");
    if (typeof given === "string" && given.trim() !== "") use(given.trim());
  };
  return element(
    "article",
    { class: "job" },
    element("header", {}, element("h1", {}, "This server asks for a token")),
    form,
  );
}

function section(title: string, ...children: Child[]): HTMLElement {
  return element("section", {}, element("h2", {}, title), ...children);
}

function box(look: "bad" | "warn", title: string, sentences: readonly string[]): HTMLElement {
  return element(
    "section",
    { class: `box ${look}` },
    element("h2", {}, icon(look === "bad" ? icons.cross : icons.mark), title),
    ...sentences.map((sentence) => element("p", {}, sentence)),
  );
}

/** A word of the protocol as people write it. */
function inWords(word: string): string {
  return word.replaceAll("_", " ");
}

function code(text: string): HTMLElement {
  return element("code", {}, text);
}
