import { tracingChannel } from "node:diagnostics_channel";
import type { Histogram } from "./instruments.ts";

/** What telemetry may know of a piece of work: names, counts and handles; never values of rows, never secrets. */
export type Attributes = Record<string, string | number | boolean>;

/** What the caller's trace is, as the protocol carries it. */
export interface TraceParent {
  traceparent?: string | undefined;
  tracestate?: string | undefined;
}

/** A piece of work that is a span where telemetry is on. */
export interface Operation {
  /** The span's name. There are few of them: what differs from run to run is an attribute. */
  name: string;
  /** Default: work of this process alone. */
  kind?: "server" | "client";
  /** May grow while the work runs. */
  attributes: Attributes;
  /** How the work failed, where it answers a failure and throws none: a word. */
  failure?: string;
  /** Takes the duration, under those of the attributes that it has. */
  duration?: Histogram;
  /** Where the work goes on with a trace that began elsewhere. */
  parent?: TraceParent;
}

/** The channel on which operations are told. Nobody listens to it unless telemetry is on. */
export const operations = tracingChannel<unknown, Operation>("es-to-pg:operation");

/** The channel of work that is looked at too often to be worth a span, nor what is beneath it. */
export const quietWork = tracingChannel<unknown, object>("es-to-pg:quiet");

/**
 * Runs work as an operation, within whatever operation is running already. Where nobody listens, this is the work alone:
 * Node's own channels carry it, so that neither the servers nor what they start with know of any telemetry library.
 */
export async function traced<T>(operation: Operation, work: (operation: Operation) => Promise<T>): Promise<T> {
  return operations.hasSubscribers ? operations.tracePromise(work, operation, undefined, operation) : work(operation);
}

/** Runs work that leaves no spans: what polls would bury what it waits for. */
export async function untraced<T>(work: () => Promise<T>): Promise<T> {
  return quietWork.hasSubscribers ? quietWork.tracePromise(work, {}) : work();
}
