import { Buffer } from "node:buffer";
import { expect, it } from "vitest";
import { LineWriter } from "./line-writer.ts";
import { PageScanner } from "./scan.ts";

function linesOf(hits: readonly string[]): string {
  const page = Buffer.from(`{"took":1,"timed_out":false,"hits":{"hits":[${hits.join(",")}]}}`);
  const lines = new LineWriter(undefined);
  lines.begin(page);
  new PageScanner().scan(page, { visit: (hit) => void lines.append(hit) });
  return lines.take().toString();
}

it("writes the members of a line in their order, in whatever order and company a hit has them", () => {
  const lines = linesOf([
    '{"_index":"a","_id":"1","_seq_no":7,"_primary_term":1,"_score":null,"_source":{"b":1.10},"sort":[3]}',
    '{"_index":"a","_id":"2","_seq_no":8,"_primary_term":1,"_score":null,"_routing":"r","_source":{},"sort":[4]}',
    '{"_index":"a","_id":"3","_version":2,"_seq_no":9,"_primary_term":12,"_source":{},"sort":[5]}',
    '{"_id":"4","_index":"a","_seq_no":10,"_primary_term":1,"_source":{},"sort":[6]}',
    '{"_index":"a","_id":"5","_score":1.0,"_source":{"_id":"x"}}',
  ]);
  expect(lines).toMatchInlineSnapshot(`
    "{"_index":"a","_id":"1","_seq_no":7,"_primary_term":1,"_source":{"b":1.10}}
    {"_index":"a","_id":"2","_routing":"r","_seq_no":8,"_primary_term":1,"_source":{}}
    {"_index":"a","_id":"3","_seq_no":9,"_primary_term":12,"_source":{}}
    {"_index":"a","_id":"4","_seq_no":10,"_primary_term":1,"_source":{}}
    {"_index":"a","_id":"5","_source":{"_id":"x"}}
    "
  `);
});
