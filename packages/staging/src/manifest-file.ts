import { Buffer } from "node:buffer";
import { openForReading } from "./files.ts";
import { MANIFEST_BYTES_MAX, type Manifest, manifestSchema } from "./manifest.ts";
import { StagingError } from "./staging-error.ts";

/** Problems of a manifest that its schema cannot say: figures that contradict each other. */
function contradictions(manifest: Manifest): string[] {
  const problems: string[] = [];
  let documents = 0;
  let bytes = 0;
  let previous = -1;
  for (const part of manifest.parts) {
    if (part.index <= previous) problems.push(`part ${part.index} is listed after part ${previous}`);
    previous = part.index;
    documents += part.documents;
    bytes += part.bytes;
  }
  if (documents !== manifest.totals.documents || bytes !== manifest.totals.bytes) {
    problems.push(
      `the totals say ${manifest.totals.documents} documents in ${manifest.totals.bytes} bytes, the parts ${documents} in ${bytes}`,
    );
  }
  if (manifest.status === "completed" && documents !== manifest.source.expected) {
    problems.push(`a completed export holds ${documents} documents where ${manifest.source.expected} are expected`);
  }
  if ((manifest.status === "working") !== (manifest.finished_at === null)) {
    problems.push(`finished_at does not fit the status ${manifest.status}`);
  }
  const resumable = manifest.status === "working" || manifest.status === "failed";
  if (!resumable && manifest.lease !== null) problems.push(`an export that is ${manifest.status} has a lease`);
  return problems;
}

/** The manifest's bytes as they are stored. Throws `manifest_invalid` where a reader would refuse them. */
export function serialiseManifest(manifest: Manifest): Buffer {
  const parsed = manifestSchema.safeParse(manifest);
  const problems = parsed.success ? contradictions(parsed.data) : issues(parsed.error);
  if (problems.length > 0) {
    throw new StagingError(
      "manifest_invalid",
      `This manifest must not be written: ${problems.slice(0, 5).join("; ")}.`,
    );
  }
  const text = `${JSON.stringify(manifest)}\n`;
  if (isTooDeep(text)) {
    throw new StagingError("manifest_invalid", `This manifest nests deeper than ${DEPTH_MAX} levels.`);
  }
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length > MANIFEST_BYTES_MAX) {
    throw new StagingError(
      "manifest_invalid",
      `The manifest has ${bytes.length} bytes, more than ${MANIFEST_BYTES_MAX}.`,
      {
        next: "Export fewer indices or fields at once.",
        details: { bytes: bytes.length, bytes_max: MANIFEST_BYTES_MAX },
      },
    );
  }
  return bytes;
}

/** Reads and checks the manifest of one export. ENOENT stays what it is; everything else is `staging_corrupt`. */
export async function readManifest(path: string, exportId: string): Promise<Manifest> {
  const corrupt = corruptOf(exportId);
  const handle = await openForReading(path);
  let text: string;
  try {
    const { size } = await handle.stat();
    if (size > MANIFEST_BYTES_MAX) throw corrupt(`it has ${size} bytes, more than ${MANIFEST_BYTES_MAX}`);
    // One byte more than the limit shows a file that grew after stat().
    const buffer = Buffer.alloc(Math.min(size, MANIFEST_BYTES_MAX) + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    if (length !== size) throw corrupt("its size changed while it was read");
    text = buffer.toString("utf8", 0, length);
  } finally {
    await handle.close();
  }
  return parseManifest(text, exportId);
}

function corruptOf(exportId: string): (why: string, cause?: unknown) => StagingError {
  return (why, cause) =>
    new StagingError("staging_corrupt", `The manifest of ${exportId} cannot be used: ${clipped(why)}.`, {
      next: "Delete this export and make it again.",
      details: { export_id: exportId },
      cause,
    });
}

/** Longest reason, in characters: a parser quotes what it met. */
const REASON_CHARACTERS_MAX = 500;

function clipped(text: string): string {
  return text.length <= REASON_CHARACTERS_MAX ? text : `${text.slice(0, REASON_CHARACTERS_MAX)}…`;
}

/** Brackets that a manifest may open within each other: our own has ten, a query some dozens, and a stack thousands. */
const DEPTH_MAX = 200;

function isTooDeep(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') inString = !inString;
    else if (inString) at += character === "\\" ? 1 : 0;
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (depth > DEPTH_MAX) return true;
  }
  return false;
}

/** The manifest in a text, or `staging_corrupt`. */
export function parseManifest(text: string, exportId: string): Manifest {
  const corrupt = corruptOf(exportId);
  if (isTooDeep(text)) throw corrupt(`it nests deeper than ${DEPTH_MAX} levels`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw corrupt("it is not JSON", error);
  }
  const parsed = manifestSchema.safeParse(value);
  const problems = parsed.success ? contradictions(parsed.data) : issues(parsed.error);
  if (!parsed.success || problems.length > 0) throw corrupt(problems.slice(0, 5).join("; "));
  if (parsed.data.export_id !== exportId) throw corrupt(`it names another export, ${parsed.data.export_id}`);
  return parsed.data;
}

function issues(error: { issues: { path: PropertyKey[]; message: string }[] }): string[] {
  return error.issues.map(({ path, message }) => `${path.map(String).join(".") || "manifest"}: ${message}`);
}
