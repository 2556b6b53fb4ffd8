import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Runs docker and answers what it printed; fails with what it said of the reason. */
export async function docker(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)("docker", args, {
      cwd: root,
      // The engine of old clients builds in another way unless it is told not to.
      env: { ...process.env, DOCKER_BUILDKIT: "1", ...env },
      maxBuffer: 64 * 1024 * 1024,
    });
    return stdout.trimEnd();
  } catch (error) {
    const stderr = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    throw new Error(`docker ${args.join(" ")} failed: ${stderr.slice(-4000)}`, { cause: error });
  }
}

/** The parsed output of a docker command that prints JSON. */
export async function dockerJson(args: readonly string[]): Promise<unknown> {
  return JSON.parse(await docker(args));
}

/** The repository's compose project under a name of its own and on free ports, so that it runs beside a person's own. */
export class Compose implements AsyncDisposable {
  readonly name = `es-to-pg-test-${randomBytes(4).toString("hex")}`;
  readonly network = `${this.name}_default`;
  readonly staging = `${this.name}_staging`;
  readonly #env: Record<string, string>;

  constructor(env: Record<string, string> = {}) {
    const ports = [
      "ELASTICSEARCH",
      "KIBANA",
      "POSTGRES",
      "PGADMIN",
      "ES_MCP",
      "PG_MCP",
      "ARCHESTRA_UI",
      "ARCHESTRA_API",
      "PROMETHEUS",
      "ALERTMANAGER",
      "GRAFANA",
      "JAEGER",
    ];
    this.#env = { ...Object.fromEntries(ports.map((port) => [`${port}_HOST_PORT`, "0"])), ...env };
  }

  /** `docker compose ARGS…` in this project. No .env is read: what a person keeps there is not what is tested. */
  async run(...args: string[]): Promise<string> {
    return await docker(["compose", "--project-name", this.name, "--env-file", "/dev/null", ...args], this.#env);
  }

  /** The address on this machine of a service's port. */
  async address(service: string, port: number): Promise<string> {
    return await this.run("port", service, String(port));
  }

  /** Brings services up and waits until they are healthy. */
  async up(...services: string[]): Promise<void> {
    await this.run("up", "--detach", "--wait", ...services);
  }

  /** Runs a service that ends by itself, as `up` would, and answers its exit code. */
  async finish(service: string): Promise<number> {
    await this.run("up", "--detach", service);
    const id = await this.run("ps", "--all", "--quiet", service);
    return Number(await docker(["wait", id]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run("--profile", "*", "down", "--volumes", "--timeout", "5");
  }
}
