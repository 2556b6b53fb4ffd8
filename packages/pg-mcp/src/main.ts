#!/usr/bin/env node
import { setFlagsFromString } from "node:v8";

// V8's young generation stays at its first size. Loading the modules would make it grow for good: 11 MB of an idle
// server. And it would keep the buffers of a load, dead but not collected: 232 MB of memory where 172 do, for no less CPU
// (`npm run bench:load`). The modules are imported after the flag is set. Twin: es-mcp's main.ts.
setFlagsFromString("--semi-space-growth-factor=1");
const [{ runServer }, { server }] = await Promise.all([import("@es-to-pg/mcp-kit"), import("./server.ts")]);

await runServer(server);
