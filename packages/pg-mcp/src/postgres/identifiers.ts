/** Quotes a name for SQL. Every identifier that reaches SQL text goes through here. */
export function quoteIdentifier(name: string): string {
  if (name.includes("\0")) throw new TypeError("a name cannot hold a NUL character");
  return `"${name.replaceAll('"', '""')}"`;
}

/** Quotes a schema-qualified table name for SQL. */
export function quoteTable(table: { schema: string; table: string }): string {
  return `${quoteIdentifier(table.schema)}.${quoteIdentifier(table.table)}`;
}

/** Quotes a text value for the few statements that take no parameters, such as SET and COMMENT. */
export function quoteLiteral(value: string): string {
  if (value.includes("\0")) throw new TypeError("a text cannot hold a NUL character");
  // E'' with doubled backslashes reads the same whatever standard_conforming_strings says.
  return `${value.includes("\\") ? "E" : ""}'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
