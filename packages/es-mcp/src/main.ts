#!/usr/bin/env node
import { setFlagsFromString } from "node:v8";

// While the modules load, V8 lets its young generation grow and keeps it: some 10 MB of an idle server, for a start that
// needs it once. So it may grow only from then on, and the modules are imported after the flag is set. Twin: pg-mcp's main.ts.
setFlagsFromString("--semi-space-growth-factor=1");
const [{ runServer }, { server }] = await Promise.all([import("@es-to-pg/mcp-kit"), import("./server.ts")]);
setFlagsFromString("--semi-space-growth-factor=2");

await runServer(server);
