import { connect } from "node:net";
import { answersHealth } from "./elasticsearch-package.ts";
import type { Engine } from "./index.ts";

/** The Elasticsearch of a given URL, which may carry a user name and password. */
export async function findElasticsearch(url: string | undefined): Promise<Engine | undefined> {
  if (url === undefined || url === "") return undefined;
  const { address, headers } = elasticsearchAddress(url);
  if (!(await answersHealth(address, headers))) {
    throw new Error(
      `ELASTICSEARCH_URL is set, but ${new URL(address).host} does not answer GET /_cluster/health. Start it, or unset the variable to have one started.`,
    );
  }
  return { url, stop: async () => {} };
}

/** The PostgreSQL of a given URL. */
export async function findPostgres(url: string | undefined): Promise<Engine | undefined> {
  if (url === undefined || url === "") return undefined;
  const { hostname, port, host } = new URL(url);
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect({ host: hostname || "127.0.0.1", port: Number(port || 5432), timeout: 5_000 });
    const settle = (isThere: boolean): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once("connect", () => settle(true));
    for (const event of ["error", "timeout"]) socket.once(event, () => settle(false));
  });
  if (!answers) {
    throw new Error(
      `DATABASE_URL is set, but ${host} accepts no connection. Start it, or unset the variable to have one started.`,
    );
  }
  return { url, stop: async () => {} };
}

/** Splits an Elasticsearch URL into an address for fetch, which refuses credentials in URLs, and the header they become. */
export function elasticsearchAddress(url: string): { address: string; headers: Record<string, string> } {
  const parsed = new URL(url);
  const { username, password } = parsed;
  parsed.username = "";
  parsed.password = "";
  if (username === "") return { address: parsed.href, headers: {} };
  const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64");
  return { address: parsed.href, headers: { authorization: `Basic ${credentials}` } };
}
