/** Field names and their values as JSON text, in the order of the document. */
export type Fields = Map<string, string>;

/** The document of these fields, in their order. */
export function writeFields(fields: Fields): string {
  return `{${Array.from(fields, ([name, json]) => `"${name}":${json}`).join(",")}}`;
}
