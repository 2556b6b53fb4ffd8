#!/usr/bin/env node
/**
 * A middle server in one file: it makes another staged export of one that is there, with some fields replaced. Whatever a
 * mapping's SQL expressions cannot do, because it needs a key, a model or a service, can be done so.
 *
 *     PSEUDONYM_KEY_FILE=/run/secrets/key STAGING_URL=file:///staging node packages/examples/dist/pseudonymize-mcp.js
 */
import { createHmac } from "node:crypto";
import {
  defineSettings,
  digest,
  type Jobs,
  nearest,
  runServer,
  stagingSettings,
  ToolError,
  toolsFor,
  waitSeconds,
} from "@es-to-pg/mcp-kit";
import { exportIdSchema, newId, StagingError, type StagingStore } from "@es-to-pg/staging";
import { storeAtFirstUse } from "@es-to-pg/staging/at-first-use";
import { z } from "zod";
import { describeStaged, type StagedDocument, stageDocuments, staged } from "./stage.ts";

const settings = defineSettings({
  ...stagingSettings,
  PSEUDONYM_KEY: {
    schema: z.string({ error: "set a key of 32 characters or more" }).min(32, "needs 32 characters or more"),
    description: "Key of the pseudonyms: the same value gets the same pseudonym under the same key.",
    secret: true,
  },
});

interface Context {
  key: string;
  store: () => Promise<StagingStore>;
  jobs: Jobs;
}

const lineSchema = z.looseObject({ _index: z.string(), _id: z.string(), _source: z.record(z.string(), z.unknown()) });

declare global {
  /** What Node 22 has and TypeScript's library does not know yet: the text that a value was written as. */
  interface JSON {
    parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown;
    rawJSON(text: string): object;
  }
}

/** `JSON.parse` that keeps how a number was written: 12345678901234567890 is not 12345678901234567000. */
function parseExactly(text: string): unknown {
  return JSON.parse(text, (_key: string, value: unknown, { source }: { source?: string }) =>
    typeof value === "number" && source !== undefined ? JSON.rawJSON(source) : value,
  );
}

async function* pseudonymized(
  store: StagingStore,
  exportId: string,
  replace: { key: string; fields: ReadonlySet<string> },
): AsyncGenerator<StagedDocument> {
  const pseudonym = (value: unknown) => createHmac("sha256", replace.key).update(JSON.stringify(value)).digest("hex");
  // The lease of a reader keeps the export from being removed meanwhile.
  const reader = await store.openReader(exportId, newId("load"));
  try {
    for (const part of reader.manifest.parts) {
      for await (const lines of reader.lines(part)) {
        for (const line of lines) {
          const { _index: index, _id: id, _source: source } = lineSchema.parse(parseExactly(line.toString("utf8")));
          const members = Object.entries(source).map(([name, value]) =>
            replace.fields.has(name) && value !== null ? [name, pseudonym(value)] : [name, value],
          );
          yield { index, id, source: JSON.stringify(Object.fromEntries(members)) };
        }
      }
    }
  } finally {
    await reader.close();
  }
}

const pseudonymize = toolsFor<Context>()({
  name: "pseudonymize_export",
  title: "Replace fields by pseudonyms",
  description:
    "Makes a new staged export of a completed one in which the values of some top-level fields are replaced by pseudonyms, and answers its handle for pg-mcp.",
  input: z.strictObject({
    export_id: exportIdSchema,
    fields: z.array(z.string()).min(1).describe("Top-level fields, such as email."),
    wait_seconds: waitSeconds,
  }),
  output: staged,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  async handler({ export_id: exportId, fields, wait_seconds }, context) {
    const { key, jobs } = context;
    const store = await context.store();
    const manifest = await store.read(exportId);
    if (manifest.status !== "completed") {
      throw new ToolError("export_not_completed", `${exportId} is ${manifest.status}.`, {
        next: "Call get_export of the server that made it, and come back when it is completed.",
      });
    }
    const known = new Set([...manifest.mapping, ...manifest.profile].map(({ path }) => path.split(".")[0] ?? path));
    const unknown = fields.find((field) => !known.has(field));
    if (unknown !== undefined) {
      // An export that was asked for under a wrong name would be taken for one that no longer says who.
      throw new ToolError("field_not_found", `No document has a top-level field ${JSON.stringify(unknown)}.`, {
        next: "Name top-level fields as get_mapping shows them; an object is replaced as a whole.",
        details: { nearest: nearest(unknown, [...known]) },
      });
    }
    const replaced = new Set(fields);
    const stays = ({ path }: { path: string }) => !replaced.has(path.split(".")[0] ?? path);
    const writer = await store.create({
      request_digest: digest({ pseudonymized: exportId, fields }),
      source: { ...manifest.source, method: "other" },
      mapping: [...manifest.mapping.filter(stays), ...fields.map((path) => ({ path, type: "keyword" }))],
      // What the other fields hold has not changed: which are arrays, how long, how many digits.
      profile: manifest.profile.filter(stays),
    });
    const { export_id: started } = writer.manifest;
    jobs.start(started, (signal) =>
      stageDocuments(writer, pseudonymized(store, exportId, { key, fields: replaced }), signal),
    );
    return await describeStaged(store, started, { jobs, waitSeconds: wait_seconds ?? 20, call: context });
  },
});

await runServer({
  name: "pseudonymize-mcp",
  title: "Pseudonyms in staged exports",
  version: "0.1.0",
  instructions:
    "Replaces fields of staged exports by pseudonyms. Call pseudonymize_export with the handle of an export before propose_mapping of pg-mcp, and give pg-mcp the new handle.",
  settings,
  async open(values, { jobs }) {
    const store = storeAtFirstUse(values);
    return {
      tools: [pseudonymize],
      context: { key: values.PSEUDONYM_KEY, store, jobs },
      ready: async () => (await store()).probe(),
      close: async () => {},
    };
  },
  translate: (error) =>
    error instanceof StagingError ? new ToolError(error.code, error.message, { details: error.details }) : undefined,
});
