/**
 * `npm run bench:search`: the same search of 100 documents made directly, over HTTP, and by es-mcp's `search_documents`
 * over stdio, by turns; prints the middle of the times of each and their ratio.
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
  const ways: Record<"direct" | "search_documents", () => Promise<unknown>> = {
    direct: async () =>
      JSON.parse(
        await requestElasticsearch(taskOptions.elasticsearchUrl, {
          method: "POST",
          path: `${index}/_search`,
          body: JSON.stringify({ query, size, track_total_hits: true, seq_no_primary_term: true }),
        }),
      ),
    search_documents: async () => {
      const answer = await session.call("search_documents", { index, query, size });
      if (answer.isError) throw new Error(answer.text);
    },
  };
  await using session = await place.openServer("es-mcp");
  const times = { direct: [] as number[], search_documents: [] as number[] };
  for (let turn = -warmUps; turn < turns; turn++) {
    for (const way of ["direct", "search_documents"] as const) {
      const from = performance.now();
      await ways[way]();
      if (turn >= 0) times[way].push(performance.now() - from);
    }
  }
  const direct = middle(times.direct);
  const tool = middle(times.search_documents);
  process.stdout.write(
    `Search of ${size} among ${options.documents.toLocaleString("en")} documents, ${turns} times each\n${describeMachine()}\n\n` +
      `direct            p50 ${direct.toFixed(2)} ms\nsearch_documents  p50 ${tool.toFixed(2)} ms  ${(tool / direct).toFixed(2)}x\n`,
  );
});

function middle(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN;
}
