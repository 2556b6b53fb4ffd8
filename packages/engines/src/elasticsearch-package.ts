import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { cacheFolder } from "./cache-folder.ts";
import {
  engineIdentity,
  giveTo,
  isReachableByOthers,
  makeEngineFolder,
  startGuarded,
  waitUntilReady,
} from "./guarded.ts";
import type { Engine } from "./index.ts";
import { findJava } from "./java.ts";
import { Unavailable } from "./unavailable.ts";

const version = "8.11.3";
/** The server without its optional modules, as Elasticsearch's own plug-in tests use it: 81 MB and free to download. */
const artifact = `org.elasticsearch.distribution.integ-test-zip:elasticsearch:${version}:zip`;
/** Bounds a first download over a slow line. */
const downloadMsMax = 600_000;
/** Starting takes about 6 s on two idle cores; a busy machine takes several times as long. */
const readyMsMax = 180_000;

/** In what one start of the package differs from another. */
export interface Variant {
  scheme: "http" | "https";
  /** Settings besides those that every start has. */
  settings: Record<string, unknown>;
  /** Contents of further files in its configuration folder. */
  files: Record<string, string>;
  javaOptions: string;
  isReady(url: string): Promise<boolean>;
}

/** An Elasticsearch of the caller's own, which may be ill-treated. */
export interface OwnElasticsearch extends Engine {
  /** Kills it, starts it again on its data and at its address, and returns when it answers. */
  restart(): Promise<void>;
}

/** Starts the Elasticsearch that Maven has, on the Java of this machine. */
export async function startElasticsearchPackage(settings: Record<string, unknown> = {}): Promise<OwnElasticsearch> {
  return await startElasticsearchVariant({
    scheme: "http",
    settings: { "xpack.security.enabled": false, ...settings },
    files: {},
    javaOptions: "",
    // Not GET /: this distribution does not have it.
    isReady: (url) => answersHealth(url),
  });
}

/** Starts the Elasticsearch that Maven has with settings and files of the caller's. */
export async function startElasticsearchVariant(variant: Variant): Promise<OwnElasticsearch> {
  const identity = await engineIdentity();
  const isRoot = identity.uid !== undefined;
  const java = await findJava(async (home) => !isRoot || (await isReachableByOthers(home)));
  if ("missing" in java) throw new Unavailable(java.missing);
  const distribution = await findDistribution(java.home);
  const folder = await makeEngineFolder("elasticsearch", identity);
  try {
    // Root's cache may be out of reach for the engine's user.
    if (isRoot) await cp(distribution, folder.program, { recursive: true, mode: constants.COPYFILE_FICLONE });
    const home = isRoot ? folder.program : distribution;
    const at = (name: string) => join(folder.state, name);
    for (const name of ["config", "data", "logs", "tmp"]) {
      await mkdir(at(name));
      await giveTo(identity, at(name));
    }
    await writeConfig(home, at("config"), { "path.data": at("data"), "path.logs": at("logs"), ...variant.settings });
    for (const [name, content] of Object.entries(variant.files)) await writeFile(join(at("config"), name), content);
    const engine = startGuarded({
      command: join(home, "bin/elasticsearch"),
      args: [],
      cwd: folder.state,
      env: {
        PATH: process.env["PATH"] ?? "/usr/bin:/bin",
        HOME: folder.state,
        ES_JAVA_HOME: java.home,
        ES_PATH_CONF: at("config"),
        ES_TMPDIR: at("tmp"),
        ES_JAVA_OPTS: `-Xms512m -Xmx512m ${variant.javaOptions}`.trim(),
      },
      identity,
      folder: folder.path,
      logFile: join(folder.path, "console.log"),
      stopSignal: "SIGTERM",
      stopMsMax: 10_000,
    });
    try {
      let url: string | undefined;
      const isReady = async (): Promise<boolean> => {
        const address = await readAddress(at("logs/http.ports"));
        url = address === undefined ? undefined : `${variant.scheme}://${address}`;
        return url !== undefined && (await variant.isReady(url));
      };
      await waitUntilReady("Elasticsearch", engine, isReady, readyMsMax);
      const address = String(url);
      return {
        url: address,
        stop: () => engine.stop(),
        async restart() {
          const config = join(at("config"), "elasticsearch.yml");
          const settings = await readFile(config, "utf8");
          await writeFile(config, settings.replace(/^http\.port: .*$/m, `http.port: ${new URL(address).port}`));
          engine.restart("SIGKILL");
          const isGone = async (): Promise<boolean> => !(await variant.isReady(address));
          await waitUntilReady("The end of Elasticsearch", engine, isGone, readyMsMax);
          await waitUntilReady("Elasticsearch", engine, () => variant.isReady(address), readyMsMax);
        },
      };
    } catch (error) {
      await engine.stop();
      throw error;
    }
  } catch (error) {
    await rm(folder.path, { recursive: true, force: true });
    throw error;
  }
}

/** Whether an Elasticsearch answers at `url` and its primary shards are there. */
export async function answersHealth(url: string, headers: Record<string, string> = {}): Promise<boolean> {
  try {
    const response = await fetch(
      new URL("_cluster/health?wait_for_status=yellow&timeout=1s", url.endsWith("/") ? url : `${url}/`),
      {
        headers,
        signal: AbortSignal.timeout(5_000),
      },
    );
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

/** Elasticsearch writes the port that it chose into a file, one address a line, which spares the race for a free one. */
async function readAddress(file: string): Promise<string | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text
    .split("\n")
    .find((line) => line.startsWith("127.0.0.1:"))
    ?.trim();
}

async function writeConfig(home: string, config: string, own: Record<string, unknown>): Promise<void> {
  const options = await readFile(join(home, "config/jvm.options"), "utf8");
  // Heap dumps and garbage collection logs would be written into the program's folder.
  const kept = options.split("\n").filter((line) => !/-Xlog:gc|HeapDump|ErrorFile|-Xloggc/.test(line));
  await writeFile(join(config, "jvm.options"), kept.join("\n"));
  await cp(join(home, "config/log4j2.properties"), join(config, "log4j2.properties"));
  await mkdir(join(config, "jvm.options.d"));
  const settings = {
    "cluster.name": "es-to-pg",
    "network.host": "127.0.0.1",
    "http.port": 0,
    "transport.port": 0,
    "node.portsfile": true,
    "discovery.type": "single-node",
    // A nearly full disk must not make indices read-only: the data are small and temporary.
    "cluster.routing.allocation.disk.threshold_enabled": false,
    "cluster.max_shards_per_node": 5000,
    ...own,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`);
  await writeFile(join(config, "elasticsearch.yml"), lines.join(""));
}

/** The unpacked distribution in the user's cache folder; the first call downloads it. */
async function findDistribution(javaHome: string): Promise<string> {
  const cache = join(cacheFolder(), "es-to-pg");
  const distribution = join(cache, `elasticsearch-${version}`);
  if ((await stat(distribution).catch(() => undefined)) !== undefined) return distribution;
  await mkdir(cache, { recursive: true });
  const unpacked = await mkdtemp(join(cache, "unpack-"));
  try {
    process.stderr.write(`engines: downloading Elasticsearch ${version} with Maven (81 MB, once)\n`);
    await promisify(execFile)(
      "mvn",
      [
        "-q",
        "-B",
        "-Dstyle.color=never",
        "dependency:unpack",
        `-Dartifact=${artifact}`,
        `-DoutputDirectory=${unpacked}`,
      ],
      {
        cwd: unpacked,
        env: { ...process.env, JAVA_HOME: javaHome },
        timeout: downloadMsMax,
        maxBuffer: 16 * 1024 * 1024,
      },
    );
    // Two first runs at once: the second one finds the folder there and takes it.
    await rename(join(unpacked, `elasticsearch-${version}`), distribution).catch(async (error: unknown) => {
      if ((await stat(distribution).catch(() => undefined)) === undefined) throw error;
    });
    return distribution;
  } catch (error) {
    throw new Unavailable(mavenProblem(error));
  } finally {
    await rm(unpacked, { recursive: true, force: true });
  }
}

function mavenProblem(error: unknown): string {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return "Maven (mvn) is not installed";
  const stdout = error instanceof Error && "stdout" in error ? String(error.stdout) : "";
  const line = stdout.split("\n").find((text) => text.startsWith("[ERROR]")) ?? String(error);
  return `Maven could not download ${artifact}: ${line.replace("[ERROR] ", "").slice(0, 300)}`;
}
