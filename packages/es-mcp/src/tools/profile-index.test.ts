import { Buffer } from "node:buffer";
import { expect, it } from "vitest";
import { Profile } from "../export/profile.ts";
import { DocumentScanner } from "../export/scan.ts";
import { describeFields } from "./profile-index.ts";

it("tells per field what the mapping cannot, and leaves out what is nothing", () => {
  const profile = new Profile();
  const documents = [
    '{"price":1.10,"tags":["a","bé"],"at":"2024-01-02"}',
    '{"price":"12","tags":"c","new":true,"at":null}',
  ];
  for (const document of documents) {
    const bytes = Buffer.from(document);
    const scanner = new DocumentScanner();
    scanner.reset(bytes);
    scanner.scan(bytes, 0, bytes.length, profile);
  }
  const mapping = [
    { path: "price", type: "float" },
    { path: "tags", type: "keyword" },
    { path: "tags.text", type: "text", multi_field: true },
    { path: "at", type: "date" },
    { path: "gone", type: "long" },
  ];
  const fields = describeFields(mapping, profile.fields(), documents.length);
  expect(fields.map((field) => ({ ...field, notes: undefined }))).toMatchInlineSnapshot(`
    [
      {
        "digits": [
          1,
          2,
        ],
        "kinds": {
          "decimal": 1,
          "string": 1,
        },
        "length_max": 2,
        "max": "1.10",
        "min": "1.10",
        "notes": undefined,
        "path": "price",
        "postgres": "real",
        "strings_number": 1,
        "type": "float",
      },
      {
        "array_length_max": 2,
        "arrays": 1,
        "bytes_max": 3,
        "kinds": {
          "string": 3,
        },
        "length_max": 2,
        "max": "c",
        "min": "a",
        "notes": undefined,
        "path": "tags",
        "postgres": "text[]",
        "type": "keyword",
      },
      {
        "date_formats": [
          "yyyy-MM-dd",
        ],
        "kinds": {
          "string": 1,
        },
        "length_max": 10,
        "max": "2024-01-02",
        "min": "2024-01-02",
        "notes": undefined,
        "null_percent": 50,
        "path": "at",
        "postgres": "timestamptz",
        "strings_date": 1,
        "type": "date",
      },
      {
        "missing_percent": 100,
        "notes": undefined,
        "path": "gone",
        "postgres": "bigint",
        "type": "long",
      },
      {
        "kinds": {
          "boolean": 1,
        },
        "missing_percent": 50,
        "notes": undefined,
        "path": "new",
        "postgres": "jsonb",
        "type": "unmapped",
      },
    ]
  `);
});
