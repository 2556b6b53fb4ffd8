import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { connect, type DetailedPeerCertificate } from "node:tls";
import type { EsSettings } from "../config.ts";

/**
 * The certificate with the fingerprint of the settings, as PEM text, from the chain that one of the nodes offers. It is
 * to be trusted like an authority, so that signatures are checked: a comparison of fingerprints alone, as the client
 * library makes it, also passes a stranger who sends the true authority's certificate along with one of his own.
 */
export async function pinnedAuthority(
  nodes: readonly URL[],
  settings: EsSettings,
  signal: AbortSignal,
): Promise<string> {
  const attempts = await Promise.allSettled(nodes.map((node) => offeredChain(node, settings, signal)));
  signal.throwIfAborted();
  const chains = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
  for (const certificate of chains.flat()) {
    if (certificate.fingerprint256 === settings.ELASTICSEARCH_TLS_FINGERPRINT) {
      return new X509Certificate(certificate.raw).toString();
    }
  }
  if (chains.length > 0) throw new Error("No certificate that the server offers has the fingerprint.");
  throw attempts.find((attempt) => attempt.status === "rejected")?.reason;
}

/** The certificates that a server offers, its own first. Nothing is sent to it, whoever it is. */
async function offeredChain(node: URL, settings: EsSettings, signal: AbortSignal): Promise<DetailedPeerCertificate[]> {
  const host = node.hostname.replace(/^\[(.*)\]$/, "$1");
  const { promise, resolve, reject } = Promise.withResolvers<DetailedPeerCertificate[]>();
  const socket = connect({
    host,
    port: Number(node.port || 443),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    rejectUnauthorized: false,
    cert: settings.ELASTICSEARCH_CLIENT_CERT,
    key: settings.ELASTICSEARCH_CLIENT_KEY,
  });
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  socket
    .once("secureConnect", () => resolve(chainOf(socket.getPeerCertificate(true))))
    .once("error", reject)
    .once("close", () => reject(new Error("other side closed")));
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    socket.destroy();
  }
}

/** An authority that signed itself is its own issuer; where the server leaves an issuer out, the chain ends before it. */
function chainOf(first: DetailedPeerCertificate): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  let next: DetailedPeerCertificate | undefined = first;
  while (next?.raw !== undefined && !chain.includes(next)) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}
