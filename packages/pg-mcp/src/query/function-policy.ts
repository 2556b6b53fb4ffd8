import { ToolError } from "@es-to-pg/mcp-kit";
import { globToRegExp, type TablePolicy } from "../postgres/index.ts";

/** What the operator lets foreign statements and expressions call and read. */
export interface JudgePolicy {
  /** Globs over `schema.function` for functions of users and of other extensions that the operator vouches for. */
  functionsAllow: readonly string[];
  /** Refuses every volatile function, the harmless ones too: what a load computes must come out the same twice. */
  repeatable?: boolean;
  /** Which tables may be read. Default: all. */
  tables?: TablePolicy;
}

/** OIDs below belong to the server itself. */
export const firstUserOid = 16_384;

/** Volatile functions of the server that read, or give a value, and do nothing else. */
const volatileAllowed = new Set([
  "array_sample",
  "array_shuffle",
  "bernoulli",
  "clock_timestamp",
  "current_query",
  "currval",
  "gen_random_uuid",
  "lastval",
  "pg_blocking_pids",
  "pg_collation_actual_version",
  "pg_control_checkpoint",
  "pg_control_init",
  "pg_control_recovery",
  "pg_control_system",
  "pg_current_wal_flush_lsn",
  "pg_current_wal_insert_lsn",
  "pg_current_wal_lsn",
  "pg_database_collation_actual_version",
  "pg_database_size",
  "pg_get_multixact_members",
  "pg_get_shmem_allocations",
  "pg_get_wal_replay_pause_state",
  "pg_get_wal_resource_managers",
  "pg_indexes_size",
  "pg_is_in_recovery",
  "pg_is_wal_replay_paused",
  "pg_jit_available",
  "pg_last_committed_xact",
  "pg_last_wal_receive_lsn",
  "pg_last_wal_replay_lsn",
  "pg_last_xact_replay_timestamp",
  "pg_lock_status",
  "pg_notification_queue_usage",
  "pg_partition_ancestors",
  "pg_partition_tree",
  "pg_prepared_xact",
  "pg_relation_size",
  "pg_safe_snapshot_blocking_pids",
  "pg_sequence_last_value",
  "pg_show_replication_origin_status",
  "pg_stat_get_io",
  "pg_stat_get_recovery_prefetch",
  "pg_stat_have_stats",
  "pg_table_size",
  "pg_tablespace_size",
  "pg_total_relation_size",
  "pg_xact_commit_timestamp",
  "pg_xact_commit_timestamp_origin",
  "pg_xact_status",
  "random",
  "random_normal",
  "system",
  "timeofday",
  // Of a time with its zone, which was volatile before 14 because the zone may be that of now.
  "timezone",
  "txid_status",
  "uuidv4",
  "uuidv7",
]);

/** Functions that are not volatile and yet read what no name in the statement shows. */
const denied = new Set([
  "database_to_xml",
  "database_to_xml_and_xmlschema",
  "database_to_xmlschema",
  "schema_to_xml",
  "schema_to_xml_and_xmlschema",
  "schema_to_xmlschema",
  "table_to_xml",
  "table_to_xml_and_xmlschema",
  "table_to_xmlschema",
  "pg_config",
]);

/** Not volatile, and yet they call what no name in the statement shows: the input of a type, the parser with its literals. */
const callingUnseen = new Set([
  "array_in",
  "domain_in",
  "fmgr_c_validator",
  "fmgr_internal_validator",
  "fmgr_sql_validator",
  "multirange_in",
  "range_in",
  "record_in",
]);

/** Functions that read a text as the type that another text names. */
export const typeReaders: ReadonlySet<string> = new Set(["pg_input_error_info", "pg_input_is_valid"]);

/** Functions that make JSON of any value, and call the cast to JSON of a user's type where there is one. */
export const jsonMakers = /^(?:row_to_json|array_to_json|to_jsonb?|jsonb?_(?:build_|(?:object_)?agg).*)$/;

/** Functions of PostGIS that make JSON of a row's other columns. */
export const jsonMakersOfExtensions = /^st_as(?:geojson|mvt)/;

/** `to_json`, which stands for the constructors of the SQL standard. */
export const toJson = 3176;

/** Relations that hold passwords, connection strings or the contents of files and large objects. */
export const secretRelations = new Set([
  "_pg_foreign_servers",
  "_pg_foreign_tables",
  "_pg_user_mappings",
  "foreign_server_options",
  "foreign_table_options",
  "user_mapping_options",
  "pg_authid",
  "pg_db_role_setting",
  "pg_file_settings",
  "pg_foreign_server",
  "pg_foreign_table",
  "pg_hba_file_rules",
  "pg_ident_file_mappings",
  "pg_largeobject",
  "pg_shadow",
  "pg_subscription",
  "pg_user_mapping",
  "pg_user_mappings",
]);

/** Relations that show values of tables whatever the settings say of those tables. */
export const valueRelations = new Set([
  "pg_statistic",
  "pg_statistic_ext_data",
  "pg_stats",
  "pg_stats_ext",
  "pg_stats_ext_exprs",
]);

/** Settings whose values hold commands or connection strings. */
const secretSettings = [
  "archive_cleanup_command",
  "archive_command",
  "krb_server_keyfile",
  "primary_conninfo",
  "recovery_end_command",
  "restore_command",
  "ssl_passphrase_command",
];

const roleSettings = `SELECT FROM pg_catalog.pg_roles, LATERAL pg_catalog.unnest(rolconfig) AS s(setting)
  WHERE pg_catalog.split_part(setting, '=', 1) LIKE '%.%'`;

/**
 * Statements of others that hold literals. Who may see them at all is the server's matter: a superuser, and who reads
 * all statistics. The server shows a transaction one and the same state of the sessions, so what is looked at here is
 * what the statement reads.
 */
const statementsOfOthers = String.raw`SELECT FROM pg_catalog.pg_stat_activity
  WHERE usesysid <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) AND query ~ '''|[$]\w*[$]'`;

interface HeldSecret {
  /** Answers a row where there is one. */
  query: string;
  /** The one column that holds it; undefined where there are several. */
  column?: string;
  next: string;
}

/**
 * Relations that are read every day and may hold a secret beside what is asked for, with what tells whether they do.
 * By the names of the server's own views, which also stand for the functions below them.
 */
export const heldSecrets: ReadonlyMap<string, HeldSecret> = new Map([
  ["pg_roles", { query: roleSettings, column: "rolconfig", next: "Name the columns, without rolconfig." }],
  ["pg_user", { query: roleSettings, column: "useconfig", next: "Name the columns, without useconfig." }],
  [
    "pg_stat_activity",
    {
      query: statementsOfOthers,
      column: "query",
      next: "Statements of other roles hold literals just now. Name the columns, without query; query_id tells statements apart.",
    },
  ],
  [
    "pg_settings",
    {
      query: `SELECT FROM pg_catalog.pg_settings WHERE name IN (${secretSettings.map((name) => `'${name}'`).join(", ")})
        AND setting <> coalesce(boot_val, '') AND setting <> '(disabled)'`,
      next: "Use SHOW with the name of one setting.",
    },
  ],
]);

/** Functions that such relations are made of, by OID: `pg_show_all_settings` and those that show statements. */
export const functionsOfHeld: ReadonlyMap<number, string> = new Map([
  [2084, "pg_settings"],
  [1940, "pg_stat_activity"],
  [2022, "pg_stat_activity"],
]);

/** Extensions whose functions compute on their arguments alone. */
const trustedExtensions = new Set([
  "btree_gin",
  "btree_gist",
  "citext",
  "cube",
  "dict_int",
  "earthdistance",
  "fuzzystrmatch",
  "hstore",
  "intarray",
  "isn",
  "ltree",
  "pg_trgm",
  "pgcrypto",
  "postgis",
  "seg",
  "unaccent",
  "uuid-ossp",
  "vector",
]);

/** Whether a setting's value may be shown: settings with a dot in their name belong to users and may be secrets. */
export function isShowableSetting(name: string): boolean {
  return !name.includes(".") && !secretSettings.includes(name.toLowerCase());
}

/** A function as the catalog knows it. */
export interface CalledFunction {
  builtIn: boolean;
  schema: string;
  name: string;
  volatile: boolean;
  /** The extension that it belongs to, where a superuser made it: who owns an extension can add functions to it. */
  extension: string | undefined;
}

/** Refuses a function that does more than read or compute, unless the operator vouches for it. */
export function judgeFunction(called: CalledFunction, policy: JudgePolicy): void {
  const { name, schema } = called;
  if (called.builtIn) {
    // information_schema's views are made of helpers of their own, none of which is volatile.
    if (denied.has(name)) throw refusedFunction(schema, name, "it reads tables that the statement does not name");
    if (callingUnseen.has(name)) throw refusedFunction(schema, name, "it calls code that the statement does not name");
    if (!called.volatile || (volatileAllowed.has(name) && !policy.repeatable)) return;
    throw refusedFunction(
      schema,
      name,
      volatileAllowed.has(name) ? "it gives another value each time" : "it may act outside a read-only transaction",
    );
  }
  if (policy.functionsAllow.some((glob) => globToRegExp(glob).test(`${schema}.${name}`))) return;
  if (called.extension !== undefined && trustedExtensions.has(called.extension)) {
    if (!called.volatile || (!policy.repeatable && /^(?:gen_|uuid_generate|crypt|encrypt|pgp_)/.test(name))) return;
  }
  throw refusedFunction(
    schema,
    name,
    called.extension === undefined ? "it is a function of a user" : `it belongs to the extension ${called.extension}`,
  );
}

export function refusedFunction(schema: string, name: string, why: string): ToolError {
  return new ToolError("function_refused", "The statement calls a function that this server does not run: see why.", {
    next: "Write the statement with built-in functions that only read; an operator can vouch for a function in PG_MCP_ALLOW_FUNCTIONS.",
    details: { function: schema === "pg_catalog" ? name : `${schema}.${name}`, why },
  });
}
