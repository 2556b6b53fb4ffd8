#!/usr/bin/env node
import { runServer } from "@es-to-pg/mcp-kit";
import { server } from "./server.ts";

await runServer(server);
