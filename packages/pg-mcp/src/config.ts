/** libpq's names, and its meaning of each: `require` encrypts, only the `verify-` modes look at the certificate. */
export type TlsMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

export interface ConnectionOptions {
  host: string;
  port: number;
  database: string;
  user: string;
  password?: string | undefined;
  tls: { mode: TlsMode; ca?: string | undefined; certificate?: string | undefined; key?: string | undefined };
}

const tlsModes: readonly TlsMode[] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/** Whether a text names one of libpq's TLS modes. */
export function isTlsMode(text: string): text is TlsMode {
  return (tlsModes as readonly string[]).includes(text);
}

/**
 * Reads a `postgres://` URL as libpq does, and forgivingly: a password with `@`, `/`, `#` or `:` in it needs no
 * percent-encoding. The certificates of the query string stay paths for the caller to read.
 */
export function connectionFromUrl(url: string): ConnectionOptions {
  const parts =
    /^postgres(?:ql)?:\/\/(?:(?<userinfo>.*)@)?(?<host>\[[^\]]+\]|[^/:?#@,]*)(?::(?<port>\d+))?(?:\/(?<database>[^?#]*))?(?:\?(?<query>.*))?$/su.exec(
      url,
    )?.groups;
  if (parts === undefined) throw new Error("it must read postgres://user:password@host:port/database");
  const query = new URLSearchParams(parts.query ?? "");
  const [user, password] = splitOnce(parts.userinfo ?? "", ":");
  const mode = query.get("sslmode") ?? (query.get("ssl") === "true" ? "require" : "prefer");
  if (!isTlsMode(mode)) throw new Error(`its sslmode must be one of ${tlsModes.join(", ")}`);
  const name = decode(user) || (query.get("user") ?? "postgres");
  return {
    host: decode((parts.host ?? "").replace(/^\[|\]$/g, "")) || (query.get("host") ?? "127.0.0.1"),
    port: Number(parts.port ?? query.get("port") ?? 5432),
    database: decode(parts.database ?? "") || (query.get("dbname") ?? name),
    user: name,
    password: password === undefined ? (query.get("password") ?? undefined) : decode(password),
    tls: {
      mode,
      ca: query.get("sslrootcert") ?? undefined,
      certificate: query.get("sslcert") ?? undefined,
      key: query.get("sslkey") ?? undefined,
    },
  };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** A lone percent sign in a password is a percent sign. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
