import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, chmod, chown, cp, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "@es-to-pg/engines";
import { Client } from "pg";

const readyMsMax = 60_000;

/** A server that only follows another. */
export interface Standby {
  url: string;
  /** Waits until it shows all that the primary has written. */
  catchUp(): Promise<void>;
  stop(): Promise<void>;
}

/** Makes a standby of a primary on this machine: a base backup by its own functions, and its own program over it. */
export async function startStandby(primaryUrl: string): Promise<Standby> {
  const primary = new Client({ connectionString: primaryUrl });
  await primary.connect();
  const folder = await mkdtemp(join(tmpdir(), "pgq-standby-"));
  const data = join(folder, "data");
  const from = await setting(primary, "SELECT current_setting('data_directory')");
  const bin = await setting(primary, "SELECT setting FROM pg_config WHERE name = 'BINDIR'");
  const major = Number(await setting(primary, "SELECT current_setting('server_version_num')::int / 10000"));
  const [start, stop] =
    major >= 15
      ? ["pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"]
      : ["pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"];
  await primary.query(`SELECT ${start}`);
  await cp(from, data, { recursive: true, preserveTimestamps: true });
  await writeFile(join(data, "backup_label"), await setting(primary, stop));
  await rm(join(data, "postmaster.pid"), { force: true });
  await writeFile(join(data, "standby.signal"), "");
  const { hostname, port, username, password } = new URL(primaryUrl);
  await appendFile(
    join(data, "postgresql.auto.conf"),
    `primary_conninfo = 'host=${hostname} port=${port} user=${username} password=${password}'\n`,
  );
  const { uid, gid } = await stat(from);
  for (const entry of ["", ...(await readdir(data, { recursive: true }))]) await chown(join(data, entry), uid, gid);
  await chmod(data, 0o700);
  await chmod(folder, 0o755);
  const own = await freePort();
  const url = new URL(primaryUrl);
  url.port = String(own);
  const settings = [`port=${own}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
  // What a standby needs as large as its primary has it.
  for (const name of ["max_connections", "max_prepared_transactions", "max_worker_processes", "wal_level"]) {
    settings.push(`${name}=${await setting(primary, `SELECT current_setting('${name}')`)}`);
  }
  const program = spawn(join(bin, "postgres"), ["-D", data, ...settings.flatMap((one) => ["-c", one])], {
    uid,
    gid,
    cwd: data,
    stdio: "ignore",
  });
  const kill = (): void => void program.kill("SIGQUIT");
  process.once("exit", kill);
  await answers(url.href, program);
  return {
    url: url.href,
    async catchUp() {
      const written = await setting(primary, "SELECT pg_current_wal_insert_lsn()");
      // What was written without waiting for the disk is sent when it is flushed.
      await primary.query("SELECT pg_switch_wal()");
      const client = new Client({ connectionString: url.href });
      await client.connect();
      try {
        for (const deadline = Date.now() + readyMsMax; ; await sleep(20)) {
          const { rows } = await client.query<{ there: boolean }>(
            "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS there",
            [written],
          );
          if (rows[0]?.there) return;
          if (Date.now() > deadline) throw new Error("the standby does not follow");
        }
      } finally {
        await client.end();
      }
    },
    async stop() {
      process.removeListener("exit", kill);
      if (program.exitCode === null) {
        const exit = once(program, "exit");
        program.kill("SIGQUIT");
        await exit;
      }
      await primary.end();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function setting(client: Client, sql: string): Promise<string> {
  const { rows } = await client.query<unknown[]>({ text: sql, rowMode: "array" });
  return String(rows[0]?.[0]);
}

async function answers(url: string, program: ChildProcess): Promise<void> {
  for (const deadline = Date.now() + readyMsMax; ; await sleep(50)) {
    const client = new Client({ connectionString: url });
    client.on("error", () => {});
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (program.exitCode !== null || Date.now() > deadline) throw error;
    }
  }
}
