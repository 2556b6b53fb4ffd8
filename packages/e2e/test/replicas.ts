import type { ServerName, Session } from "../src/servers.ts";
import type { Place } from "./support.ts";

/** Servers of one kind over the same staging directory and database, as a load balancer has them behind it. */
export interface Replicas {
  all: readonly Session[];
  /** One address in front of them: each call goes to the next replica. */
  balanced: Session;
}

/** One secret for all, as a deployment gives it: a cursor that one replica sealed is opened by another. */
const env = { MCP_CURSOR_SECRET: "one-secret-of-all-replicas-and-of-no-one-else" };

/** Starts `count` replicas over HTTP. */
export async function openReplicas(place: Place, server: ServerName, count = 3): Promise<Replicas> {
  const all = await Promise.all(Array.from({ length: count }, () => place.open(server, { transport: "http", env })));
  return { all, balanced: balance(all) };
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
