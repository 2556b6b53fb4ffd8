/** The files of production/ name what the servers have, rightly. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { serverName, settingsOf } from "./kubernetes-objects.ts";

const folder = new URL("../production/", import.meta.url);

it("names settings that the servers know in the ECS task", () => {
  const variables = z.array(z.object({ name: z.string() })).default([]);
  const { containerDefinitions } = z
    .object({
      containerDefinitions: z.array(z.object({ name: serverName, environment: variables, secrets: variables })),
    })
    .parse(JSON.parse(readFileSync(new URL("ecs-task.json", folder), "utf8")));
  const unknown = containerDefinitions.flatMap(({ name, environment, secrets }) =>
    [...environment, ...secrets].filter((variable) => !(variable.name in settingsOf[name])),
  );
  expect([containerDefinitions.length, unknown]).toEqual([2, []]);
});

it("is a cloud-init file whose settings this program or docker-compose.yml reads", () => {
  const text = readFileSync(new URL("cloud-init.yaml", folder), "utf8");
  expect(parse(text)).toMatchObject({
    // As Debian 13 calls them; its docker.io only recommends the command.
    packages: ["docker.io", "docker-cli", "docker-compose", "docker-buildx", "git", "nodejs", "npm"],
    runcmd: expect.arrayContaining(["systemctl enable --now es-to-pg.service"]),
  });
  expect(text).toContain("npm run archestra:up");
});
