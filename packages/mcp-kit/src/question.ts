import {
  acceptedContent,
  type ElicitRequestFormParams,
  inputRequired,
  inputResponse,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { clip } from "./answer.ts";
import type { Cursors } from "./cursor.ts";
import { digest } from "./digest.ts";
import { toldByEnvelope } from "./envelope.ts";
import { ToolError } from "./tool-error.ts";

/** A yes or no that a person is asked for before a tool goes on, besides whatever else the tool asks of its caller. */
export interface Question {
  /** What would be done, as one or two sentences that a person can decide on. */
  message: string;
  /** The label of the yes. */
  yes: string;
}

/** Thrown by `confirm` while the answer is out: the call is made again with it, from the beginning. */
export class QuestionOpen extends Error {
  override readonly name = "QuestionOpen";
  readonly question: Question;

  constructor(question: Question) {
    super("a person is to be asked");
    this.question = question;
  }
}

/** The one question of a call, among the input requests of the protocol. */
const KEY = "confirm";

/** Longest question, in characters: names of tables and exports are in it. */
const MESSAGE_CHARACTERS_MAX = 1_000;

/** Questions of one call to a client of the generation before: what a tool asks may change with what it finds. */
const QUESTIONS_MAX = 3;

/** How long a yes may be on its way before the question is asked again, in milliseconds. */
const ANSWER_MS_MAX = 15 * 60_000;

const canAskSchema = z.object({ elicitation: z.record(z.string(), z.unknown()) });
const yesSchema = z.object({ yes: z.literal(true) });
const askedSchema = z.object({ question: z.string(), until: z.number() });

/** What a server asks of one request. */
export interface AskedRequest {
  tool: string;
  given: unknown;
  mcpReq: Pick<ServerContext["mcpReq"], "envelope" | "inputResponses" | "requestState" | "elicitInput" | "signal">;
  /** What a client of the generation before said of itself; those of 2026 say it with each request. */
  capabilities: object | undefined;
  cursors: Cursors;
  waitMs: number;
}

/**
 * Asks the person behind one request, in the way of its protocol generation: one of 2026 is answered with the question
 * and makes its call again; one of the generation before is asked while its call waits.
 */
export class Questions {
  readonly #request: AskedRequest;
  /** The question that the client says it was asked, if this server did ask it, of this call and not long ago. */
  readonly #askedBefore: string | undefined;
  /** How the person answered what the client of the generation before was asked. */
  #answered: { question: string; action: string } | undefined;
  #hasGivenUp = false;

  /** Throws where the client brings a state that this server never made for this call. */
  constructor(request: AskedRequest) {
    this.#request = request;
    this.#askedBefore = askedBefore(request);
  }

  /** The `confirm` of a call; undefined where nobody can be asked. */
  get confirm(): ((question: Question) => void) | undefined {
    return this.#canAsk() ? (question) => this.#confirm(question) : undefined;
  }

  /**
   * Makes the call, and again after each question that a client of the generation before was asked meanwhile. Throws
   * `QuestionOpen` for one of 2026, which makes the call again by itself.
   */
  async askingInBetween<Result>(call: () => Promise<Result>): Promise<Result> {
    for (let asked = 0; ; asked++) {
      try {
        return await call();
      } catch (error) {
        const isModern = this.#request.mcpReq.envelope !== undefined;
        if (!(error instanceof QuestionOpen) || isModern) throw error;
        if (asked === QUESTIONS_MAX) this.#hasGivenUp = true;
        else this.#answered = { question: digest(error.question), action: await this.#ask(error.question) };
      }
    }
  }

  /** What a client of 2026 is answered in place of a result. */
  inputRequired(question: Question) {
    const { tool, given, cursors } = this.#request;
    return inputRequired({
      inputRequests: { [KEY]: inputRequired.elicit(form(question)) },
      // Sealed, and bound to the call: a yes to one question is none to another.
      requestState: cursors.encode(
        { tool, arguments: given },
        { question: digest(question), until: Date.now() + ANSWER_MS_MAX },
      ),
    });
  }

  async #ask(question: Question): Promise<string> {
    const { mcpReq, waitMs } = this.#request;
    try {
      const { action, content } = await mcpReq.elicitInput(form(question), { timeout: waitMs, signal: mcpReq.signal });
      return action === "accept" && !yesSchema.safeParse(content).success ? "decline" : action;
    } catch {
      // No answer in time, or a client that failed to ask: the same to who waits for a yes.
      return "none";
    }
  }

  #canAsk(): boolean {
    const { mcpReq, capabilities, waitMs } = this.#request;
    if (waitMs === 0) return false;
    const declared =
      mcpReq.envelope === undefined ? capabilities : toldByEnvelope(mcpReq.envelope, "clientCapabilities");
    const parsed = canAskSchema.safeParse(declared);
    if (!parsed.success) return false;
    const { elicitation } = parsed.data;
    // Before there were modes, an empty object meant forms.
    return "form" in elicitation || Object.keys(elicitation).length === 0;
  }

  #confirm(question: Question): void {
    const action = this.#actionOf(question);
    switch (action) {
      case undefined:
        throw new QuestionOpen(question);
      case "accept":
        return;
      case "decline":
        throw new ToolError("declined", "The user was asked, and declined.", {
          next: "Do not repeat the call unless the user asks for it; a dry run shows what it would do.",
        });
      default:
        throw new ToolError("not_confirmed", "The user was asked, and did not answer.", {
          next: "Ask the user in the conversation; after a yes, repeat the call.",
        });
    }
  }

  #actionOf(question: Question): string | undefined {
    if (this.#hasGivenUp) return "none";
    const asked = digest(question);
    if (this.#answered !== undefined) return this.#answered.question === asked ? this.#answered.action : undefined;
    const { mcpReq } = this.#request;
    const response = inputResponse(mcpReq.inputResponses, KEY);
    if (response.kind !== "elicit" || this.#askedBefore !== asked) return undefined;
    if (response.action !== "accept") return response.action;
    return acceptedContent(mcpReq.inputResponses, KEY, yesSchema) === undefined ? "decline" : "accept";
  }
}

function askedBefore({ tool, given, cursors, mcpReq }: AskedRequest): string | undefined {
  const state: unknown = mcpReq.requestState();
  if (typeof state !== "string") return undefined;
  try {
    const { question, until } = cursors.decode({ tool, arguments: given }, state, askedSchema);
    // Who has thought for too long is asked again.
    return until > Date.now() ? question : undefined;
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    throw new ProtocolError(
      ProtocolErrorCode.InvalidParams,
      "The requestState is none that this server made for this call; make the call without it.",
      { reason: "invalid_request_state" },
    );
  }
}

function form({ message, yes }: Question): ElicitRequestFormParams {
  return {
    mode: "form",
    message: clip(message, MESSAGE_CHARACTERS_MAX),
    requestedSchema: {
      type: "object",
      properties: { yes: { type: "boolean", title: yes, default: false } },
      required: ["yes"],
    },
  };
}
