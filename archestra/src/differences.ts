/**
 * What of `wanted` is not so in `actual`, as lines such as `model: a -> b`. Only what is wanted is looked at, because the
 * platform adds fields of its own; lists must be equal.
 */
export function differences(wanted: unknown, actual: unknown, path = ""): string[] {
  if (wanted === undefined) return [];
  if (Array.isArray(wanted)) {
    const list = Array.isArray(actual) ? actual : [];
    if (wanted.length !== list.length) return [line(path, wanted, actual)];
    return wanted.flatMap((item, at) => differences(item, list[at], `${path}[${at}]`));
  }
  if (isObject(wanted)) {
    const object = isObject(actual) ? actual : {};
    return Object.entries(wanted).flatMap(([key, value]) =>
      differences(value, object[key], path === "" ? key : `${path}.${key}`),
    );
  }
  return wanted === actual ? [] : [line(path, wanted, actual)];
}

/** Longest value that a line shows; a prompt or a YAML is only said to differ. */
const VALUE_LENGTH_MAX = 60;

function line(path: string, wanted: unknown, actual: unknown): string {
  return `${path}: ${shown(actual)} -> ${shown(wanted)}`;
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return "none";
  if (Array.isArray(value)) return `${value.length} of them`;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > VALUE_LENGTH_MAX || text.includes("\n") ? `${text.length} characters` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
