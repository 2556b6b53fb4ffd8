import { expect, inject, it } from "vitest";
import { connectionFromUrl } from "../src/config.ts";
import { openPostgres } from "../src/postgres/index.ts";

it("refuses a server before 13 by its version and says what to do", async () => {
  const postgres = openPostgres({ writer: connectionFromUrl(inject("databaseUrl")) });
  try {
    await expect(postgres.serverVersion()).rejects.toMatchObject({
      code: "postgres_too_old",
      message: expect.stringMatching(/^This server works with PostgreSQL 13 and later, and this is 12\.\d+\.$/),
      retryable: false,
      details: { supported_from: 13 },
    });
  } finally {
    await postgres.close();
  }
});
