import { ToolError } from "@es-to-pg/mcp-kit";

/** Which tables the tools touch: globs over schema names and over `schema.table`, judged after names are resolved. */
export interface TablePolicy {
  schemasAllow: readonly string[];
  schemasDeny: readonly string[];
  tablesAllow: readonly string[];
  tablesDeny: readonly string[];
}

export const everything: TablePolicy = { schemasAllow: [], schemasDeny: [], tablesAllow: [], tablesDeny: [] };

/** Whether the settings leave any table out. */
export function isRestricted(policy: TablePolicy): boolean {
  return Object.values(policy).some((globs: readonly string[]) => globs.length > 0);
}

/** A glob (`*` any text, `?` one character) as a case-sensitive regular expression over the whole name. */
export function globToRegExp(glob: string): RegExp {
  const body = glob
    .replace(/[\\^$.|+()[\]{}]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${body}$`, "su");
}

function matches(globs: readonly string[], names: readonly string[]): boolean {
  return globs.some((glob) => {
    const pattern = globToRegExp(glob);
    return names.some((name) => pattern.test(name));
  });
}

/** Whether the settings let the tools touch a schema. */
export function allowsSchema(policy: TablePolicy, schema: string): boolean {
  if (matches(policy.schemasDeny, [schema])) return false;
  return policy.schemasAllow.length === 0 || matches(policy.schemasAllow, [schema]);
}

/** Whether the settings let the tools touch a table; a table glob without a dot speaks of that name in any schema. */
export function allowsTable(policy: TablePolicy, { schema, table }: { schema: string; table: string }): boolean {
  if (!allowsSchema(policy, schema)) return false;
  const names = [table, `${schema}.${table}`];
  if (matches(policy.tablesDeny, names)) return false;
  return policy.tablesAllow.length === 0 || matches(policy.tablesAllow, names);
}

/** The schemas an unqualified name is looked for in, in order: the literal ones that are allowed, else `public`. */
export function defaultSchemas(policy: TablePolicy): string[] {
  const literal = policy.schemasAllow.filter((glob) => !/[*?]/.test(glob) && allowsSchema(policy, glob));
  return literal.length > 0 ? literal : ["public"];
}

/** Throws where a table is part of the server's own state, which no tool may write. */
export function mustNotBeState({ schema, table }: { schema: string; table: string }, stateSchema: string): void {
  if (schema !== stateSchema) return;
  throw new ToolError("state_schema", "That schema holds this server's own state; no tool writes there.", {
    next: "Use a table of another schema; list_loads and list_rejects show the state.",
    details: { schema, table },
  });
}

export function tableNotAllowed({ schema, table }: { schema: string; table: string }): ToolError {
  return new ToolError("table_not_allowed", "This server's settings do not let its tools touch that table.", {
    next: "Call list_tables for the tables that can be used.",
    details: { schema, table, settings: "PG_MCP_SCHEMAS_ALLOW, _DENY, PG_MCP_TABLES_ALLOW, _DENY" },
  });
}
