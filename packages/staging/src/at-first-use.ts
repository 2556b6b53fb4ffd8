import type { StagingMode } from "./files.ts";
import type { StagingStore } from "./store.ts";

/** The settings of both servers that say where staged exports are and how they are kept. */
export interface StagingSettings {
  readonly STAGING_URL: string | undefined;
  readonly STAGING_MODE: StagingMode;
  readonly STAGING_TTL_HOURS: number;
  readonly STAGING_BYTES_MAX: number | undefined;
  readonly STAGING_REQUIRE_MOUNT: boolean;
}

/**
 * Opens the store at first use, and loads its code then: a server that is started for a look needs neither. A failure is
 * not kept, because a mount may come later.
 */
export function storeAtFirstUse(settings: StagingSettings): () => Promise<StagingStore> {
  let opened: Promise<StagingStore> | undefined;
  return () => {
    opened ??= open(settings).catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
}

async function open(settings: StagingSettings): Promise<StagingStore> {
  const { STAGING_URL: url, STAGING_BYTES_MAX: bytesMax } = settings;
  const { openStore } = await import("./store.ts");
  return openStore({
    ...(url === undefined ? {} : { url }),
    mode: settings.STAGING_MODE,
    ttlHours: settings.STAGING_TTL_HOURS,
    ...(bytesMax === undefined ? {} : { bytesMax }),
    requireMount: settings.STAGING_REQUIRE_MOUNT,
  });
}
