import { startPostgresVariant } from "@es-to-pg/engines";
import { Client } from "pg";
import { connectionFromUrl } from "../src/config.ts";
import { everything, openPostgres } from "../src/postgres/index.ts";
import { runQuery } from "../src/query/index.ts";

// What judging a statement costs: `runQuery` beside the same statement by pg with a cursor, in turns and in one process.

/** Turns per statement; the middle of them counts. */
const turns = Number(process.argv[2] ?? 300);
/** Turns before those that count: the server's and V8's caches fill. */
const warmUp = 50;

const statements: { name: string; sql: string }[] = [
  { name: "a constant", sql: "SELECT 1" },
  { name: "a row by its key", sql: "SELECT * FROM orders WHERE id = 4711" },
  { name: "a view with joins", sql: "SELECT * FROM busy WHERE id < 20" },
  {
    name: "an aggregate of some 10 ms",
    sql: "SELECT code, sum(amount), count(*) FROM orders WHERE id < 60000 GROUP BY code ORDER BY 1",
  },
  {
    name: "an aggregate of some 50 ms",
    sql: "SELECT code, sum(amount), avg(amount), max(at) FROM orders GROUP BY code ORDER BY 1",
  },
];

const setup = `
CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(10,2), at timestamptz);
INSERT INTO orders SELECT g, 'c' || g % 100, g / 7.0, now() - make_interval(secs => g) FROM generate_series(1, 300000) g;
CREATE INDEX ON orders (lower(code));
CREATE VIEW busy AS SELECT o.id, o.code, p.amount FROM orders o JOIN orders p USING (id) WHERE lower(o.code) LIKE 'c%';
ANALYZE;`;

function middle(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

const given = process.env["DATABASE_URL"];
const engine = given === undefined ? await startPostgresVariant({}) : { url: given, stop: async () => {} };
const plain = new Client({ connectionString: engine.url });
await plain.connect();
await plain.query("CREATE DATABASE judge_bench");
const url = engine.url.replace(/\/[^/?]*(\?|$)/, "/judge_bench$1");
const client = new Client({ connectionString: url });
await client.connect();
await client.query(setup);
const postgres = openPostgres({ writer: connectionFromUrl(url) });
const signal = new AbortController().signal;

async function byCursor(sql: string): Promise<void> {
  await client.query("BEGIN TRANSACTION READ ONLY");
  await client.query(`DECLARE answer NO SCROLL CURSOR FOR ${sql}`);
  await client.query({ text: "FETCH FORWARD 101 FROM answer", rowMode: "array" });
  await client.query("ROLLBACK");
}

async function judged(sql: string): Promise<void> {
  const request = {
    params: [],
    rowsMax: 100,
    bytesMax: 20_000,
    timeoutMs: 30_000,
    policy: everything,
    functionsAllow: [],
  };
  await runQuery({ ...request, postgres, sql, signal });
}

try {
  console.log("statement                    cursor ms  judged ms  more ms  ratio");
  for (const { name, sql } of statements) {
    const cursor: number[] = [];
    const own: number[] = [];
    for (let turn = 0; turn < warmUp + turns; turn++) {
      const [first, second] = turn % 2 === 0 ? [cursor, own] : [own, cursor];
      for (const times of [first, second]) {
        const ms = await timed(() => (times === cursor ? byCursor(sql) : judged(sql)));
        if (turn >= warmUp) times.push(ms);
        // The session of a judged statement is emptied behind its answer, which is no cost of the next turn.
        await plain.query("SELECT 1");
      }
    }
    const [plainMs, judgedMs] = [middle(cursor), middle(own)];
    const figures = [plainMs, judgedMs, judgedMs - plainMs, judgedMs / plainMs].map((figure) =>
      figure.toFixed(2).padStart(9),
    );
    console.log(`${name.padEnd(27)}${figures.join("  ")}`);
  }
} finally {
  await postgres.close();
  await client.end();
  await plain.query("DROP DATABASE judge_bench WITH (FORCE)");
  await plain.end();
  await engine.stop();
}
