// oxlint-disable vitest/no-conditional-expect -- what holds of an input depends on what it is
import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { expect, it } from "vitest";
import { DocumentScanner, PageScanner, ScanError } from "../src/export/scan.ts";

/** Inputs of one property; a failure prints the seed that finds it again. */
const numRuns = Number(process.env["FUZZ_RUNS"] ?? 1_000_000);

/** Documents to begin with, the odd ones that Elasticsearch keeps among them. */
const documents = [
  '{"a":1,"b":[true,false,null,{"c":"d"}],"e":{"f":-1.5e+10}}',
  '{"k":"a\\"\\\\\\u00e9" ,"l":9007199254740993,"é😀":"日本"}',
  '{"a":"}],\\"sort\\":[1]}","hits":{"hits":[{"_id":"x"}]},"_source":{"sort":[1]}}',
  "{ }",
  '{"":"","a":[],"b":{},"c":[[],[[1],2]]}',
];
const pieces = [
  ...Array.from('{}[]",:\\/* \n\r\t01-+.eEtfn'),
  "",
  "\\u",
  "\\u0000",
  "//",
  "/*",
  "*/",
  "é",
  "\ufeff",
  "true",
  "null",
  "1e999",
];

const edits = array(record({ at: nat(200), drop: nat(5), put: constantFrom(...pieces) }), { maxLength: 5 });

/** A text with some of its characters replaced. Its twins are in the other fuzz tests: each has pieces of its own. */
function edited(text: string, changes: readonly { at: number; drop: number; put: string }[]): string {
  return changes.reduce((whole, { at, drop, put }) => {
    const position = at % (whole.length + 1);
    return whole.slice(0, position) + put + whole.slice(position + drop);
  }, text);
}

function parsed(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

it("finds the end of a document where a parser does, and calls none clean that a parser refuses", () => {
  const scanner = new DocumentScanner();
  assert(
    property(constantFrom(...documents), edits, (document, changes) => {
      const text = edited(document, changes);
      // Bytes that follow the document must not be looked at.
      const bytes = Buffer.from(`${text}"]}garbage{`);
      const end = Buffer.byteLength(text);
      scanner.reset(bytes);
      let reached: number | undefined;
      try {
        reached = scanner.scan(bytes, 0, end);
      } catch (error) {
        if (!(error instanceof ScanError)) throw error;
      }
      const read = parsed(text);
      const isObject = typeof read?.value === "object" && read.value !== null && !Array.isArray(read.value);
      if (isObject && !/\p{Cc}/u.test(text)) expect(reached).toBe(Buffer.byteLength(text.trimEnd()));
      if (reached !== undefined) {
        expect(reached).toBeLessThanOrEqual(end);
        // No document that Elasticsearch took has a false escape; pg-mcp rejects one that it meets.
        const hasFalseEscape = /\\(?!["\\/bfnrt]|u[0-9a-f]{4})/i.test(text.replaceAll("\\\\", ""));
        if (!scanner.unclean && reached === end && !hasFalseEscape) expect(read).toBeDefined();
      }
    }),
    { numRuns },
  );
});

const page =
  '{"pit_id":"abc==","took":3,"timed_out":false,"_shards":{"total":2,"successful":2,"skipped":0,"failed":0},' +
  '"hits":{"total":{"value":2,"relation":"eq"},"max_score":null,"hits":[' +
  '{"_index":"i","_id":"d1","_seq_no":1,"_primary_term":7,"_score":null,"_source":{"a":"b","sort":[9]},"sort":[1]},' +
  '{"_index":"i","_id":"d\\"2","_seq_no":2,"_primary_term":7,"_score":null,"_routing":"r","_source":{"c":[1,2]},"sort":[2]}]}}';

interface Hit {
  _id: unknown;
  _source: unknown;
}

const hitKeys = ["_index", "_id", "_seq_no", "_primary_term", "_score", "_source", "sort"];

function isDocumented(hit: Hit): boolean {
  const keys = Object.keys(hit).filter((key) => key !== "_routing");
  return keys.length === hitKeys.length && hitKeys.every((key) => keys.includes(key)) && typeof hit._id === "string";
}

function hitsOf(text: string): Hit[] | undefined {
  const read = parsed(text);
  if (read === undefined) return undefined;
  const { value } = read;
  if (typeof value !== "object" || value === null || !("hits" in value)) return undefined;
  const { hits } = value;
  if (typeof hits !== "object" || hits === null || !("hits" in hits) || !Array.isArray(hits.hits)) return undefined;
  return hits.hits;
}

it("gives of a page what a parser gives, or refuses the page", () => {
  assert(
    property(
      array(record({ at: nat(page.length), drop: nat(5), put: constantFrom(...pieces) }), { maxLength: 3 }),
      (changes) => {
        const text = edited(page, changes);
        const bytes = Buffer.from(text);
        const found: { id: string; source: string | undefined }[] = [];
        try {
          new PageScanner().scan(bytes, {
            visit(hit) {
              found.push({
                id: bytes.toString("utf8", hit.idStart, hit.idEnd),
                source: hit.unclean ? undefined : bytes.toString("utf8", hit.sourceStart, hit.sourceEnd),
              });
            },
          });
        } catch (error) {
          if (error instanceof ScanError) return;
          throw error;
        }
        const expected = hitsOf(text);
        // A page that no parser reads but the scanner does holds a comment, which Elasticsearch puts there itself.
        // And keys are told by a part of them, because no hit has others than those that are documented.
        if (expected?.every((hit) => isDocumented(hit)) !== true) return;
        expect(found.map(({ id }) => parsed(id)?.value)).toEqual(expected.map(({ _id }) => _id));
        for (const [index, { source }] of found.entries()) {
          if (source !== undefined) expect(parsed(source)?.value).toEqual(expected[index]?._source);
        }
      },
    ),
    { numRuns },
  );
});
