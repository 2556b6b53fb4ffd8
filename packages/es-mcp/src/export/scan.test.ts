import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Profile } from "./profile.ts";
import { compactDocument } from "./rewrite.ts";
import { DocumentScanner, PageScanner, ScanError } from "./scan.ts";

interface Found {
  index: unknown;
  id: unknown;
  routing: unknown;
  seqNo: string;
  primaryTerm: string;
  sort: string;
  source: Buffer;
  unclean: boolean;
}

function pageOf(documents: readonly (string | Buffer)[], between = ""): Buffer {
  const head =
    '{"pit_id":"abc==","took":3,"timed_out":false,"_shards":{"total":2,"successful":2,"skipped":0,"failed":0},' +
    `"hits":{"total":{"value":${documents.length},"relation":"eq"},"max_score":null,"hits":[`;
  const pieces: Buffer[] = [Buffer.from(head)];
  for (const [position, document] of documents.entries()) {
    const routing = position % 3 === 2 ? `,"_routing":"r${position}"` : "";
    const ignored = position % 4 === 3 ? ',"_ignored":["a","_source"]' : "";
    const prefix = `{"_index":"i","_id":"d\\"${position}","_seq_no":${position},"_primary_term":7,"_score":null${routing}${ignored},"_source":`;
    pieces.push(Buffer.from(`${position > 0 ? "," : ""}${prefix}`), Buffer.from(document));
    pieces.push(Buffer.from(`${between},"sort":[${position}]}`));
  }
  pieces.push(Buffer.from("]}}"));
  return Buffer.concat(pieces);
}

function scan(page: Buffer, options: { profile?: Profile; single?: boolean } = {}) {
  const found: Found[] = [];
  const json = (start: number, end: number): unknown =>
    start < 0 ? undefined : JSON.parse(page.toString("utf8", start, end));
  const result = new PageScanner().scan(page, {
    ...options,
    visit(hit) {
      found.push({
        index: json(hit.indexStart, hit.indexEnd),
        id: json(hit.idStart, hit.idEnd),
        routing: json(hit.routingStart, hit.routingEnd),
        seqNo: page.toString("utf8", hit.seqNoStart, hit.seqNoEnd),
        primaryTerm: page.toString("utf8", hit.primaryTermStart, hit.primaryTermEnd),
        sort: page.toString("utf8", hit.sortStart, hit.sortEnd),
        source: Buffer.from(page.subarray(hit.sourceStart, hit.sourceEnd)),
        unclean: hit.unclean,
      });
    },
  });
  return { result, found };
}

/** Where the string of this text ends in a document that holds nothing else. */
function endOfString(text: Buffer): "its own" | "refused" | "elsewhere" {
  const document = Buffer.concat([Buffer.from('{"k":"'), text, Buffer.from('"}')]);
  const scanner = new DocumentScanner();
  scanner.reset(document);
  try {
    return scanner.scan(document, 0, document.length) === document.length ? "its own" : "elsewhere";
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    return error.message === "a string holds a control byte" ? "refused" : "elsewhere";
  }
}

function compact(document: Buffer): string {
  const target = Buffer.alloc(document.length);
  return target.toString("utf8", 0, compactDocument(document, 0, document.length, target, 0));
}

function isPlainLine(document: Buffer): boolean {
  try {
    JSON.parse(document.toString("utf8"));
    return document.every((byte) => byte >= 0x20);
  } catch {
    return false;
  }
}

const HOSTILE = [
  '{"o":{"_source":{"a":1},"sort":[1]},"hits":{"hits":[{"_id":"x"}]}}',
  '{"a":"}],\\"sort\\":[1]}","b":"\\\\","c":"\\\\\\"","d":"\\"}"}',
  '{"k":"a" /* } " { */, "price":1.10}',
  '{"a":1 // it\'s "unbalanced }\n}',
  '{ "a"/**/:/* " */1/**/,"b"//x\r:2}',
  '{\n  "pretty": [\n    1,\t2\r\n  ]\n}\n\n',
  '\uFEFF{"bom":true}',
  '{"comment at the end":1} /* ,"sort":[9]} */ ',
  "{}",
  "{ }",
  '{"a":[],"b":{},"c":[[],[[1],2]],"d":[{}]}',
  '{"n":-0,"e":1e3,"f":-1.50E+10,"l":9007199254740993,"x":123456789012345678901234567890.12345}',
  '{"off.x":1,"off":{"x":2}}',
  '{"":"","\\u0000":"\\u0000","\\"":1}',
  `{"deep":${"[".repeat(500)}${"]".repeat(500)}}`,
  `{"long":"${"x\\\\".repeat(3000)}","after":"${"é日😀".repeat(100)}"}`,
  `{"long":"${"y".repeat(100_000)}","_source":"${"z".repeat(63)}\\""}`,
  '{"lone":"\\ud800","url":"http://example.com//x /* y */"}',
];

describe("PageScanner", () => {
  it("finds every hostile document, whatever stands around it", () => {
    const page = pageOf(HOSTILE);
    const { found, result } = scan(page);
    expect(result).toMatchObject({
      hits: HOSTILE.length,
      pitId: "abc==",
      timedOut: false,
      shardsFailed: 0,
      total: HOSTILE.length,
    });
    for (const [position, hit] of found.entries()) {
      const sent = HOSTILE[position] ?? "";
      expect(sent.startsWith(hit.source.toString("utf8"))).toBe(true);
      expect(hit).toMatchObject({
        index: "i",
        id: `d"${position}`,
        seqNo: `${position}`,
        primaryTerm: "7",
        sort: `[${position}]`,
      });
      expect(hit.routing).toBe(position % 3 === 2 ? `r${position}` : undefined);
      const stripped = compact(hit.source);
      expect(() => JSON.parse(stripped)).not.toThrow();
      expect(Buffer.from(stripped).every((byte) => byte >= 0x20)).toBe(true);
      // Whoever needs no compaction is stored as it is, so nothing but plain JSON on one line may pass as clean.
      expect(hit.unclean || isPlainLine(hit.source)).toBe(true);
    }
    expect(found.map((hit) => hit.unclean)).toMatchInlineSnapshot(`
      [
        false,
        false,
        true,
        true,
        true,
        true,
        true,
        false,
        false,
        false,
        false,
        false,
        false,
        false,
        false,
        false,
        false,
        false,
      ]
    `);
  });

  it("keeps every token's bytes when it compacts", () => {
    expect(compact(Buffer.from('{ "a" : 1.10 , /* x */ "b" : [ -0 , "s  // p\\n" ] // end\n}'))).toBe(
      '{"a":1.10,"b":[-0,"s  // p\\n"]}',
    );
  });

  it("agrees with JSON.parse on generated documents in any layout", { timeout: 30_000 }, () => {
    const blank = fc.constantFrom("", "", "", " ", "\n", "\r\n\t", "/**/", '/* "} */', "// x\n", "//\r");
    const layout = (value: unknown, blanks: string[], at: { n: number }): string => {
      const gap = () => blanks[at.n++ % blanks.length] ?? "";
      if (Array.isArray(value))
        return `[${gap()}${value.map((item) => layout(item, blanks, at) + gap()).join(`,${gap()}`)}]`;
      if (typeof value === "object" && value !== null) {
        const members = Object.entries(value).map(
          ([key, item]) => `${JSON.stringify(key)}${gap()}:${gap()}${layout(item, blanks, at)}${gap()}`,
        );
        return `{${gap()}${members.join(`,${gap()}`)}}`;
      }
      return JSON.stringify(value);
    };
    const key = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("_source", "sort", "hits", "a", "b"));
    const { node } = fc.letrec<{ node: unknown; object: unknown }>((tie) => ({
      node: fc.oneof(
        { depthSize: "small", withCrossShrink: true },
        fc.oneof(
          fc.string({ unit: "binary" }),
          fc.string({ minLength: 60, maxLength: 140 }),
          fc.double({ noNaN: true, noDefaultInfinity: true }),
          fc.integer(),
          fc.boolean(),
          fc.constant(null),
        ),
        fc.array(tie("node"), { maxLength: 4 }),
        tie("object"),
      ),
      object: fc.dictionary(key, tie("node"), { maxKeys: 5 }),
    }));
    const document = fc.dictionary(key, node, { maxKeys: 6 });
    fc.assert(
      fc.property(
        fc.array(document, { maxLength: 5 }),
        fc.array(blank, { minLength: 1, maxLength: 9 }),
        (documents, blanks) => {
          const texts = documents.map((value) => layout(value, blanks, { n: 0 }));
          const { found, result } = scan(pageOf(texts), { profile: new Profile() });
          expect(result.hits).toBe(documents.length);
          for (const [position, hit] of found.entries()) {
            expect(hit.source.toString()).toBe(texts[position]);
            expect(JSON.parse(compact(hit.source))).toEqual(JSON.parse(JSON.stringify(documents[position])));
            expect(hit.unclean).toBe(!isPlainLine(hit.source));
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it("stops before a document that a line comment follows, and reads it from a page of its own", () => {
    const hostile = '{"a":1} // c,"sort":[1]},{"_index":"i","_id":"forged","_source":{"x":1}';
    const many = scan(pageOf(['{"z":0}', hostile, '{"b":\n2}']));
    expect(many.result).toMatchObject({ hits: 1, stoppedAtLineComment: true });
    const alone = scan(pageOf([hostile]), { single: true });
    expect(alone.result).toMatchObject({ hits: 1, stoppedAtLineComment: false });
    expect(alone.found[0]?.source.toString()).toBe('{"a":1}');
    expect(alone.found[0]?.unclean).toBe(true);
  });

  it("counts a document in the profile once, although it is scanned again alone", () => {
    const document = '{"a":[1,{"b":"2024-01-02"}],"c":"","d":null,"e":1.5,"f":true,"g":"12","h":"\\u0000"}';
    const profile = new Profile();
    scan(pageOf(['{"c":"x"}', `${document} // c`]), { profile });
    expect(profile.fields().map(({ path, present }) => [path, present])).toEqual([["c", 1]]);
    scan(pageOf([`${document} // c`]), { profile, single: true });
    const once = new Profile();
    scan(pageOf(['{"c":"x"}', document]), { profile: once });
    expect(profile.fields()).toEqual(once.fields());
  });

  it("keeps invalid UTF-8 as it is", () => {
    const document = Buffer.concat([
      Buffer.from('{"z":"'),
      Buffer.from([0xc0, 0x80, 0xed, 0xa0, 0x80]),
      Buffer.from('"}'),
    ]);
    expect(scan(pageOf([document])).found[0]?.source.equals(document)).toBe(true);
  });

  it.each([
    ["a cut page", Buffer.from(pageOf(['{"a":1}']).toString().slice(0, -20))],
    ["a cut document", pageOf(['{"a":{"b":1}'])],
    ["a document that goes on", pageOf(['{"a":1}}'])],
    ["a number that is none", pageOf(['{"a":01}'])],
    ["a word that is no literal", pageOf(['{"a":nul}'])],
    ["a comma too many", pageOf(['{"a":1,}'])],
    ["brackets that cross", pageOf(['{"a":[1}]'])],
    ["a control byte in a string", pageOf([`{"a":"${"x".repeat(80)}\n"}`])],
    ["another byte between tokens", pageOf(['{"a":\f1}'])],
    ["a comment without end", pageOf(['{"a":1 /* }'])],
    ["an array as document", pageOf(["[1]"])],
    ["no document", pageOf(["null"])],
  ])("refuses %s", (_name, page) => {
    expect(() => scan(page)).toThrow(ScanError);
  });

  it("ends a string at each of the bytes that end one, wherever it stands among its neighbours", () => {
    const surprises: object[] = [];
    for (const neighbour of [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xff]) {
      for (let at = 0; at < 12; at++) {
        for (let byte = 0; byte < 256; byte++) {
          const text = Buffer.alloc(13, neighbour);
          text[at] = byte;
          const met = endOfString(text);
          // Quotes end it early; a backslash only takes what follows with it.
          const expected = byte < 0x20 ? "refused" : byte === 0x22 ? "elsewhere" : "its own";
          if (met !== expected) surprises.push({ neighbour, at, byte, met });
        }
      }
    }
    expect(surprises).toEqual([]);
  });

  it("names the document that it cannot read", () => {
    expect(() => scan(pageOf(['{"a":1}', '{"a":x}']))).toThrow(expect.objectContaining({ documentId: 'd"1' }));
  });

  it("refuses a hit without _source by its id", () => {
    const page = Buffer.from(pageOf(["{}"]).toString().replace('"_source":{},', ""));
    expect(() => scan(page)).toThrow(expect.objectContaining({ documentId: 'd"0' }));
  });

  it("reports failed shards and a time-out", () => {
    const text = pageOf([])
      .toString()
      .replace('"failed":0', '"failed":1,"failures":[{"reason":{"a":"}"}}]')
      .replace("false", "true");
    expect(scan(Buffer.from(text)).result).toMatchObject({ shardsFailed: 1, timedOut: true, hits: 0 });
  });
});
