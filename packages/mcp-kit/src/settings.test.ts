import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import { choice, defineSettings, flag, flagOr, integer, list, readSettings, settingsTable, text } from "./settings.ts";

const folder = mkdtempSync(join(tmpdir(), "settings-"));
afterAll(() => rmSync(folder, { recursive: true }));

const definition = defineSettings({
  HOST: { schema: text({ default: "localhost" }), description: "Where it is." },
  PORT: { schema: integer({ min: 1, max: 65_535, default: 9200 }), description: "Its port.", example: "9201" },
  TLS: { schema: flag(false), description: "Whether it is encrypted." },
  CACHE: { schema: flagOr("auto"), description: "Whether it is kept." },
  MODE: { schema: choice(["private", "group"], "private"), description: "Who may read." },
  NAMES: { schema: list(), description: "Some names." },
  PASSWORD: { schema: text(), description: "The password.", secret: true },
  USER_NAME: { schema: z.string("is required"), description: "Who." },
});

test("reads each setting by its kind", () => {
  const env = {
    PORT: " 80 ",
    TLS: "On",
    CACHE: "no",
    MODE: "GROUP",
    NAMES: "a, b,,c ",
    PASSWORD: " p ",
    USER_NAME: "me",
  };
  expect(readSettings(definition, env)).toEqual({
    HOST: "localhost",
    PORT: 80,
    TLS: true,
    CACHE: false,
    MODE: "group",
    NAMES: ["a", "b", "c"],
    PASSWORD: " p ",
    USER_NAME: "me",
  });
});

test("leaves a flag with a third word open where nothing is set, and by that word", () => {
  expect(readSettings(definition, { USER_NAME: "me" }).CACHE).toBe("auto");
  expect(readSettings(definition, { CACHE: "Auto", USER_NAME: "me" }).CACHE).toBe("auto");
  expect(readSettings(definition, { CACHE: "on", USER_NAME: "me" }).CACHE).toBe(true);
});

test("counts an empty variable as unset", () => {
  expect(readSettings(definition, { HOST: "", PORT: " ", USER_NAME: "me" })).toMatchObject({
    HOST: "localhost",
    PORT: 9200,
  });
});

test("returns settings that nobody can change", () => {
  expect(Object.isFrozen(readSettings(definition, { USER_NAME: "me" }))).toBe(true);
});

test("lists every problem at once, and no value of a secret", () => {
  const env = {
    PORT: "70000",
    TLS: "maybe",
    CACHE: "some",
    MODE: "all",
    PASSWORD: "geheim",
    PASSWORD_FILE: "/nowhere",
  };
  expect(() => readSettings(definition, env)).toThrow(
    expect.objectContaining({
      problems: [
        "PORT: must be a whole number from 1 to 65535",
        "TLS: must be true or false",
        "CACHE: must be true or false or auto",
        "MODE: must be private or group",
        "PASSWORD: set either PASSWORD or PASSWORD_FILE, not both",
        "USER_NAME: is required",
      ],
    }),
  );
});

test("reads a secret from a file, without its last line end", () => {
  const path = join(folder, "password");
  writeFileSync(path, "ge heim\n");
  expect(readSettings(definition, { PASSWORD_FILE: path, USER_NAME: "me" }).PASSWORD).toBe("ge heim");
});

test("names a secret's file that cannot be read", () => {
  expect(() => readSettings(definition, { PASSWORD_FILE: join(folder, "none"), USER_NAME: "me" })).toThrow(
    /PASSWORD_FILE: cannot read the file: ENOENT/,
  );
});

test("reads no file for what is no secret", () => {
  expect(readSettings(definition, { HOST_FILE: "/etc/hostname", USER_NAME: "me" }).HOST).toBe("localhost");
});

test("prints a table of what there is to set", () => {
  expect(settingsTable(definition)).toMatchInlineSnapshot(`
    "| variable | default | what it does |
    |---|---|---|
    | \`HOST\` | \`localhost\` | Where it is. |
    | \`PORT\` | \`9200\` | Its port. Example: \`9201\`. |
    | \`TLS\` | \`false\` | Whether it is encrypted. |
    | \`CACHE\` | \`auto\` | Whether it is kept. |
    | \`MODE\` | \`private\` | Who may read. |
    | \`NAMES\` |  | Some names. |
    | \`PASSWORD\` |  | The password. Secret; or \`PASSWORD_FILE\`. |
    | \`USER_NAME\` | required | Who. |
    "
  `);
});
