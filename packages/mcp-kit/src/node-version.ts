/** The first line of Node whose `JSON.parse` tells a reviver the source text, without which numbers lose digits. */
const NODE_MIN = 22;

/** Why a server cannot run on this version of Node; undefined if it can. */
export function nodeProblem(version: string): string | undefined {
  return Number.parseInt(version, 10) < NODE_MIN
    ? `this is Node ${version}, and ${NODE_MIN} or newer is needed: give the client the path of a newer node as its command`
    : undefined;
}
