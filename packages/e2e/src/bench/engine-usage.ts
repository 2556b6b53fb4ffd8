import { readFileSync } from "node:fs";
import { requestElasticsearch } from "@es-to-pg/seed";
import { Client } from "pg";
import { z } from "zod";
import { cpuSecondsOf } from "./process-usage.ts";

/** What the engines have used so far; null where it cannot be read. Others who use them are counted too. */
export interface EngineUsage {
  elasticsearchCpuSeconds: number | null;
  postgresCpuSeconds: number | null;
  walBytes: number | null;
}

const nodesSchema = z.object({
  nodes: z.record(z.string(), z.object({ process: z.object({ cpu: z.object({ total_in_millis: z.number() }) }) })),
});

/** Reads the CPU time of both engines and how much write-ahead log there is. */
export async function readEngines(engines: { elasticsearchUrl: string; databaseUrl?: string }): Promise<EngineUsage> {
  const { databaseUrl } = engines;
  return {
    elasticsearchCpuSeconds: await elasticsearchCpuSeconds(engines.elasticsearchUrl),
    ...(databaseUrl === undefined ? { postgresCpuSeconds: null, walBytes: null } : await readPostgres(databaseUrl)),
  };
}

async function elasticsearchCpuSeconds(url: string): Promise<number | null> {
  try {
    const path = "_nodes/stats/process?filter_path=nodes.*.process.cpu.total_in_millis";
    const { nodes } = nodesSchema.parse(JSON.parse(await requestElasticsearch(url, { method: "GET", path })));
    const millis = Object.values(nodes).map((node) => node.process.cpu.total_in_millis);
    return millis.some((value) => value < 0) ? null : millis.reduce((sum, value) => sum + value, 0) / 1000;
  } catch {
    // Managed clusters refuse node statistics; the other figures stand without.
    return null;
  }
}

async function readPostgres(connectionString: string): Promise<Omit<EngineUsage, "elasticsearchCpuSeconds">> {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    const { rows } = await client.query<{ wal: string }>("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS wal");
    const walBytes = Number(rows[0]?.wal);
    return { walBytes, postgresCpuSeconds: await postgresCpuSeconds(client) };
  } finally {
    await client.end();
  }
}

/** The postmaster, the children it has, and those it had: only where it runs on this machine and we may look. */
async function postgresCpuSeconds(client: Client): Promise<number | null> {
  try {
    const { rows } = await client.query<{ pid: string }>(
      "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid",
    );
    const pid = Number(rows[0]?.pid);
    // In a container of its own the number means another process here.
    if (!readFileSync(`/proc/${pid}/comm`, "latin1").startsWith("postgres")) return null;
    const { own, ended } = cpuSecondsOf(pid);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ");
    return children.reduce((sum, child) => sum + childSeconds(Number(child)), own + ended);
  } catch {
    return null;
  }
}

function childSeconds(pid: number): number {
  try {
    return cpuSecondsOf(pid).own;
  } catch {
    return 0;
  }
}
