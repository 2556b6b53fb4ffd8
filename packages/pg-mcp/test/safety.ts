import { existsSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { ToolError } from "@es-to-pg/mcp-kit";
import { Client } from "pg";
import { z } from "zod";
import { connectionFromUrl } from "../src/config.ts";
import { translate } from "../src/errors.ts";
import { everything, openPostgres, type Postgres, type TablePolicy } from "../src/postgres/index.ts";
import { type QueryAnswer, runQuery } from "../src/query/index.ts";
import type { Standby } from "./standby.ts";
import { createDatabase, randomName, type TestDatabase } from "./support.ts";

/**
 * Who asks: with rights over everything, over the tables, to read alone, to read without temporary objects, to read with
 * the tables' schema, and all the functions in it, on the search path, and with a schema on it, before the server's own,
 * that has an operator for whatever the server has none of the very types for.
 */
export const roleNames = [
  "superuser",
  "owner",
  "reader",
  "reader without TEMPORARY",
  "reader of app",
  "reader among shadows",
] as const;

export type RoleName = (typeof roleNames)[number];

const searchPaths: Partial<Record<RoleName, string>> = {
  "reader of app": "app",
  "reader among shadows": "shadow, pg_catalog, app",
};

/** One role's way into the database, and a session of the same role that an attack may end. */
interface Role {
  postgres: Postgres;
  victim: Victim;
}

/** One way to try an attack, a costly statement or a question: what `execute_query` gets. */
export interface Case {
  sql: string;
  beside?: string | undefined;
  params?: unknown[] | undefined;
}

const caseSchema = z.strictObject({
  class: z.string().optional(),
  attack: z.string().optional(),
  denial: z.string().optional(),
  sql: z.string(),
  params: z.array(z.unknown()).optional(),
  /** What another role runs at the same time, in a session of its own. */
  beside: z.string().optional(),
  only: z.array(z.enum(roleNames)).optional(),
  /** Roles that may be refused it. */
  except: z.array(z.enum(roleNames)).optional(),
  /** The first major version that knows what it is made of. */
  since: z.int().optional(),
});

/** The cases of a file in `data`, one JSON object a line. */
export function readCases(name: "attacks" | "denials" | "legitimate"): z.output<typeof caseSchema>[] {
  const text = readFileSync(new URL(`data/${name}.jsonl`, import.meta.url), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => caseSchema.parse(JSON.parse(line)));
}

/** `{repeat 3 ab}` in a case stands for `ababab`. */
function repeated(text: string): string {
  return text.replaceAll(/\{repeat (\d+) ([^}]*\}?)\}/g, (_, count: string, part: string) =>
    part.repeat(Number(count)),
  );
}

/** How long the end of a transaction may take on a busy machine. */
const restMs = 3_000;

/** Extensions that reach outside, where the server has them. */
const extensions = [
  "dblink",
  "adminpack",
  "file_fdw",
  "tablefunc",
  "pg_prewarm",
  "pgcrypto",
  "fuzzystrmatch",
  "hstore",
];

/**
 * What can be attacked. `app.evil` stands for any code of a user: that it ran shows by a session of the same role that
 * it ends, whatever becomes of the transaction.
 */
const setup = (owner: string, reader: string): string => `
CREATE SCHEMA app AUTHORIZATION ${owner};
CREATE SCHEMA ext;
${extensions.map((name) => `DO $x$ BEGIN CREATE EXTENSION ${name} SCHEMA ext; EXCEPTION WHEN OTHERS THEN NULL; END $x$;`).join("\n")}
SET ROLE ${owner};
CREATE TABLE app.orders (id bigint PRIMARY KEY, code text NOT NULL, amount numeric(10,2), tags text[], details jsonb, at timestamptz);
INSERT INTO app.orders VALUES
  (1, 'apple', 1.10, '{a,b}', '{"colour":"red","a":1,"b":{"c":2}}', '2024-01-01T10:00:00Z'),
  (2, 'banana', 20.00, '{b}', '{"colour":"yellow"}', '2024-01-02T10:00:00Z'),
  (9007199254740993, 'cherry', NULL, NULL, NULL, NULL);
COMMENT ON TABLE app.orders IS 'what was ordered';
CREATE INDEX orders_tags ON app.orders USING gin (tags);
CREATE TABLE app.log (what text);
CREATE TABLE app.private (word text);
INSERT INTO app.private VALUES ('s3cr3t');
CREATE TABLE app.locked (x int);
CREATE TABLE app."Odd Table" ("weird col" int, "select" text);
CREATE SEQUENCE app.numbers;
CREATE VIEW app.order_view AS SELECT id, code, amount FROM app.orders WHERE amount IS NOT NULL;
CREATE VIEW app.locked_view AS SELECT x FROM app.locked;
CREATE VIEW app.endless AS SELECT count(*) FROM generate_series(1, 100000000000);
CREATE MATERIALIZED VIEW app.totals AS SELECT code, sum(amount) AS total FROM app.orders GROUP BY code;
CREATE PROCEDURE app.wipe() LANGUAGE sql AS 'DELETE FROM app.orders';
CREATE FUNCTION app.double(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
CREATE FUNCTION app.evil(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $f$ BEGIN
  PERFORM pg_advisory_lock(77);
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq_victim' AND usename = current_user;
  RETURN x; END $f$;
CREATE FUNCTION app.evil2(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
CREATE FUNCTION app.evil3(x int, y int, z int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
CREATE FUNCTION app.evil_many(VARIADIC x int[]) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(1); END $f$;
CREATE FUNCTION app.evil_less(x int, y int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x < y; END $f$;
CREATE FUNCTION app.evil_more(x int, y int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x > y; END $f$;
CREATE FUNCTION app.evil_equal(x text, y text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN false; END $f$;
CREATE FUNCTION app.evil_compare(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x - y; END $f$;
CREATE FUNCTION app.evil_row(o app.orders) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(1); END $f$;
CREATE FUNCTION app.lower(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
CREATE FUNCTION app.lower(x varchar) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN 'HIJACKED'; END $f$;
CREATE FUNCTION app.upper(x varchar) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN 'HIJACKED'; END $f$;
CREATE FUNCTION app.round(x float8, y int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN 0; END $f$;
CREATE FUNCTION app.defaulted(x int DEFAULT app.evil(1)) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x';
CREATE FUNCTION app.inlined(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT app.evil(x)';
CREATE FUNCTION app.definer(x int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $f$ BEGIN DELETE FROM app.orders; RETURN app.evil(x); END $f$;
CREATE FUNCTION app.trigger() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM app.evil(1); RETURN NEW; END $f$;
CREATE OPERATOR app.<~~> (FUNCTION = app.evil2, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR app.~? (FUNCTION = pg_catalog.current_setting, RIGHTARG = text);
CREATE OPERATOR app.@/ (FUNCTION = pg_catalog.xpath, LEFTARG = text, RIGHTARG = xml);
CREATE OPERATOR app.@@~ (FUNCTION = app.evil, RIGHTARG = int);
CREATE OPERATOR app.= (FUNCTION = app.evil_equal, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR app.<~~< (FUNCTION = app.evil_less, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(app.>~~>));
CREATE OPERATOR app.>~~> (FUNCTION = app.evil_more, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(app.<~~<));
RESET ROLE;
CREATE OPERATOR CLASS app.evil_ops FOR TYPE int USING btree AS OPERATOR 1 app.<~~<, OPERATOR 5 app.>~~>, OPERATOR 3 pg_catalog.=, FUNCTION 1 app.evil_compare(int, int);
GRANT CREATE ON SCHEMA app TO ${owner};
CREATE TYPE app.evil_range AS RANGE (subtype = int, subtype_opclass = app.evil_ops);
ALTER TYPE app.evil_range OWNER TO ${owner};
SET ROLE ${owner};
CREATE TYPE app.coin AS (value bigint);
CREATE FUNCTION app.to_coin(x bigint) RETURNS app.coin LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN row(x)::app.coin; END $f$;
CREATE CAST (bigint AS app.coin) WITH FUNCTION app.to_coin(bigint) AS IMPLICIT;
CREATE FUNCTION app.takes_coin(x app.coin) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE DOMAIN app.checked AS int CHECK (app.evil(VALUE) > 0);
CREATE DOMAIN app.checked_text AS text CHECK (app.evil(length(VALUE)) > 0);
CREATE DOMAIN app.rechecked AS app.checked;
CREATE TYPE app.parcel AS (v app.checked);
CREATE TYPE app.crate AS (b app.parcel);
CREATE DOMAIN app.mail AS text CHECK (VALUE ~ '@');
CREATE TYPE app.person AS (name text, mail app.mail);
CREATE TABLE app.people (name text, mail app.mail);
CREATE TABLE app.boxes (parcel app.parcel, checks app.checked[], one app.checked);
INSERT INTO app.boxes VALUES (NULL, NULL, NULL);
CREATE VIEW app.boxes_view AS SELECT one FROM app.boxes;
CREATE TYPE app.colour AS ENUM ('red', 'blue');
CREATE FUNCTION app.evil_json(x app.colour) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN '1'; END $f$;
CREATE CAST (app.colour AS json) WITH FUNCTION app.evil_json(app.colour);
CREATE FUNCTION app.evil_text(x app.colour) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN '1'; END $f$;
CREATE CAST (app.colour AS text) WITH FUNCTION app.evil_text(app.colour) AS IMPLICIT;
CREATE TYPE app.paint AS (colour app.colour, litres int);
CREATE TABLE app.paints (colour app.colour, colours app.colour[], paint app.paint);
INSERT INTO app.paints VALUES ('red', '{red}', row('red', 1));
CREATE VIEW app.paints_json AS SELECT to_json(colour) AS c FROM app.paints;
CREATE FUNCTION app.evil_difference(x float8, y float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN x - y; END $f$;
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = app.evil_difference);
CREATE DOMAIN app.named_span AS app.span;
CREATE TABLE app.spans (span app.span, named app.named_span) WITH (autovacuum_enabled = false);
INSERT INTO app.spans SELECT app.span(n, n + 5), app.span(n, n + 5) FROM generate_series(1, 500) n; ANALYZE app.spans;
CREATE FUNCTION app.parsed() RETURNS app.checked[] LANGUAGE sql AS $f$ SELECT '{5}'::app.checked[] $f$;
CREATE FUNCTION app.vouched(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
RESET ROLE;
DO $x$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ${owner}', current_database()); END $x$;
SET ROLE ${owner};
CREATE EXTENSION pg_trgm SCHEMA app;
ALTER EXTENSION pg_trgm ADD FUNCTION app.vouched(int);
CREATE AGGREGATE app.evil_sum(int) (SFUNC = app.evil2, STYPE = int, INITCOND = '0');
CREATE AGGREGATE app.evil_final(int) (SFUNC = int4pl, STYPE = int, FINALFUNC = app.evil, INITCOND = '0');
CREATE AGGREGATE app.evil_set(int ORDER BY int) (SFUNC = int4pl, STYPE = int, FINALFUNC = app.evil2, INITCOND = '0');
CREATE VIEW app.evil_view AS SELECT app.evil(1) AS e;
CREATE VIEW app.outer_view AS SELECT * FROM app.evil_view;
CREATE VIEW app.operator_view AS SELECT 1 OPERATOR(app.<~~>) 2 AS x;
CREATE VIEW app.domain_view AS SELECT id::int::app.checked AS x FROM app.orders WHERE id < 10;
CREATE VIEW app.nested_cte_view AS WITH a AS (SELECT * FROM app.evil_view) SELECT * FROM a WHERE EXISTS (SELECT FROM a);
CREATE VIEW app.locking_view AS SELECT id FROM app.orders FOR UPDATE;
CREATE VIEW app.counting_view AS SELECT nextval('app.numbers') AS n;
CREATE VIEW app.setting_view AS SELECT current_setting('app.secret') AS s;
CREATE VIEW app.roles_view AS SELECT rolname, rolconfig FROM pg_roles;
CREATE TABLE app.guarded (id int); INSERT INTO app.guarded VALUES (1);
CREATE POLICY p ON app.guarded USING (app.evil(id) = 1);
ALTER TABLE app.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE VIEW app.guarded_view AS SELECT * FROM app.guarded;
CREATE TABLE app.guarded_deep (id int); INSERT INTO app.guarded_deep VALUES (1);
CREATE POLICY p ON app.guarded_deep USING (id IN (SELECT e FROM app.evil_view));
ALTER TABLE app.guarded_deep ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE app.own_rows (who name DEFAULT current_user, v int); INSERT INTO app.own_rows (v) VALUES (1);
CREATE POLICY p ON app.own_rows USING (who = current_user);
ALTER TABLE app.own_rows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE app.indexed (id int); INSERT INTO app.indexed SELECT generate_series(1, 5);
CREATE INDEX ON app.indexed ((id + app.evil(1)));
CREATE TABLE app.indexed_well (id int, name text); INSERT INTO app.indexed_well VALUES (1, 'x');
CREATE FUNCTION app.plain(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN x; END $f$;
CREATE INDEX ON app.indexed_well (lower(name)) WHERE id > 0;
CREATE INDEX ON app.indexed_well (app.plain(name));
CREATE FUNCTION app.inlined_well(x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT btrim(x)';
CREATE TABLE app.inlined_well (name text); INSERT INTO app.inlined_well VALUES ('x'); CREATE INDEX ON app.inlined_well (app.inlined_well(name));
CREATE FUNCTION app.inlined_text(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + app.evil(1)';
CREATE TABLE app.inlining (id int); INSERT INTO app.inlining VALUES (1); CREATE INDEX ON app.inlining (app.inlined_text(id));
CREATE TABLE app.inlining_parsed (id int); INSERT INTO app.inlining_parsed VALUES (1);
DO $x$ BEGIN
  EXECUTE 'CREATE FUNCTION app.inlined_parsed(x int) RETURNS int LANGUAGE sql IMMUTABLE RETURN x + app.evil(1)';
  EXECUTE 'CREATE INDEX ON app.inlining_parsed (app.inlined_parsed(id))';
EXCEPTION WHEN OTHERS THEN NULL; END $x$;
CREATE TABLE app.inlining_check (id int CHECK (app.inlined_text(id) > 0)); INSERT INTO app.inlining_check VALUES (1);
CREATE FUNCTION app.inlined_literal(x int) RETURNS int LANGUAGE sql IMMUTABLE AS $f$SELECT x + cardinality('{5}'::app.checked[])$f$;
CREATE TABLE app.inlining_literal (id int CHECK (app.inlined_literal(id) > 0)); INSERT INTO app.inlining_literal VALUES (1);
CREATE TABLE app.partly_indexed (id int); INSERT INTO app.partly_indexed SELECT generate_series(1, 5);
CREATE INDEX ON app.partly_indexed (id) WHERE id > app.evil(1);
CREATE TABLE app.parent (id int); CREATE TABLE app.child (CHECK (id > app.evil(1))) INHERITS (app.parent);
INSERT INTO app.child VALUES (5);
CREATE TABLE app.parted (id int) PARTITION BY RANGE (id);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM (0) TO (100); INSERT INTO app.parted VALUES (1);
CREATE TABLE app.counted (id int); INSERT INTO app.counted SELECT generate_series(1, 5);
DO $x$ BEGIN EXECUTE 'CREATE STATISTICS app.counts ON (id + app.evil(1)), id FROM app.counted'; EXCEPTION WHEN OTHERS THEN NULL; END $x$;
CREATE TABLE app.parted_evil (id int) PARTITION BY RANGE (id);
CREATE TABLE app.parted_evil_1 PARTITION OF app.parted_evil FOR VALUES FROM (0) TO (100);
CREATE INDEX ON app.parted_evil_1 ((id + app.evil(1)));
CREATE TABLE app.classed (id int); INSERT INTO app.classed SELECT generate_series(1, 2000);
CREATE INDEX ON app.classed (id app.evil_ops); ANALYZE app.classed;
RESET ROLE;
CREATE VIEW app.hashes AS SELECT rolname, rolpassword FROM pg_authid;
DO $x$ BEGIN EXECUTE 'CREATE VIEW app.linked_view AS SELECT * FROM ext.dblink(''dbname=x'', ''SELECT 1'') AS t(x int)'; EXCEPTION WHEN OTHERS THEN NULL; END $x$;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing OPTIONS (password 's3cr3t');
CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere OPTIONS (password 's3cr3t');
CREATE USER MAPPING FOR ${owner} SERVER elsewhere OPTIONS (password 's3cr3t');
CREATE USER MAPPING FOR ${reader} SERVER elsewhere OPTIONS (password 's3cr3t');
CREATE FOREIGN TABLE app.elsewhere (x text) SERVER elsewhere OPTIONS (password 's3cr3t');
DO $x$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.secret = %L', current_database(), 's3cr3t'); END $x$;
ALTER ROLE ${reader} SET app.secret = 's3cr3t';
ALTER ROLE ${owner} SET app.secret = 's3cr3t';
ALTER ROLE CURRENT_USER SET app.secret = 's3cr3t';
GRANT USAGE ON SCHEMA app, ext TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO ${reader};
GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO ${reader};
REVOKE ALL ON app.private FROM ${reader};
SELECT lo_from_bytea(777, 's3cr3t');
GRANT ALL ON LARGE OBJECT 777 TO PUBLIC;
SELECT pg_advisory_unlock_all();
`;

/** Types that this server's own questions compare, or could be thought to. */
const shadowedTypes =
  'oid int2 int4 int8 regproc regclass regtype regnamespace name text "char" xid oid[] text[] name[]'.split(" ");

/** Functions that they call, and which the server's own path finds elsewhere where nobody names their schema. */
const shadowedFunctions = [
  ...["oid[]", "text[]", "name[]", "oidvector", "int2vector"].map((type) => `unnest(${type})`),
  ..."current_setting(text) pg_size_bytes(text) to_regtype(text) pg_advisory_unlock_all() pg_backend_pid()".split(" "),
  ..."strpos(text,name) current_schemas(boolean) row_security_active(oid) length(text) left(text,int)".split(" "),
];

const texts = (list: readonly string[]): string => `ARRAY[${list.map((text) => `'${text}'`).join()}]`;

/**
 * Operators of a user for every two of these types: those that the server has itself, to be found where the path names
 * the schema first, and those that match better than what the server has for types that it would convert.
 */
const shadows = (owner: string): string => `
CREATE SCHEMA shadow AUTHORIZATION ${owner};
SET ROLE ${owner};
DO $do$ DECLARE l text; r text; o text; BEGIN
  FOREACH l IN ARRAY ${texts(shadowedTypes)} LOOP
    FOREACH r IN ARRAY ${texts(shadowedTypes)} LOOP
      EXECUTE format('CREATE FUNCTION shadow.beside(x %s, y %s) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS $f$ BEGIN PERFORM app.evil(1); RETURN true; END $f$', l, r);
      FOREACH o IN ARRAY ${texts("= <> < <= > >= ~ ~~ + - / ||".split(" "))} LOOP
        EXECUTE format('CREATE OPERATOR shadow.%s (FUNCTION = shadow.beside, LEFTARG = %s, RIGHTARG = %s)', o, l, r);
      END LOOP;
    END LOOP;
  END LOOP;
  FOREACH l IN ARRAY ${texts(shadowedFunctions)} LOOP
    EXECUTE format('CREATE FUNCTION shadow.%s RETURNS text LANGUAGE plpgsql IMMUTABLE
      AS $f$ BEGIN PERFORM app.evil(1); RETURN 1; END $f$', l);
  END LOOP;
END $do$;
GRANT USAGE ON SCHEMA shadow TO PUBLIC;
RESET ROLE;`;

/** All that an attack could have changed, each kind of it under its name. */
type State = Record<string, unknown>;

/**
 * Other tests may be at work in the same server, in databases of their own: of what databases share, only what is of the
 * roles `$1`, of none or of an attack counts. Autovacuum locks tables when it likes: its locks are no effect either.
 */
const fingerprint = `
SELECT json_build_object(
  'orders', (SELECT json_agg(o ORDER BY id) FROM app.orders o),
  'log', (SELECT count(*) FROM app.log),
  'private', (SELECT json_agg(p) FROM app.private p),
  'totals', (SELECT json_agg(t ORDER BY code) FROM app.totals t),
  'sequence', (SELECT json_build_array(last_value, is_called) FROM app.numbers),
  'large objects', (SELECT json_agg(loid::text || encode(data, 'escape') ORDER BY loid) FROM pg_largeobject),
  'relations', (SELECT json_agg(json_build_array(c.oid, c.relname, c.relacl, c.relfilenode) ORDER BY c.oid) FROM pg_class c WHERE c.oid >= 16384 AND c.relpersistence <> 't'),
  'columns', (SELECT count(*) FROM pg_attribute WHERE attrelid >= 16384 AND NOT attisdropped),
  'functions', (SELECT md5(string_agg(prosrc, '' ORDER BY oid)) FROM pg_proc WHERE oid >= 16384 AND pronamespace::regnamespace::text !~ '^pg_'),
  'triggers', (SELECT count(*) FROM pg_trigger), 'rules', (SELECT count(*) FROM pg_rewrite),
  'schemas', (SELECT json_agg(nspname ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_'),
  'extensions', (SELECT json_agg(extname ORDER BY oid) FROM pg_extension),
  'comments', (SELECT count(*) FROM pg_description WHERE objoid >= 16384),
  'roles', (SELECT json_agg(rolname ORDER BY oid) FROM pg_authid WHERE rolname ~ '^pgq_evil' OR rolname = ANY($1)),
  'settings', (SELECT json_agg(s ORDER BY setdatabase, setrole) FROM pg_db_role_setting s WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    OR setdatabase = 0 AND (setrole = 0 OR setrole IN (SELECT oid FROM pg_roles WHERE rolname = ANY($1)))),
  'slots', (SELECT json_agg(slot_name) FROM pg_replication_slots WHERE slot_name ~ '^pgq_'),
  'origins', (SELECT count(*) FROM pg_replication_origin WHERE roname = 'pgq_origin'),
  'prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
  'servers', (SELECT count(*) FROM pg_foreign_server), 'subscriptions', (SELECT count(*) FROM pg_subscription),
  'locks', (SELECT json_agg(json_build_array(locktype, mode, relation)) FROM pg_locks
    WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
    AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type <> 'autovacuum worker')
    AND (locktype = 'advisory' OR relation >= 16384)),
  'statistics', (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database())
) AS state`;

/** A session that listens, and that code of a user ends. */
class Victim {
  readonly #url: string;
  #client: Client | undefined;
  pid = 0;
  notified = 0;

  constructor(url: string) {
    this.#url = url;
  }

  async open(): Promise<void> {
    await this.close();
    const client = new Client({
      connectionString: this.#url,
      application_name: "pgq_victim",
      options: "-c search_path=pg_catalog",
    });
    client.on("error", () => {});
    client.on("notification", () => this.notified++);
    await client.connect();
    // A standby takes no LISTEN.
    const isStandby = (await client.query("SELECT WHERE pg_is_in_recovery()")).rowCount === 1;
    if (!isStandby) await client.query("LISTEN here");
    const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    this.pid = rows[0]?.pid ?? 0;
    this.notified = 0;
    this.#client = client;
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => {});
  }
}

function roleOf(url: string): Role {
  return { postgres: openPostgres({ writer: connectionFromUrl(url) }), victim: new Victim(url) };
}

/** A database with everything that can be attacked in it, and the roles that try. */
export class Safety {
  readonly database: TestDatabase;
  readonly #roles: Record<RoleName, Role>;
  readonly #names: { owner: string; reader: string };
  readonly #file = `/tmp/${randomName("pgq_file")}`;
  readonly #standby: Standby | undefined;
  /** Sees the sessions of the server that is asked. */
  readonly #witness: Client;

  private constructor(options: {
    database: TestDatabase;
    roles: Record<RoleName, Role>;
    names: { owner: string; reader: string };
    standby: Standby | undefined;
    witness: Client;
  }) {
    this.database = options.database;
    this.#roles = options.roles;
    this.#names = options.names;
    this.#standby = options.standby;
    this.#witness = options.witness;
  }

  /** With a standby it is that one which is asked. */
  static async open(databaseUrl: string, standby?: Standby): Promise<Safety> {
    const names = { owner: randomName("pgq_owner"), reader: randomName("pgq_reader") };
    const server = new Client({ connectionString: databaseUrl });
    await server.connect();
    for (const role of Object.values(names)) {
      await server.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pgq' IN ROLE pg_signal_backend`);
    }
    await server.end();
    const database = await createDatabase(databaseUrl, setup(names.owner, names.reader) + shadows(names.owner));
    // A database of its own, because the right to temporary objects is one of a whole database.
    await database.admin.query(`REVOKE TEMPORARY ON DATABASE ${database.name} FROM PUBLIC`);
    await database.admin.query(`GRANT TEMPORARY ON DATABASE ${database.name} TO ${names.owner}`);
    await standby?.catchUp();
    const asked = new URL(database.url);
    if (standby !== undefined) asked.port = new URL(standby.url).port;
    const as = (user: string): string => {
      const url = new URL(asked);
      url.username = user;
      url.password = "pgq";
      return url.href;
    };
    const witness = standby === undefined ? database.admin : new Client({ connectionString: asked.href });
    if (standby !== undefined) await witness.connect();
    return new Safety({
      database,
      roles: {
        superuser: roleOf(asked.href),
        owner: roleOf(as(names.owner)),
        reader: roleOf(as(names.reader)),
        "reader without TEMPORARY": roleOf(as(names.reader)),
        "reader of app": roleOf(as(names.reader)),
        "reader among shadows": roleOf(as(names.reader)),
      },
      names,
      standby,
      witness,
    });
  }

  /** Makes the role's rights what its name says; one role at a time. */
  async become(role: RoleName): Promise<void> {
    const { admin, name } = this.database;
    const { reader } = this.#names;
    await admin.query(
      role === "reader without TEMPORARY"
        ? `REVOKE TEMPORARY ON DATABASE ${name} FROM ${reader}`
        : `GRANT TEMPORARY ON DATABASE ${name} TO ${reader}`,
    );
    const path = searchPaths[role];
    await admin.query(
      path === undefined ? `ALTER ROLE ${reader} RESET search_path` : `ALTER ROLE ${reader} SET search_path = ${path}`,
    );
    await this.#standby?.catchUp();
    for (const { victim } of Object.values(this.#roles)) await victim.close();
    await this.#roles[role].victim.open();
  }

  async close(): Promise<void> {
    for (const { postgres, victim } of Object.values(this.#roles)) {
      await victim.close();
      await postgres.close();
    }
    const { admin } = this.database;
    if (this.#standby !== undefined) await this.#witness.end();
    await admin.query(`ALTER ROLE CURRENT_USER RESET app.secret`);
    for (const role of Object.values(this.#names))
      await admin.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
    await this.database.drop();
  }

  /** Runs one case as a role and answers what the caller is told. */
  async ask(
    role: RoleName,
    { sql, params = [], beside }: Case,
    options: { timeoutMs?: number; policy?: TablePolicy } = {},
  ): Promise<{ text: string; refused: boolean }> {
    const { postgres, victim } = this.#roles[role];
    const fill = (text: string): string =>
      repeated(text)
        .replaceAll("{file}", this.#file)
        .replaceAll("{victim}", String(victim.pid))
        .replaceAll("{database}", this.database.name)
        .replaceAll("{dsn}", this.database.url)
        .replaceAll("{large object}", "777");
    const neighbour = beside === undefined ? undefined : await this.#neighbourOf(role, beside);
    try {
      const answer: QueryAnswer = await runQuery({
        postgres,
        sql: fill(sql),
        params: params.map((value) => (typeof value === "string" ? fill(value) : value)),
        rowsMax: 100,
        bytesMax: 5_000,
        timeoutMs: options.timeoutMs ?? 10_000,
        policy: options.policy ?? everything,
        functionsAllow: [],
        signal: new AbortController().signal,
      });
      return { text: JSON.stringify(answer), refused: false };
    } catch (error) {
      const failure = error instanceof ToolError ? error : translate(error);
      if (failure === undefined) throw error;
      return { text: JSON.stringify([failure.code, failure.message, failure.details, failure.next]), refused: true };
    } finally {
      await neighbour?.end();
    }
  }

  /** A session of another role, which has just run a statement. */
  async #neighbourOf(role: RoleName, sql: string): Promise<Client> {
    const url = new URL(this.database.url);
    if (this.#standby !== undefined) url.port = new URL(this.#standby.url).port;
    url.username = role === "owner" ? this.#names.reader : this.#names.owner;
    url.password = "pgq";
    const client = new Client({ connectionString: url.href });
    await client.connect();
    await client.query(sql);
    return client;
  }

  /** What can be seen to have changed since `before`, and what was told that must not be; undefined where nothing. */
  async effectOf(role: RoleName, before: State, told: string): Promise<string | undefined> {
    const { victim } = this.#roles[role];
    const effects: string[] = [];
    if (!(await this.comesToRest())) effects.push("a session works on");
    const after = await this.state();
    const changed = Object.keys(before).filter((kind) => !isDeepStrictEqual(after[kind], before[kind]));
    if (changed.length > 0) effects.push(`the database changed: ${changed.join(", ")}`);
    const { rows } = await this.#witness.query("SELECT FROM pg_stat_activity WHERE pid = $1", [victim.pid]);
    if (rows.length !== 1) effects.push("a session ended");
    if (victim.notified > 0) effects.push("a session was notified");
    if (existsSync(this.#file)) effects.push("a file was written");
    if (/s3cr3t|SCRAM-SHA|root:x:|HIJACKED/.test(told)) effects.push("a secret was told");
    if (effects.length === 0) return undefined;
    await rm(this.#file, { force: true });
    await victim.open();
    return effects.join(", ");
  }

  /** The server's major version. */
  async major(): Promise<number> {
    const { rows } = await this.database.admin.query<{ major: number }>(
      "SELECT current_setting('server_version_num')::int / 10000 AS major",
    );
    return rows[0]?.major ?? 0;
  }

  async state(): Promise<State> {
    const { rows } = await this.database.admin.query<{ state: State }>(fingerprint, [Object.values(this.#names)]);
    if (rows[0] === undefined) throw new Error("The state has no row.");
    return rows[0].state;
  }

  /** Whether the sessions of this server come to rest: the answer does not wait for the end of its transaction. */
  async comesToRest(): Promise<boolean> {
    for (const deadline = Date.now() + restMs; Date.now() < deadline; await sleep(5)) {
      if ((await this.#working()) === 0) return true;
    }
    return false;
  }

  async #working(): Promise<number> {
    const { rows } = await this.#witness.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'pg-mcp' AND state <> 'idle'`,
    );
    return rows[0]?.n ?? 0;
  }
}
