/** The provider's key, and the model that the agent gets. */
import { calls, type LlmKey } from "../api/calls.ts";
import { ApiError } from "../api/client.ts";
import { BundleError } from "../bundle-error.ts";
import { type Desired, LLM_KEY_NAME } from "../desired.ts";
import type { Change, World } from "../world.ts";

export interface LlmActual {
  /** Ours of the wanted provider. */
  key: LlmKey | undefined;
  /** Ours of other providers, made by earlier settings. */
  others: readonly LlmKey[];
  isFirstOfProvider: boolean;
  models: readonly { id: string; dbId: string; isBest?: boolean | undefined }[];
}

export async function readLlm({ api, desired }: Pick<World, "api" | "desired">): Promise<LlmActual> {
  const keys = await api.call(calls.listLlmKeys);
  const ours = keys.filter(({ name }) => name === LLM_KEY_NAME);
  const provider = desired.llm?.provider;
  const key = ours.find((row) => row.provider === provider);
  const models =
    key === undefined ? [] : await api.call(calls.listModels, { query: { provider: key.provider, apiKeyId: key.id } });
  return {
    key,
    others: ours.filter((row) => row !== key),
    isFirstOfProvider: !keys.some((row) => row.provider === provider && row.isPrimary),
    models,
  };
}

export function llmChanges(actual: LlmActual, world: World): Change[] {
  const wanted = world.desired.llm;
  if (wanted === undefined) return [];
  const { key } = actual;
  const digest = world.stateFile.digest(wanted.apiKey ?? "");
  const target = `LLM key (${wanted.provider})`;
  if (key === undefined) {
    return [{ phase: "llm", target, action: "create", why: [], run: () => createKey(wanted, digest, actual, world) }];
  }
  const kept = world.stateFile.state.llmKey;
  const why = [
    ...(kept?.id === key.id && kept.digest === digest ? [] : ["key: not known to be the one that is set"]),
    ...((key.baseUrl ?? undefined) === wanted.baseUrl
      ? []
      : [`address: ${key.baseUrl ?? "the provider's"} -> ${wanted.baseUrl ?? "the provider's"}`]),
  ];
  const update: Change = {
    phase: "llm",
    target,
    action: "update",
    why,
    run: () => updateKey(wanted, digest, key, world),
  };
  const isModelMissing = modelOf(actual, wanted) === undefined;
  const sync: Change = {
    phase: "llm",
    target: "LLM models",
    action: "update",
    why: [wanted.model === undefined ? "none is marked as the best" : `${wanted.model} is not among them`],
    run: () => syncModels(wanted, world),
  };
  return [...(why.length > 0 ? [update] : []), ...(why.length === 0 && isModelMissing ? [sync] : [])];
}

/** Keys of providers that the settings no longer name; the agent lets go of them first. */
export function llmLeftovers(actual: LlmActual, world: World): Change[] {
  const keys = world.desired.llm === undefined ? [] : actual.others;
  return keys.map((key) => removal(key, world, ["another provider is set"]));
}

export function llmRemovals(actual: LlmActual, world: World): Change[] {
  const keys = actual.key === undefined ? actual.others : [actual.key, ...actual.others];
  return keys.map((key) => removal(key, world, []));
}

/** The model that the agent gets, or undefined while it is not known. */
export function modelOf(
  { models }: Pick<LlmActual, "models">,
  wanted: NonNullable<Desired["llm"]>,
): { id: string; dbId: string } | undefined {
  if (wanted.model !== undefined) return models.find(({ id }) => id === wanted.model);
  return models.find(({ isBest }) => isBest === true) ?? (models.length === 1 ? models[0] : undefined);
}

function removal(key: LlmKey, { api, stateFile }: World, why: readonly string[]): Change {
  return {
    phase: "schedule",
    target: `LLM key (${key.provider})`,
    action: "delete",
    why,
    async run() {
      await api.call(calls.deleteLlmKey, { params: { id: key.id } });
      if (stateFile.state.llmKey?.id === key.id) {
        await stateFile.update({ llmKey: undefined });
      }
    },
  };
}

async function createKey(
  { provider, apiKey, baseUrl }: NonNullable<Desired["llm"]>,
  digest: string,
  { isFirstOfProvider }: LlmActual,
  { api, opening, stateFile }: World,
): Promise<void> {
  const body = {
    name: LLM_KEY_NAME,
    provider,
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(baseUrl === undefined ? {} : { baseUrl }),
    isPrimary: isFirstOfProvider,
    ...opening(calls.createLlmKey),
  };
  const { id } = await tested(provider, baseUrl, () => api.call(calls.createLlmKey, { body }));
  await stateFile.update({ llmKey: { id, digest } });
}

async function updateKey(
  { provider, apiKey, baseUrl }: NonNullable<Desired["llm"]>,
  digest: string,
  { id }: LlmKey,
  { api, stateFile }: World,
): Promise<void> {
  const body = { baseUrl: baseUrl ?? null, ...(apiKey === undefined ? {} : { apiKey }) };
  await tested(provider, baseUrl, () => api.call(calls.updateLlmKey, { params: { id }, body }));
  await stateFile.update({ llmKey: { id, digest } });
}

async function syncModels({ provider, model }: NonNullable<Desired["llm"]>, world: World): Promise<void> {
  await world.api.call(calls.syncModels);
  const { models } = await readLlm(world);
  if (modelOf({ models }, { provider, model, apiKey: undefined, baseUrl: undefined }) !== undefined) return;
  const names = models.map(({ id }) => id).slice(0, 20);
  throw new BundleError(
    "model_missing",
    model === undefined
      ? `The platform does not say which model of ${provider} is the best.`
      : `${provider} has no model ${model} that the platform offers.`,
    { next: `Set LLM_MODEL to one of: ${names.join(", ") || "(the key offers none)"}.` },
  );
}

/** The platform tries a key before it keeps it. */
async function tested<Answer>(
  provider: string,
  baseUrl: string | undefined,
  work: () => Promise<Answer>,
): Promise<Answer> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 400)) throw error;
    throw new BundleError("llm_key_refused", `Archestra tried the LLM key and failed: ${error.reason}`, {
      next: `Check LLM_API_KEY, and that the platform's container reaches ${baseUrl ?? provider} (LLM_BASE_URL; this machine is host.docker.internal there, not localhost).`,
      cause: error,
    });
  }
}
