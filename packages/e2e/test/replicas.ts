import { entryPoint, openUrl, type ServerName, type Session, startHttpServer } from "../src/servers.ts";
import type { Place } from "./support.ts";

/** One of several servers over the same staging directory and database. */
export interface Replica extends Session {
  /** Ends the process as the kernel does that has run out of memory. */
  kill(): void;
  /** What a scrape of its `/metrics` answers. */
  metrics(): Promise<string>;
}

/** Servers of one kind, as a load balancer has them behind it. */
export interface Replicas extends AsyncDisposable {
  all: readonly Replica[];
  /** One address in front of them: each call goes to the next replica. */
  balanced: Session;
}

/** One secret for all, as a deployment gives it: a cursor that one replica sealed is opened by another. */
const env = { MCP_CURSOR_SECRET: "one-secret-of-all-replicas-and-of-no-one-else", MCP_METRICS: "on" };

/** Starts `count` replicas over HTTP. */
export async function openReplicas(place: Place, server: ServerName, count = 3): Promise<Replicas> {
  const all = await Promise.all(Array.from({ length: count }, () => openReplica(place, server)));
  const balanced = balance(all);
  return { all, balanced, [Symbol.asyncDispose]: () => balanced.close() };
}

async function openReplica(place: Place, server: ServerName): Promise<Replica> {
  const http = await startHttpServer(entryPoint(server), { ...place.env, ...env });
  const session = await openUrl(http.url);
  const close = async (): Promise<void> => {
    await session.close();
    await http.stop();
  };
  return {
    ...session,
    pid: http.process.pid ?? null,
    log: () => http.log(),
    kill: () => void http.process.kill("SIGKILL"),
    metrics: async () => await (await fetch(new URL("/metrics", http.url))).text(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A session whose calls go to `sessions` in turn. */
export function balance(sessions: readonly Session[]): Session {
  let calls = 0;
  const next = (): Session => {
    const session = sessions[calls++ % sessions.length];
    if (session === undefined) throw new Error("there are no replicas");
    return session;
  };
  const close = async (): Promise<void> => {
    await Promise.all(sessions.map((session) => session.close()));
  };
  return {
    pid: null,
    log: () => sessions.map((session) => session.log()).join(""),
    listTools: () => next().listTools(),
    call: (tool, args, onProgress) => next().call(tool, args, onProgress),
    close,
    [Symbol.asyncDispose]: close,
  };
}
