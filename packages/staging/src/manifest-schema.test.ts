import { expect, it } from "vitest";
import { z } from "zod";
import { MANIFEST_VERSION, manifestSchema } from "./manifest.ts";

it("keeps manifest.schema.json equal to the schema in code", async () => {
  const schema = {
    ...z.toJSONSchema(manifestSchema, {
      target: "draft-2020-12",
      // The pattern of a timestamp spells out the leap years; `format` says the same in two words.
      override: ({ jsonSchema }) => {
        if (jsonSchema.format === "date-time") delete jsonSchema.pattern;
      },
    }),
    title: `Manifest of a staged export, version ${MANIFEST_VERSION}`,
  };
  await expect(
    `${JSON.stringify(schema, null, 2)}\n`,
    "manifest.schema.json is out of date; write it anew with: npx vitest run packages/staging/src/manifest-schema.test.ts -u",
  ).toMatchFileSnapshot("../manifest.schema.json");
});
