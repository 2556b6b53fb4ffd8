import { expect, it } from "vitest";
import { openShell } from "./process.ts";

const shell = openShell(process.env);
const { signal } = new AbortController();
const node = (code: string) => [process.execPath, "--eval", code];
/** Prints what it reads. */
const echo = node("process.stdin.pipe(process.stdout)");

it("hands a command its input and returns what it prints", async () => {
  expect(await shell.run(echo, { signal, input: "ünïcödé" })).toBe("ünïcödé");
});

it("fails with the last of what a command said when its code is not 0", async () => {
  await expect(shell.run(node("console.error('no such thing'); process.exit(3)"), { signal })).rejects.toMatchObject({
    name: "CommandError",
    message: expect.stringContaining("ended with 3: no such thing"),
    stderr: "no such thing\n",
  });
});

it("says which command is not installed", async () => {
  await expect(shell.run(["no-such-command"], { signal })).rejects.toMatchObject({
    code: "command_missing",
    message: "The command no-such-command is not installed here.",
  });
});

it("fails with the command of a pipe that failed, whichever it was", async () => {
  await expect(shell.pipe(node("process.exit(2)"), echo, signal)).rejects.toThrow("ended with 2");
  await expect(
    shell.pipe(node("process.stdout.write('x'.repeat(1e6))"), node("process.exit(4)"), signal),
  ).rejects.toThrow(/ended with (4|a signal)/);
});

it("ends a command when it is stopped", async () => {
  const stopping = new AbortController();
  const running = shell.run(node("setTimeout(() => undefined, 60_000)"), { signal: stopping.signal });
  stopping.abort();
  await expect(running).rejects.toThrow("abort");
});
