/** Documents for loads that are ill-treated, and what a table must hold afterwards by the documents alone. */
import { connect as connectTcp, createServer, type Socket } from "node:net";
import { listenOnLoopback } from "@es-to-pg/engines";
import type { StagedDocument } from "./load-harness.ts";

export type ChaosMode = "upsert" | "append" | "replace";

/** One row of the target; `name` is varchar(12), and `v` may be anything but 13. */
export type Row = [id: string, v: number | null, name: string | null];

export interface World {
  before: Row[];
  parts: StagedDocument[][];
}

const forbidden = 13;
const nameCharactersMax = 12;

/** A small generator with a seed, so that a failure can be had again. */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Keys come several times, within a part and across parts; some values do not fit, and one the target forbids. */
export function makeWorld(seed: number, partCount: number, documentsPerPart: number): World {
  const below = random(seed);
  const keys = Math.floor(partCount * documentsPerPart * 0.7);
  const before = Array.from({ length: Math.floor(keys / 4) }, (_, n): Row => [`k${n}`, below(9), `n${below(3)}`]);
  let serial = 0;
  const makeDocument = (): StagedDocument => {
    const id = below(200) === 0 ? null : `k${below(keys)}`;
    const v = below(100) === 0 ? "bad" : below(100) === 0 ? forbidden : below(20) === 0 ? null : below(9);
    const name = below(150) === 0 ? "longer than it may be" : `n${below(3)}`;
    return { id: `d${serial++}`, seqNo: below(2 ** 40), source: { id, v, name } };
  };
  const parts = Array.from({ length: partCount }, () => Array.from({ length: documentsPerPart }, makeDocument));
  return { before, parts };
}

/** The same documents under keys that come once and are their ids, and rows that are there already. */
export function withUniqueKeys(world: World): World {
  const parts = world.parts.map((part, number) =>
    part.map((document): StagedDocument => {
      const id = `${number} ${document.id}`;
      return { ...document, id, source: Object.assign({}, document.source, { id }) };
    }),
  );
  const before = parts.flat().flatMap(({ id }, n): Row[] => (n % 4 === 0 ? [[id, n % 9, `n${n % 3}`]] : []));
  return { before, parts };
}

/** What a document says, or undefined where it does not fit the columns. */
function readable({ source }: StagedDocument): Row | undefined {
  if (typeof source === "string") return undefined;
  const { id, v, name } = source;
  if (typeof name !== "string" || name.length > nameCharactersMax) return undefined;
  if (v !== null && typeof v !== "number") return undefined;
  return [typeof id === "string" ? id : "", v, name];
}

/** What the table and the figures must be after one load. */
export function oracle({ before, parts }: World, mode: ChaosMode) {
  const documents = parts.flat();
  const figures = {
    expected: documents.length,
    staged: documents.length,
    inserted: 0,
    updated: 0,
    unchanged: 0,
    skipped: 0,
    stale: 0,
    deduplicated: 0,
    suppressed: 0,
    rejected: 0,
  };
  const rows = mode === "append" ? [...before] : [];
  const table = new Map(before.map((row) => [row[0], row]));
  const winners = new Map<string, { seqNo: number; row: Row }>();
  for (const document of documents) {
    const row = readable(document);
    if (row === undefined || row[0] === "") {
      figures.rejected++;
    } else if (mode === "append") {
      if (row[1] === forbidden) figures.rejected++;
      else {
        figures.inserted++;
        rows.push(row);
      }
    } else {
      const known = winners.get(row[0]);
      if (known !== undefined) figures.deduplicated++;
      const seqNo = document.seqNo ?? 0;
      if (known === undefined || known.seqNo < seqNo) winners.set(row[0], { seqNo, row });
    }
  }
  if (mode === "append") return { figures, rows: sorted(rows) };
  if (mode === "replace") for (const id of table.keys()) if (!winners.has(id)) table.delete(id);
  for (const { row } of winners.values()) {
    const stored = table.get(row[0]);
    if (stored?.[1] === row[1] && stored[2] === row[2]) figures.unchanged++;
    else if (row[1] === forbidden) figures.rejected++;
    else {
      if (stored === undefined) figures.inserted++;
      else figures.updated++;
      table.set(row[0], row);
    }
  }
  return { figures, rows: sorted([...table.values()]) };
}

/** One line a row, in an order that needs no collation. */
export function sorted(rows: readonly (readonly unknown[])[]): string[] {
  return rows.map((row) => JSON.stringify(row)).sort();
}

/** A way to the server that can be cut, or fall silent. */
export interface Wire {
  url: string;
  /** Ends every connection at once, without a farewell. */
  cut(): void;
  /** Holds back every byte, in both directions, while it is true; new connections too. */
  silent: boolean;
  close(): void;
}

/** Opens a proxy before the server of a URL. */
export async function openWire(databaseUrl: string): Promise<Wire> {
  const target = new URL(databaseUrl);
  const pairs = new Set<[Socket, Socket]>();
  const wire = { silent: false };
  const server = createServer((near) => {
    const far = connectTcp(Number(target.port), target.hostname);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    const forward = (from: Socket, to: Socket) => {
      from.on("data", (chunk) => {
        // What is sent into silence is lost, as on a way that drops packets.
        if (!wire.silent && !to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("error", () => {});
      from.on("close", () => {
        pairs.delete(pair);
        if (!wire.silent) to.destroy();
      });
    };
    forward(near, far);
    forward(far, near);
  });
  const port = await listenOnLoopback(server);
  const url = new URL(databaseUrl);
  url.port = String(port);
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  };
  return Object.assign(wire, {
    url: url.href,
    cut,
    close() {
      cut();
      server.close();
    },
  });
}
