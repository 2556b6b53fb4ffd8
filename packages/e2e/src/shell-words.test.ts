import { expect, it } from "vitest";
import { shellCommands } from "./shell-words.ts";

it("reads variables, quotation marks, comments and lines that go on", () => {
  const script = `A=1 B='x y' run --flag "a b" \\
  last   # not this
next && third > /tmp/file | fourth#5`;
  expect(shellCommands(script)).toEqual([
    { env: { A: "1", B: "x y" }, words: ["run", "--flag", "a b", "last"], substitutions: [] },
    { env: {}, words: ["next"], substitutions: [] },
    { env: {}, words: ["third"], substitutions: [] },
    { env: {}, words: ["fourth#5"], substitutions: [] },
  ]);
});

it("keeps a line end in quotation marks, and finds what is substituted", () => {
  expect(shellCommands(`export T="$(npm run token)" U=1\nsend 'a\nb'`)).toEqual([
    { env: {}, words: ["export", "T=$(npm run token)", "U=1"], substitutions: ["npm run token"] },
    { env: {}, words: ["send", "a\nb"], substitutions: [] },
  ]);
});

it.each(["say 'a", "(cd x)", "cat << EOF", "{ a; }", "a & b"])("does not pretend to know %j", (script) => {
  expect(() => shellCommands(script)).toThrow(/is not closed|more of a shell/);
});
