import type { ConnectionOptions as TlsOptions } from "node:tls";
import type { ConnectionOptions } from "../config.ts";

/** A cancel request that has no effect by then is followed by the end of the connection. */
export const cancelGraceMs = 2_000;

export function tlsOptions({ host, tls }: ConnectionOptions): TlsOptions {
  const verify =
    tls.mode === "verify-ca" || tls.mode === "verify-full" || (tls.mode === "require" && tls.ca !== undefined);
  return {
    rejectUnauthorized: verify,
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    // verify-ca trusts any name that the authority has signed.
    ...(tls.mode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
  };
}

/** Asks the server to cancel what a session is doing; it has been asked when this returns, or cannot be. */
export async function sendCancel(
  target: ConnectionOptions & { encrypted: boolean; processID: number; secretKey: number },
): Promise<void> {
  const { Connection: PgConnection } = await import("pg");
  const wire = new PgConnection({ ssl: target.encrypted ? tlsOptions(target) : false });
  const timer = setTimeout(() => wire.stream.destroy(), cancelGraceMs);
  // The server closes the connection when it has told the session.
  const closed = new Promise<void>((resolve) => {
    wire.on("end", resolve);
    wire.on("error", () => resolve());
  });
  const cancel = () => wire.cancel(target.processID, target.secretKey);
  wire.on("connect", () => (target.encrypted ? wire.requestSsl() : cancel()));
  wire.on("sslconnect", cancel);
  if (isSocketPath(target.host)) wire.connect(`${target.host}/.s.PGSQL.${target.port}`);
  else wire.connect(target.port, target.host);
  await closed;
  clearTimeout(timer);
}

export function isSocketPath(host: string): boolean {
  return host.startsWith("/");
}
