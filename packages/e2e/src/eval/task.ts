import type { AgentCall, Entry } from "../agent/agent.ts";
import type { Recording } from "../agent/recording.ts";
import type { Finding } from "./findings.ts";
import type { Place } from "./place.ts";

/** How much of the method a task needs. */
export type Level = "easy" | "medium" | "hard";

/** One thing that an agent is asked for: what is there before, what the user says, and how the outcome is judged. */
export interface Task {
  name: string;
  level: Level;
  /** What the user says; `{products}` stands for the index of that name. */
  wish: string;
  /** What the user answers when the agent asks; without it, that it was asked for what it was asked for. */
  reply?: string;
  /** Names of the indices that `prepare` creates. */
  indices: readonly string[];
  /** Tables that the agent may create or write; every other must stay as it is, to the version of each row. */
  mayChange: readonly string[];
  /** Fills the indices and the database, and does what was done before the user came. */
  prepare(place: Place): Promise<void>;
  /** Judges the outcome by what PostgreSQL and Elasticsearch hold, never by what the model says of it. */
  check(place: Place, run: Run): Promise<Finding[]>;
  /** A model's way through the task, for a run without one. */
  recording: Recording;
}

/** What was called, and when the user was asked; what the model said is for people to read. */
export interface Run {
  calls: readonly AgentCall[];
  transcript: readonly Entry[];
}

/** The user's answer to a question that a task does not expect. */
export const defaultReply = "Do what I asked for, and nothing else.";

/** A user who is asked again and again stops answering. */
export const repliesMax = 3;

/** Puts the real names where `{name}` stands, in a sentence or anywhere in data. */
export function withNames<Value>(value: Value, names: ReadonlyMap<string, string>): Value;
export function withNames(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (typeof value === "string") {
    return value.replaceAll(/\{(\w+)\}/g, (whole, name: string) => names.get(name) ?? whole);
  }
  if (Array.isArray(value)) return value.map((item) => withNames<unknown>(item, names));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withNames<unknown>(member, names)]));
}
