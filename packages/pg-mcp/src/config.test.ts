import { readSettings } from "@es-to-pg/mcp-kit";
import { describe, expect, it } from "vitest";
import { connectionFromUrl, connections, pgSettings } from "./config.ts";

describe("connectionFromUrl", () => {
  it.each([
    ["postgres://u:p@h:5433/d", { host: "h", port: 5433, database: "d", user: "u", password: "p" }],
    ["postgresql://u@h/d", { host: "h", port: 5432, database: "d", user: "u", password: undefined }],
    ["postgres://u:p@ss/w#rd:?@h/d", { host: "h", user: "u", password: "p@ss/w#rd:?" }],
    ["postgres://u:100%@h/d", { password: "100%" }],
    ["postgres://u%40corp:p%2Fw@h/my%20db", { user: "u@corp", password: "p/w", database: "my db" }],
    ["postgres://u:p@[::1]:5432/d", { host: "::1" }],
    ["postgres:///d?host=/var/run/postgresql&user=u", { host: "/var/run/postgresql", database: "d", user: "u" }],
    ["postgres://u:p@h", { database: "u" }],
  ])("reads %s", (url, expected) => {
    expect(connectionFromUrl(url)).toMatchObject(expected);
  });

  it("takes the TLS mode and certificates from the query", () => {
    expect(connectionFromUrl("postgres://u@h/d?sslmode=verify-full&sslrootcert=/ca.crt").tls).toMatchObject({
      mode: "verify-full",
      ca: "/ca.crt",
    });
    expect(connectionFromUrl("postgres://u@h/d").tls.mode).toBe("prefer");
  });

  it.each(["mysql://u@h/d", "h:5432", "postgres://u@h/d?sslmode=maybe"])("refuses %s", (url) => {
    expect(() => connectionFromUrl(url)).toThrow(/must/);
  });
});

function read(env: Record<string, string>) {
  return connections(readSettings(pgSettings, env));
}

describe("connections", () => {
  it("reads by the writer's role where no reader is given, and by the reader's where one is", () => {
    expect(read({ POSTGRES_HOST: "h", POSTGRES_USER: "w" }).reader).toBeUndefined();
    expect(
      read({ DATABASE_URL: "postgres://w:p@h/d", POSTGRES_READER_USER: "r", POSTGRES_READER_PASSWORD: "q" }).reader,
    ).toMatchObject({ host: "h", database: "d", user: "r", password: "q" });
  });

  it("lists every contradiction at once", () => {
    expect(() => read({ DATABASE_URL: "postgres://u@h/d", POSTGRES_HOST: "x", POSTGRES_READER_PASSWORD: "q" })).toThrow(
      /DATABASE_URL: set either it or POSTGRES_HOST[^]*POSTGRES_READER_USER: is needed/,
    );
  });

  it("never repeats a password in a problem", () => {
    expect(() => read({ DATABASE_URL: "postgres:/u:hunter2@h/d" })).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining("hunter2") }),
    );
  });

  it("says which TLS modes there are", () => {
    expect(() => read({ POSTGRES_SSLMODE: "maybe" })).toThrow(/POSTGRES_SSLMODE: must be disable or prefer/);
  });
});
