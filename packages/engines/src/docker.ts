import { randomBytes } from "node:crypto";
import type { ContainerRuntimeClient, GenericContainer } from "testcontainers";
import type { Security } from "./elasticsearch-secured.ts";
import type { Engine } from "./index.ts";
import { Unavailable } from "./unavailable.ts";

const elasticsearchImage = "docker.elastic.co/elasticsearch/elasticsearch:8.11.3";
const postgresImage = "postgres:16-alpine";
/** A Docker that is there answers at once; a remote one that is not must not hold up the next way. */
const answerMsMax = 10_000;
/** Longer than this, and the packages are quicker. */
const pullMsMax = 60_000;
/** Also bounds the pull of testcontainers' reaper, which removes the containers if this process is killed. */
const startMsMax = 120_000;

/** Starts Elasticsearch's official image. */
export async function startElasticsearchContainer(): Promise<Engine> {
  const { Wait } = await import("testcontainers");
  return await startContainer(elasticsearchImage, 9200, {
    configure: (container) =>
      container
        .withEnvironment({
          "discovery.type": "single-node",
          "xpack.security.enabled": "false",
          "cluster.routing.allocation.disk.threshold_enabled": "false",
          ES_JAVA_OPTS: "-Xms512m -Xmx512m",
        })
        .withWaitStrategy(Wait.forHttp("/_cluster/health?wait_for_status=yellow&timeout=1s", 9200)),
    url: (address) => `http://${address}`,
  });
}

/** Starts Elasticsearch's official image with security. */
export async function startSecuredContainer({ settings, files, probe }: Security): Promise<Engine> {
  const { Wait } = await import("testcontainers");
  return await startContainer(elasticsearchImage, 9200, {
    configure: (container) =>
      container
        .withEnvironment({
          "discovery.type": "single-node",
          "cluster.routing.allocation.disk.threshold_enabled": "false",
          ES_JAVA_OPTS: "-Xms512m -Xmx512m",
          ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])),
        })
        .withCopyContentToContainer(
          Object.entries(files).map(([name, content]) => ({
            content,
            target: `/usr/share/elasticsearch/config/${name}`,
          })),
        )
        .withWaitStrategy(
          Wait.forHttp("/_cluster/health?wait_for_status=yellow&timeout=1s", 9200)
            .usingTls()
            .allowInsecure()
            .withBasicCredentials(probe.name, probe.password),
        ),
    url: (address) => `https://${loopback(address)}`,
  });
}

/** The address by which the test's certificate knows the engine. Where Docker's ports are elsewhere, the package serves. */
function loopback(address: string): string {
  const { hostname, port } = new URL(`http://${address}`);
  if (hostname !== "localhost" && hostname !== "127.0.0.1") {
    throw new Unavailable(`its ports are on ${hostname}, and the certificate is for 127.0.0.1`);
  }
  return `127.0.0.1:${port}`;
}

/** Starts PostgreSQL's official image. */
export async function startPostgresContainer(): Promise<Engine> {
  const { Wait } = await import("testcontainers");
  const password = randomBytes(12).toString("hex");
  return await startContainer(postgresImage, 5432, {
    configure: (container) =>
      container
        .withEnvironment({ POSTGRES_PASSWORD: password })
        // The data are temporary: durability would only cost time.
        .withCommand([
          "-c",
          "fsync=off",
          "-c",
          "synchronous_commit=off",
          "-c",
          "full_page_writes=off",
          "-c",
          "max_connections=200",
        ])
        // The image starts PostgreSQL twice: once to initialise, then for good.
        .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2)),
    url: (address) => `postgres://postgres:${password}@${address}/postgres`,
  });
}

interface ContainerPlan {
  configure(container: GenericContainer): GenericContainer;
  url(address: string): string;
}

async function startContainer(image: string, port: number, plan: ContainerPlan): Promise<Engine> {
  const { GenericContainer } = await import("testcontainers");
  await makeImageAvailable(await openDocker(), image);
  const container = plan.configure(new GenericContainer(image)).withExposedPorts(port).withStartupTimeout(startMsMax);
  const starting = container.start();
  try {
    const started = await within(starting, startMsMax, `${image} did not start within ${startMsMax / 1000} s`);
    const address = `${started.getHost()}:${started.getMappedPort(port)}`;
    return {
      url: plan.url(address),
      stop: async () => {
        await started.stop({ remove: true, removeVolumes: true });
      },
    };
  } catch (error) {
    // A start that succeeds after all must not leave a container behind.
    void starting.then((late) => late.stop()).catch(() => {});
    throw new Unavailable(firstLine(error));
  }
}

async function openDocker(): Promise<ContainerRuntimeClient> {
  const { getContainerRuntimeClient } = await import("testcontainers");
  try {
    return await within(getContainerRuntimeClient(), answerMsMax, "it does not answer");
  } catch {
    throw new Unavailable("no Docker engine answers");
  }
}

async function makeImageAvailable(docker: ContainerRuntimeClient, image: string): Promise<void> {
  const { ImageName } = await import("testcontainers");
  // With the prefix of a mirror, where one is set: it is that name which the container will be started from.
  const name = ImageName.fromString(image);
  if (await docker.image.exists(name)) return;
  process.stderr.write(`engines: pulling ${name.string}\n`);
  const { dockerode } = docker.container;
  try {
    const progress = await dockerode.pull(name.string, { abortSignal: AbortSignal.timeout(pullMsMax) });
    await new Promise<void>((resolve, reject) => {
      dockerode.modem.followProgress(progress, (error: Error | null) => (error === null ? resolve() : reject(error)));
    });
  } catch (error) {
    const isLate = error instanceof Error && error.name.match(/Timeout|Abort/) !== null;
    throw new Unavailable(
      `${name.string} ${isLate ? `was not pulled within ${pullMsMax / 1000} s` : `could not be pulled: ${firstLine(error)}`}`,
    );
  }
}

async function within<T>(promise: Promise<T>, msMax: number, problem: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(problem)), msMax);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]?.slice(0, 300) ?? "";
}
