import { z } from "zod";
import type { Call, Opened } from "./calls.ts";
import type { ArchestraApi } from "./client.ts";

/** The fields that open what a creating call makes to the whole organization. */
export type Opening = (call: Call) => Opened;

const descriptionSchema = z.object({
  paths: z.record(z.string(), z.record(z.string(), z.unknown())),
});

const bodySchema = z.object({
  requestBody: z.object({
    content: z.object({
      "application/json": z.object({ schema: z.object({ properties: z.record(z.string(), z.unknown()) }) }),
    }),
  }),
});

/** Reads from the platform's own description which of the two fields each creating call takes; some take neither. */
export async function readOpening(api: ArchestraApi): Promise<Opening> {
  const description = descriptionSchema.safeParse(await api.document("/openapi.json"));
  const paths = description.data?.paths ?? {};
  return ({ method, path }) => {
    const operation = bodySchema.safeParse(paths[path]?.[method.toLowerCase()]);
    const fields = operation.data?.requestBody.content["application/json"].schema.properties ?? {};
    if ("initialGrants" in fields) {
      return { initialGrants: [{ subject: { type: "organization", id: "*" }, actions: ["read", "use"] }] };
    }
    return "scope" in fields ? { scope: "org" } : {};
  };
}
