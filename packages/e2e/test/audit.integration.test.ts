import { execFile } from "node:child_process";
import { createServer, type RequestListener } from "node:http";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** `npm run audit` against a registry that answers like this, as exit code and all that it printed. */
async function audit(listener: RequestListener): Promise<{ code: number | null; said: string }> {
  const registry = createServer(listener);
  await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  const address = registry.address();
  if (address === null || typeof address === "string") throw new Error("the registry has no port");
  const { promise, resolve } = Promise.withResolvers<{ code: number | null; said: string }>();
  const args = ["run", "--silent", "audit", "--", "--registry", `http://127.0.0.1:${address.port}/`];
  const child = execFile("npm", args, { cwd: root }, (_error, stdout, stderr) => {
    resolve({ code: child.exitCode, said: stdout + stderr });
  });
  const result = await promise;
  registry.closeAllConnections();
  registry.close();
  return result;
}

/** What a registry says of zod. */
const weakness = {
  zod: [
    {
      id: 1,
      url: "https://advisories.test/1",
      title: "a hole",
      severity: "high",
      vulnerable_versions: "<999",
      cwe: ["CWE-1"],
      cvss: { score: 5, vectorString: null },
    },
  ],
};

function saying(status: number, body: unknown): RequestListener {
  return (request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  };
}

test("tells of a known weakness, and ends with 1", async () => {
  const { code, said } = await audit(saying(200, weakness));
  expect([code, said]).toEqual([1, expect.stringContaining("a hole")]);
  expect(said).not.toContain("not done");
});

test("ends with 0 where none is known", async () => {
  expect((await audit(saying(200, {}))).code).toBe(0);
});

test("says that nothing was checked where the registry takes no such question, and ends with 2", async () => {
  const { code, said } = await audit(saying(405, {}));
  expect([code, said]).toEqual([2, expect.stringContaining("Nothing is known of any package by this run")]);
});
