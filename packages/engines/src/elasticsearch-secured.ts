import { pbkdf2Sync, randomBytes } from "node:crypto";
import { request } from "node:https";
import { startElasticsearchVariant } from "./elasticsearch-package.ts";
import type { Engine } from "./index.ts";

/** Who may come to a secured Elasticsearch, and how it shows itself. */
export interface SecuredElasticsearch {
  /** PEM texts. `chain` is the server's certificate and those up to `authority`, which also signs clients' certificates. */
  tls: { chain: string; key: string; authority: string };
  /** Role definitions in Elasticsearch's own JSON. */
  roles: Record<string, object>;
  users: Record<string, { password: string; roles: string[] }>;
  /** Roles of those who show a client certificate, by its distinguished name. */
  certificates: Record<string, { roles: string[] }>;
}

/** What any way of starting a secured Elasticsearch needs. */
export interface Security {
  settings: Record<string, unknown>;
  /** Contents of files in its configuration folder. */
  files: Record<string, string>;
  authority: string;
  /** Who asks whether the engine is up; nobody else knows the password. */
  probe: { name: string; password: string };
}

/**
 * The configuration of an Elasticsearch that speaks TLS alone and knows passwords, client certificates and tokens. Users
 * and roles come from files: the tools that write a keystore and certificates would each cost a start of Java.
 */
export function describeSecurity({ tls, certificates, ...given }: SecuredElasticsearch): Security {
  const probe = { name: "engines_probe", password: randomBytes(12).toString("hex") };
  const roles = { ...given.roles, [probe.name]: { cluster: ["monitor"] } };
  const users = { ...given.users, [probe.name]: { password: probe.password, roles: [probe.name] } };
  return {
    settings: {
      "xpack.security.enabled": true,
      "xpack.security.enrollment.enabled": false,
      // Client certificates and tokens as credentials are no part of the basic licence.
      "xpack.license.self_generated.type": "trial",
      "xpack.security.authc.token.enabled": true,
      "xpack.security.http.ssl.enabled": true,
      "xpack.security.http.ssl.certificate": "chain.pem",
      "xpack.security.http.ssl.key": "key.pem",
      "xpack.security.http.ssl.certificate_authorities": "authority.pem",
      "xpack.security.http.ssl.client_authentication": "optional",
      "xpack.security.authc.realms.file.files.order": 0,
      "xpack.security.authc.realms.pki.certificates.order": 1,
      "xpack.security.authc.realms.pki.certificates.certificate_authorities": "authority.pem",
    },
    files: {
      "chain.pem": tls.chain,
      "key.pem": tls.key,
      "authority.pem": tls.authority,
      // A role is one line: Elasticsearch cuts the file where a line is not indented.
      "roles.yml": lines(Object.entries(roles).map(([name, role]) => `${name}: ${JSON.stringify(role)}`)),
      users: lines(Object.entries(users).map(([name, { password }]) => `${name}:${hash(password)}`)),
      users_roles: lines(byRole(users).map(([role, names]) => `${role}:${names.join(",")}`)),
      "role_mapping.yml": lines(byRole(certificates).map(([role, names]) => `${role}: ${JSON.stringify(names)}`)),
    },
    authority: tls.authority,
    probe,
  };
}

/** Starts a secured Elasticsearch from the package. */
export async function startSecuredPackage({ settings, files, authority, probe }: Security): Promise<Engine> {
  return await startElasticsearchVariant({
    scheme: "https",
    settings,
    files,
    // It lives for one file of tests: code that is compiled quickly is better than code that runs quickly.
    javaOptions: "-XX:TieredStopAtLevel=1",
    isReady: (url) => answersHealth(url, authority, probe),
  });
}

/** The names that have each role. */
function byRole(holders: Record<string, { roles: string[] }>): [role: string, names: string[]][] {
  const names = new Map<string, string[]>();
  for (const [name, { roles }] of Object.entries(holders)) {
    for (const role of roles) names.set(role, [...(names.get(role) ?? []), name]);
  }
  return [...names];
}

/** A password as Elasticsearch keeps it. The fewest rounds that it takes: the tests log in often. */
function hash(password: string): string {
  const rounds = 1000;
  const salt = randomBytes(32);
  const derived = pbkdf2Sync(password, salt, rounds, 32, "sha512");
  return `{PBKDF2}${rounds}$${salt.toString("base64")}$${derived.toString("base64")}`;
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("");
}

async function answersHealth(
  url: string,
  authority: string,
  { name, password }: { name: string; password: string },
): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = request(`${url}/_cluster/health?wait_for_status=yellow&timeout=1s`, {
      ca: authority,
      auth: `${name}:${password}`,
      agent: false,
      timeout: 5_000,
    });
    probe.on("response", (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    probe.on("timeout", () => probe.destroy());
    probe.on("error", () => resolve(false));
    probe.end();
  });
}
