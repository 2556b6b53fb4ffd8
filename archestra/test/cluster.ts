/** A cluster as files, which `test/bin/docker` and `test/bin/kubectl` serve in place of the real commands. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("bin", import.meta.url));

export class FakeCluster {
  readonly folder = mkdtempSync(join(tmpdir(), "archestra-cluster-"));

  constructor() {
    for (const name of ["host", "stored", "networks", "joined", "objects"]) mkdirSync(join(this.folder, name));
    this.#write("node", "");
    this.#write("networks/es-to-pg_default", "");
    this.#write("calls.log", "");
    this.pods([]);
    this.build("es-mcp:latest", "first");
    this.build("pg-mcp:latest", "first");
  }

  /** What a process needs to meet this cluster instead of the real commands. */
  get environment(): { PATH: string; FAKE_CLUSTER: string } {
    return { PATH: `${bin}${delimiter}${process.env["PATH"] ?? ""}`, FAKE_CLUSTER: this.folder };
  }

  build(image: string, build: string): void {
    this.#write(
      `host/${image}`,
      `sha256:${createHash("sha256")
        .update(image + build)
        .digest("hex")}\n`,
    );
  }

  /** As if nobody had built the image. */
  unbuild(image: string): void {
    rmSync(join(this.folder, "host", image));
  }

  stored(image: string): string | undefined {
    return this.#read(`stored/${image}`);
  }

  object(kind: string, name: string): unknown {
    const text = this.#read(`objects/${kind.toLowerCase()}-${name}`);
    return text === undefined ? undefined : JSON.parse(text);
  }

  pods(items: readonly object[]): void {
    this.#write("pods.json", JSON.stringify({ items }));
  }

  /** What becomes of it when the platform's container stops: everything but this machine's Docker is gone. */
  recreate(): void {
    for (const name of ["stored", "joined", "objects"]) {
      rmSync(join(this.folder, name), { recursive: true });
      mkdirSync(join(this.folder, name));
    }
  }

  stopNode(): void {
    rmSync(join(this.folder, "node"));
  }

  stopDocker(): void {
    this.#write("down", "");
  }

  /** As where a quota or a missing right keeps it from being made. */
  refuse(kind: string): void {
    this.#write("refused", kind.toLowerCase());
  }

  /** Commands so far, but for those that only read. */
  changes(): string[] {
    const lines = readFileSync(join(this.folder, "calls.log"), "utf8").trim().split("\n");
    return lines.filter((line) => / (save|import|apply|delete|network) /.test(line));
  }

  snapshot(): Record<string, unknown> {
    const files = ["stored", "joined", "objects"].flatMap((name) =>
      readdirSync(join(this.folder, name)).map((file) => `${name}/${file}`),
    );
    return Object.fromEntries(files.toSorted().map((file) => [file, this.#read(file)]));
  }

  remove(): void {
    // Commands of a run that failed may still be writing.
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }

  #write(name: string, content: string): void {
    writeFileSync(join(this.folder, name), content);
  }

  #read(name: string): string | undefined {
    const path = join(this.folder, name);
    return existsSync(path) ? readFileSync(path, "utf8") : undefined;
  }
}
