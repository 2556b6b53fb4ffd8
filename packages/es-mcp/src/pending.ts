/** Names that mcp-kit and staging bring within the hour; this file goes when they are there. */
export interface Jobs {
  start(handle: string, run: (signal: AbortSignal) => Promise<void>): void;
  isRunning(handle: string): boolean;
  cancel(handle: string): Promise<boolean>;
}
export interface Logger {
  debug(event: string, fields?: Record<string, unknown>): void;
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
}
export interface StagingStore {
  readonly root: string;
}
export const clip = (text: string, charactersMax: number): string => text.slice(0, charactersMax);
export const parseExactJson = (text: string): unknown => JSON.parse(text);
export const nearest = (_name: string, _candidates: Iterable<string>): string[] => [];
