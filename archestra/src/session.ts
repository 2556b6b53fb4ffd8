import { calls } from "./api/calls.ts";
import { ApiError, ArchestraApi, type Credentials } from "./api/client.ts";
import { BundleError } from "./bundle-error.ts";
import type { BundleSettings } from "./settings.ts";
import type { StateFile } from "./state.ts";
import type { Change, World } from "./world.ts";

export interface Session {
  api: ArchestraApi;
  /** Makes the API key that later runs use instead of a password; undefined where there is one. */
  makeKey: Change | undefined;
}

/**
 * Signs in: by the API key that is set, else by the one that an earlier run made, else by e-mail and password. Makes
 * nothing: that is the change which it returns.
 */
export async function openSession(options: {
  settings: BundleSettings;
  stateFile: StateFile;
  signal: AbortSignal;
}): Promise<Session> {
  const { settings, stateFile, signal } = options;
  const api = new ArchestraApi({ baseUrl: settings.ARCHESTRA_URL, signal });
  await api.call(calls.health);
  if (settings.ARCHESTRA_API_KEY !== undefined) {
    api.use({ authorization: settings.ARCHESTRA_API_KEY });
    if (await isAccepted(api)) return { api, makeKey: undefined };
    throw new BundleError("api_key_refused", "Archestra refused ARCHESTRA_API_KEY.", {
      next: "Make a new key under Settings > API keys, or unset it to sign in by e-mail and password.",
    });
  }
  const kept = stateFile.state.apiKey;
  if (kept !== undefined && kept.baseUrl === api.baseUrl) {
    api.use({ authorization: kept.value });
    if (await isAccepted(api)) return { api, makeKey: undefined };
  }
  api.use(await signIn(api, settings));
  return { api, makeKey: keyChange(api, stateFile) };
}

/** Name of this checkout's key, so that it replaces its own and nobody else's. */
function keyName(stateFile: StateFile): string {
  return `data-transformer ${stateFile.state.installation}`;
}

/** This checkout's keys on the platform: the one in use last, and before it any that a run was cut off after making. */
export async function ownKeys({ api, stateFile }: Pick<World, "api" | "stateFile">): Promise<{ id: string }[]> {
  const keys = await api.call(calls.listApiKeys);
  const own = keys.filter(({ name }) => name === keyName(stateFile));
  const inUse = stateFile.state.apiKey?.id;
  return own.toSorted((one, other) => Number(one.id === inUse) - Number(other.id === inUse));
}

async function isAccepted(api: ArchestraApi): Promise<boolean> {
  try {
    await api.call(calls.organization);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return false;
    throw error;
  }
}

async function signIn(api: ArchestraApi, settings: BundleSettings): Promise<Credentials> {
  const body = { email: settings.ARCHESTRA_AUTH_ADMIN_EMAIL, password: settings.ARCHESTRA_AUTH_ADMIN_PASSWORD };
  api.use(undefined);
  try {
    const { setCookie } = await api.headers(calls.signIn, { body });
    // Whatever it is called: its prefix can be changed.
    return { cookie: setCookie.map((cookie) => cookie.split(";")[0]).join("; ") };
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) throw error;
    throw new BundleError("wrong_password", `Archestra refused the password of ${body.email}.`, {
      next: "Set ARCHESTRA_AUTH_ADMIN_EMAIL and ARCHESTRA_AUTH_ADMIN_PASSWORD as they were when the platform first started, or ARCHESTRA_API_KEY.",
      cause: error,
    });
  }
}

function keyChange(api: ArchestraApi, stateFile: StateFile): Change {
  return {
    phase: "access",
    target: "API key",
    action: "create",
    why: [`none is kept in ${stateFile.path}`],
    async run() {
      // Kept first, so that a run that is cut off finds its key by this name.
      await stateFile.update({});
      for (const { id } of await ownKeys({ api, stateFile })) await api.call(calls.deleteApiKey, { params: { id } });
      const { id, key } = await api.call(calls.createApiKey, { body: { name: keyName(stateFile) } });
      await stateFile.update({ apiKey: { id, value: key, baseUrl: api.baseUrl } });
      api.use({ authorization: key });
    },
  };
}
