import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** Elasticsearch 8.11 needs Java 17 and asks for a security manager, which Java 24 no longer has. */
const javaMin = 17;
const javaMax = 23;

/** A Java runtime that can run Elasticsearch, or why there is none. */
export async function findJava(
  isUsable: (home: string) => Promise<boolean>,
): Promise<{ home: string } | { missing: string }> {
  const seen: string[] = [];
  for (const command of await candidates()) {
    const found = await describe(command);
    if (found === undefined) continue;
    if (found.version < javaMin || found.version > javaMax)
      seen.push(`Java ${found.version} is not ${javaMin} to ${javaMax}`);
    else if (!(await isUsable(found.home)))
      seen.push(`the Java in ${found.home} cannot be reached by an unprivileged user`);
    else return { home: found.home };
  }
  return { missing: seen.length === 0 ? "no Java is here" : (seen[0] ?? "") };
}

async function candidates(): Promise<string[]> {
  const homes = [process.env["ES_JAVA_HOME"], process.env["JAVA_HOME"]].filter(
    (home) => home !== undefined && home !== "",
  );
  const installed = await Promise.all([
    list("/usr/lib/jvm", ""),
    list("/Library/Java/JavaVirtualMachines", "Contents/Home"),
    list("/opt/homebrew/opt", "libexec/openjdk.jdk/Contents/Home", "openjdk"),
    list("/usr/local/opt", "libexec/openjdk.jdk/Contents/Home", "openjdk"),
  ]);
  return [
    ...homes.map((home) => join(String(home), "bin/java")),
    "java",
    ...installed.flat().map((home) => join(home, "bin/java")),
  ];
}

async function list(folder: string, within: string, prefix = ""): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.startsWith(prefix)).map((name) => join(folder, name, within));
}

async function describe(command: string): Promise<{ home: string; version: number } | undefined> {
  try {
    const { stderr } = await promisify(execFile)(command, ["-XshowSettings:properties", "-version"], {
      timeout: 20_000,
    });
    const home = /^\s*java\.home = (.+)$/m.exec(stderr)?.[1];
    const version = Number(/^\s*java\.specification\.version = (\d+)/m.exec(stderr)?.[1]);
    return home === undefined || Number.isNaN(version) ? undefined : { home: home.trim(), version };
  } catch {
    return undefined;
  }
}
