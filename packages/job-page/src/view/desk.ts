import { type Answer, answerOf, type JobList } from "./answer.ts";
import { CallFailed, type CallTool } from "./calls.ts";
import { drawFailure, drawJob, drawList, drawNotice, drawVerification, type Surroundings } from "./draw.ts";
import { hasEnded, type Job } from "./job.ts";
import { Rate } from "./rate.ts";
import { type Found, Watch } from "./watch.ts";
import { counted, figure } from "./words.ts";

/** Looks in vain after which a page that a client shows stops asking: somebody may be asked for leave each time. */
const FAILED_LOOKS_MAX = 3;

export type JobKind = "exports" | "loads";

const kinds: Record<JobKind, { title: string; list: string }> = {
  exports: { title: "Exports", list: "list_exports" },
  loads: { title: "Loads", list: "list_loads" },
};

/** What the page stands on: who answers it, and where it shows what it heard. */
export interface Ground {
  /** Undefined where nobody can be asked. */
  call: CallTool | undefined;
  /** A page of a browser tab goes on asking; one in a conversation gives up. */
  isPatient: boolean;
  show(view: HTMLElement, title: string): void;
  /** Says something to who does not see the page. */
  say(sentence: string): void;
  /** Hears where the page is, for its address. */
  moved?(id: string | undefined): void;
  /** Hears that a token is needed. */
  denied?(problem: string): void;
}

/** What is on the page, and what keeps it true. One thing at a time: a job, a list, a comparison, or a failure. */
export class Desk {
  readonly #ground: Ground;
  readonly #kind: JobKind;
  #watch: Watch | undefined;
  #hasList = false;
  /** Grows with everything that is opened. */
  #turn = 0;

  constructor(ground: Ground, kind: JobKind) {
    this.#ground = ground;
    this.#kind = kind;
  }

  /** Shows what a tool answered, and goes on from there. */
  showAnswer(answer: Answer): void {
    this.#clear();
    const turn = this.#turn;
    switch (answer.kind) {
      case "job":
        return this.#follow(answer.job.id, answer.job);
      case "list":
        return this.#followList(answer.list);
      case "verification":
        // Not asked for again: the outcome belongs to the call that waits for it.
        return this.#show(turn, drawVerification(answer.verification, this.#around({})), answer.verification.table);
      case "failure":
        return this.#show(turn, drawFailure(answer.failure, this.#around({})), "Failed");
      case "inline":
        return this.notice(
          "No job",
          `The documents were answered in the conversation: ${figure(answer.returned)} of ${figure(answer.total)}. Nothing was staged.`,
        );
      case "nothing":
        return this.notice("Nothing to show", "The answer holds no job that this page knows.");
      default:
        return answer satisfies never;
    }
  }

  openJob(id: string): void {
    this.#clear();
    this.#ground.moved?.(id);
    this.notice(id, "Asking for its state …");
    this.#follow(id, undefined);
  }

  openList(): void {
    this.#clear();
    this.#ground.moved?.(undefined);
    this.notice(kinds[this.#kind].title, "Asking for the list …");
    this.#followList(undefined);
  }

  notice(title: string, sentence: string): void {
    const turn = this.#turn;
    this.#show(turn, drawNotice(title, sentence, this.#around({})), title);
  }

  /** Stops asking. */
  leave(): void {
    this.#clear();
  }

  #follow(id: string, first: Job | undefined): void {
    const turn = this.#turn;
    const { call, isPatient } = this.#ground;
    const rate = new Rate();
    let job = first;
    let misses = 0;
    const show = (rest: Partial<Surroundings>): void => {
      if (job !== undefined) this.#show(turn, drawJob(job, this.#around({ rate, ...rest })), job.heading);
      else this.#show(turn, drawNotice(id, rest.trouble ?? "", this.#around(rest)), id);
    };
    const take = (now: Job): Found => {
      const before = job;
      job = now;
      measure(rate, now);
      show({});
      if (before !== undefined && before.state !== now.state && turn === this.#turn) this.#ground.say(spoken(now));
      if (hasEnded(now)) return "ended";
      return before?.done === now.done && before.phase === now.phase && before.state === now.state ? "same" : "changed";
    };
    const look = async (ask: CallTool): Promise<Found> => {
      try {
        const answer = answerOf(await this.#ask(ask, ...stateOf(id)));
        if (answer.kind === "job") {
          misses = 0;
          return take(answer.job);
        }
        if (answer.kind === "failure" && !answer.failure.retryable) {
          this.#show(turn, drawFailure(answer.failure, this.#around({})), "Failed");
          return "ended";
        }
        throw new CallFailed(
          "unreachable",
          answer.kind === "failure" ? answer.failure.message : "The answer holds no job.",
        );
      } catch (error) {
        if (!(error instanceof CallFailed)) throw error;
        if (error.reason === "denied") return "ended";
        misses += 1;
        const givesUp = error.reason === "refused" || (!isPatient && misses >= FAILED_LOOKS_MAX);
        const again = givesUp ? { lookAgain: () => this.#restart(id, job) } : {};
        show({ trouble: `${error.message}${givesUp ? "" : " Trying again."} `, ...again });
        return givesUp ? "ended" : "failed";
      }
    };
    if (first !== undefined && take(first) === "ended") return;
    if (call === undefined) {
      show({ trouble: "This client lets the page ask nothing, so this is how it was when the tool answered." });
      return;
    }
    this.#start(() => look(call), first === undefined ? 0 : 1_000);
  }

  #restart(id: string, job: Job | undefined): void {
    this.#clear();
    this.#follow(id, job);
  }

  #followList(first: JobList | undefined): void {
    this.#hasList = true;
    const turn = this.#turn;
    const { call, isPatient } = this.#ground;
    const { title, list: tool } = kinds[this.#kind];
    let pages: JobList[] = first === undefined ? [] : [first];
    let shown = "";
    const show = (rest: Partial<Surroundings>): void => {
      const list = joined(pages);
      const view = drawList(title, list, {
        ...this.#around(rest),
        back: undefined,
        open: call === undefined ? undefined : (id) => this.openJob(id),
        more: call === undefined || list.nextCursor === undefined ? undefined : () => void more(call, list.nextCursor),
      });
      this.#show(turn, view, title);
    };
    const more = async (ask: CallTool, cursor: string | undefined): Promise<void> => {
      const answer = answerOf(await this.#ask(ask, tool, { cursor }).catch(() => undefined));
      if (answer.kind !== "list") return;
      pages = [...pages, answer.list];
      show({});
    };
    const look = async (ask: CallTool): Promise<Found> => {
      try {
        const answer = answerOf(await this.#ask(ask, tool, {}));
        if (answer.kind === "failure") throw new CallFailed("unreachable", answer.failure.message);
        if (answer.kind !== "list") throw new CallFailed("unreachable", "The answer holds no list.");
        pages = refreshed(pages, answer.list);
        show({});
        const text = JSON.stringify(answer.list);
        const isSame = text === shown;
        shown = text;
        if (!isPatient && !answer.list.jobs.some(({ state }) => state === "working")) return "ended";
        return isSame ? "same" : "changed";
      } catch (error) {
        if (!(error instanceof CallFailed)) throw error;
        if (error.reason === "denied") return "ended";
        const again = error.reason === "refused" || !isPatient ? { lookAgain: () => this.openList() } : {};
        if (pages.length > 0) show({ trouble: `${error.message} `, ...again });
        else this.#show(turn, drawNotice(title, error.message, this.#around({ ...again })), title);
        return error.reason === "refused" || !isPatient ? "ended" : "failed";
      }
    };
    if (first !== undefined) show({});
    if (call === undefined) return;
    if (first === undefined || first.jobs.some(({ state }) => state === "working")) {
      this.#start(() => look(call), first === undefined ? 0 : 1_000);
    }
  }

  async #ask(call: CallTool, tool: string, args: Record<string, unknown>): Promise<unknown> {
    try {
      return await call(tool, args);
    } catch (error) {
      if (error instanceof CallFailed && error.reason === "denied") this.#ground.denied?.(error.message);
      throw error;
    }
  }

  #start(look: () => Promise<Found>, pauseMs: number): void {
    this.#watch = new Watch(look);
    this.#watch.start(pauseMs);
  }

  #clear(): void {
    this.#turn += 1;
    this.#watch?.stop();
    this.#watch = undefined;
  }

  /** Shows what belongs to the present turn: a late answer must not paint over what came after it. */
  #show(turn: number, view: HTMLElement, title: string): void {
    if (turn === this.#turn) this.#ground.show(view, title);
  }

  #around(rest: Partial<Surroundings>): Surroundings {
    const back = this.#hasList || this.#ground.moved !== undefined ? () => this.openList() : undefined;
    return { rate: new Rate(), trouble: undefined, lookAgain: undefined, back, ...rest };
  }
}

/** By which call a job tells its state. */
function stateOf(id: string): [tool: string, args: Record<string, unknown>] {
  return id.startsWith("load_")
    ? ["get_load", { load_id: id, wait_seconds: 0 }]
    : ["get_export", { export_id: id, wait_seconds: 0 }];
}

/** The first look counts from the job's start, so that there is a rate at once. */
function measure(rate: Rate, { state, done, seconds }: Job): void {
  const nowMs = performance.now();
  if (state !== "working") return;
  if (rate.isNew && seconds !== undefined && seconds > 0) rate.see(0, nowMs - seconds * 1000);
  rate.see(done, nowMs);
}

/** The pages with a new first one. What newer jobs moved off it stays below, for whoever asked for more. */
function refreshed([old, second, ...rest]: readonly JobList[], first: JobList): JobList[] {
  if (old === undefined || second === undefined) return [first];
  const kept = new Set(first.jobs.map(({ id }) => id));
  const moved = old.jobs.filter(({ id }) => !kept.has(id));
  return [first, { ...second, jobs: [...moved, ...second.jobs] }, ...rest];
}

function joined(pages: readonly JobList[]): JobList {
  const byId = new Map(pages.flatMap(({ jobs }) => jobs).map((line) => [line.id, line]));
  // A job that moved from one page to the next between two answers is shown as the first page has it.
  for (const line of pages[0]?.jobs ?? []) byId.set(line.id, line);
  const last = pages.at(-1);
  return {
    jobs: [...byId.values()],
    total: pages[0]?.total,
    nextCursor: last?.nextCursor,
    notes: pages[0]?.notes ?? [],
  };
}

function spoken({ kind, heading, state, done, expected, law }: Job): string {
  const what = `${kind === "export" ? "Export" : "Load"} ${heading}`;
  return `${what}: ${state}, ${figure(done)} of ${counted(expected, "document")}. ${law.sentence}`;
}
