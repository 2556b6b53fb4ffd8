/** What the loader needs of Elasticsearch, by fetch alone: a client library would parse and rewrite the documents. */
export interface ElasticsearchRequest {
  method: "GET" | "PUT" | "POST" | "DELETE";
  path: string;
  body?: string | Buffer;
  contentType?: string;
  /** Where false, Elasticsearch is asked not to compress its answer, which `fetch` asks for otherwise. */
  compressed?: false;
}

/** Bounds one request; a bulk request of 5 MB takes well under a second. */
const requestMsMax = 120_000;

/** Sends one request and returns the answer's text; fails with the answer's first words when the status says so. */
export async function request(
  url: string,
  { method, path, body, contentType = "application/json", compressed }: ElasticsearchRequest,
  accepted: readonly number[] = [],
): Promise<string> {
  const parsed = new URL(url);
  const { username, password } = parsed;
  const address = `${parsed.origin}${parsed.pathname.replace(/\/$/, "")}/${path}`;
  const headers: Record<string, string> = body === undefined ? {} : { "content-type": contentType };
  if (compressed === false) headers["accept-encoding"] = "identity";
  // fetch refuses credentials in a URL.
  if (username !== "") {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    headers["authorization"] = `Basic ${Buffer.from(credentials).toString("base64")}`;
  }
  const response = await fetch(address, {
    method,
    headers,
    signal: AbortSignal.timeout(requestMsMax),
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : new Uint8Array(body) }),
  }).catch((error: unknown) => {
    throw new Error(`Elasticsearch at ${parsed.host} does not answer ${method} ${path}`, { cause: error });
  });
  const text = await response.text();
  if (!response.ok && !accepted.includes(response.status)) {
    throw new Error(`Elasticsearch answered ${response.status} to ${method} ${path}: ${text.slice(0, 500)}`);
  }
  return text;
}
