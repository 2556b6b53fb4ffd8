import { expect, it } from "vitest";

it("runs scripts on the Node 24 that the workspace brings, whatever Node is installed", () => {
  expect(process.version).toMatch(/^v24\./);
});
