import { describe, expect, it } from "vitest";
import { elasticsearchAddress, findElasticsearch, findPostgres } from "./given.ts";

describe("elasticsearchAddress", () => {
  it("moves a user name and a password into a header", () => {
    expect(elasticsearchAddress("https://elastic:p%40ss@host:9243/path")).toEqual({
      address: "https://host:9243/path",
      headers: { authorization: `Basic ${Buffer.from("elastic:p@ss").toString("base64")}` },
    });
  });

  it("leaves an address without credentials as it is", () => {
    expect(elasticsearchAddress("http://127.0.0.1:9200")).toEqual({ address: "http://127.0.0.1:9200/", headers: {} });
  });
});

describe("a given URL", () => {
  it("is not there when the variable is empty", async () => {
    await expect(findElasticsearch("")).resolves.toBeUndefined();
    await expect(findPostgres(undefined)).resolves.toBeUndefined();
  });
});
