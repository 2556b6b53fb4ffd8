#!/usr/bin/env node
import { setFlagsFromString } from "node:v8";

// V8's young generation stays at its first size. Loading the modules would make it grow for good: some 10 MB of an idle
// server. And it would keep the chunks of pages that came over the wire, dead but not collected: 220 MB of memory in an
// export where 150 do, for the same CPU (`npm run bench:export`). The modules are imported after the flag is set.
setFlagsFromString("--semi-space-growth-factor=1");
const [{ runServer }, { server }] = await Promise.all([import("@es-to-pg/mcp-kit"), import("./server.ts")]);

await runServer(server);
