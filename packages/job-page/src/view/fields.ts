/** The members of an answer. All of it is foreign: a name or a value may hold anything. */
export type Fields = Readonly<Record<string, unknown>>;

/** The value as members; none where it is anything but an object. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value))
    : {};
}

export function textOf(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  return typeof value === "string" ? value : undefined;
}

export function numberOf(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** The objects of a list, and nothing else that it holds. */
export function listOf(fields: Fields, name: string): Fields[] {
  const value: unknown = fields[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "object" && item !== null).map(fieldsOf) : [];
}

/** The texts of a list, and nothing else that it holds. */
export function textsOf(fields: Fields, name: string): string[] {
  const value: unknown = fields[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** Counts by name, as an object of numbers has them. */
export function countsOf(value: unknown): { name: string; count: number }[] {
  const fields = fieldsOf(value);
  return Object.keys(fields).flatMap((name) => {
    const count = numberOf(fields, name);
    return count === undefined ? [] : [{ name, count }];
  });
}
