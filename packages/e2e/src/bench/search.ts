/**
 * `npm run bench:search`: the same search of 100 documents made directly, over HTTP, and by es-mcp's `search_documents`
 * over stdio, by turns; prints the middle of the times of each and their ratio. A script's `fetch` has the answer
 * compressed, which on one machine costs more than it saves, so the request is made without as well.
 */
import { requestElasticsearch } from "@es-to-pg/seed";
import { benchOptions, main } from "./bench.ts";
import { describeMachine } from "./report.ts";

const size = 100;
const warmUps = 50;
const turns = 300;

const options = benchOptions("Usage: npm run bench:search -- [options]", 100_000);
await main(options, async (place) => {
  const { index, taskOptions } = place;
  const query = { range: { price: { gte: 10 } } };
  const request = {
    method: "POST",
    path: `${index}/_search`,
    body: JSON.stringify({ query, size, track_total_hits: true, seq_no_primary_term: true }),
  } as const;
  const { elasticsearchUrl } = taskOptions;
  const ways = {
    direct: async () => JSON.parse(await requestElasticsearch(elasticsearchUrl, request)),
    "not compressed": async () =>
      JSON.parse(await requestElasticsearch(elasticsearchUrl, { ...request, compressed: false })),
    search_documents: async () => {
      const answer = await session.call("search_documents", { index, query, size });
      if (answer.isError) throw new Error(answer.text);
    },
  };
  await using session = await place.openServer("es-mcp");
  const times: Record<keyof typeof ways, number[]> = { direct: [], "not compressed": [], search_documents: [] };
  // Not all by turns: how long a process has waited tells on its next answer.
  for (const pair of [["direct", "search_documents"], ["not compressed"]] as const) {
    for (let turn = -warmUps; turn < turns; turn++) {
      for (const way of pair) {
        const from = performance.now();
        await ways[way]();
        if (turn >= 0) times[way].push(performance.now() - from);
      }
    }
  }
  const direct = middle(times.direct);
  const plain = middle(times["not compressed"]);
  const tool = middle(times.search_documents);
  process.stdout.write(
    `Search of ${size} among ${options.documents.toLocaleString("en")} documents, ${turns} times each\n${describeMachine()}\n\n` +
      `direct            p50 ${direct.toFixed(2)} ms\n  not compressed  p50 ${plain.toFixed(2)} ms\n` +
      `search_documents  p50 ${tool.toFixed(2)} ms  ${(tool / direct).toFixed(2)}x, ${(tool / plain).toFixed(2)}x of the uncompressed\n`,
  );
});

function middle(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
}
