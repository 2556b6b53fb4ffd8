import { Buffer } from "node:buffer";
import { assert, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { proposeColumnName } from "./column-name.ts";

describe("proposeColumnName", () => {
  it.each([
    ["id", "id"],
    ["stock_quantity", "stock_quantity"],
    ["name.first", "name_first"],
    ["createdAt", "created_at"],
    ["orderID", "order_id"],
    ["HTTPStatusCode", "http_status_code"],
    ["iso8601Date", "iso8601_date"],
    ["@timestamp", "timestamp"],
    ["labels.k8s-app", "labels_k8s_app"],
    ["Prix (€)", "prix"],
    ["Größe", "grosse"],
    ["São Paulo", "sao_paulo"],
    ["Łódź", "lodz"],
    ["名前", "名前"],
    ["ガイド", "ガイド"],
    ["й", "й"],
    ["2fa", "_2fa"],
    ["user", "user_"],
    ["order", "order_"],
    ["ctid", "ctid_"],
    ["", "field"],
    ["...", "field"],
    ["😀", "field"],
    ['a\u0000b\n"c"; drop table', "a_b_c_drop_table"],
    ["_id", "_id"],
    ["_seq_no", "_seq_no"],
    ["_private", "private"],
  ])("makes %j into %j", (path, name) => {
    expect(proposeColumnName(path)).toBe(name);
  });

  it("keeps long paths apart that differ only at their ends, within 63 bytes", () => {
    const [one, two] = [proposeColumnName(`${"a".repeat(100)}.x`), proposeColumnName(`${"a".repeat(100)}.y`)];
    expect(one).toMatch(/^a{54}_[0-9a-f]{8}$/);
    expect(two).not.toBe(one);
    expect(Buffer.byteLength(proposeColumnName("名".repeat(40)))).toBeLessThanOrEqual(63);
  });

  it("makes a name that needs no quotes out of any text", () => {
    assert(
      property(string({ unit: "binary", maxLength: 200 }), (path) => {
        const name = proposeColumnName(path);
        expect(name).toMatch(/^[_\p{L}][_\p{L}\p{M}\p{Nd}]*$/u);
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
        expect(proposeColumnName(path)).toBe(name);
      }),
      { numRuns: 2000 },
    );
  });
});
