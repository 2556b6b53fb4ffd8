-- What data_transformer keeps in the target database. Run it once as a role that may create a schema, where the
-- server's own role may not, and grant that role USAGE and CREATE on the schema and all rights on its tables.
-- Statements end in a semicolon at the end of a line; the schema's name is replaced by the configured one.

CREATE SCHEMA IF NOT EXISTS data_transformer;

-- Mappings that were proposed or used, by id.
CREATE TABLE IF NOT EXISTS data_transformer.maps (
  map_id       text PRIMARY KEY,
  created_at   timestamptz NOT NULL DEFAULT now(),
  export_id    text,
  table_schema text NOT NULL,
  table_name   text NOT NULL,
  definition   json NOT NULL
);

-- One row per load. The holder of the newest epoch works on it until lease_until; any other holder has lost it.
CREATE TABLE IF NOT EXISTS data_transformer.loads (
  load_id      text PRIMARY KEY,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz,
  status       text NOT NULL CHECK (status IN ('working', 'completed', 'failed', 'cancelled')),
  phase        text NOT NULL CHECK (phase IN ('staging', 'merging', 'done')),
  epoch        integer NOT NULL CHECK (epoch > 0),
  owner        text NOT NULL,
  lease_until  timestamptz NOT NULL,
  export_id    text,
  table_oid    oid NOT NULL,
  table_schema text NOT NULL,
  table_name   text NOT NULL,
  mode         text NOT NULL CHECK (mode IN ('upsert', 'append', 'ignore', 'replace')),
  dry_run      boolean NOT NULL,
  digest       text NOT NULL,
  arguments    json NOT NULL,
  strategy     text CHECK (strategy IN ('direct', 'gather')),
  reason       text,
  mapping      json NOT NULL,
  warnings     json NOT NULL DEFAULT '[]',
  error        json,
  expected     bigint NOT NULL DEFAULT 0,
  staged       bigint NOT NULL DEFAULT 0,
  inserted     bigint NOT NULL DEFAULT 0,
  updated      bigint NOT NULL DEFAULT 0,
  unchanged    bigint NOT NULL DEFAULT 0,
  skipped      bigint NOT NULL DEFAULT 0,
  stale        bigint NOT NULL DEFAULT 0,
  deduplicated bigint NOT NULL DEFAULT 0,
  suppressed   bigint NOT NULL DEFAULT 0,
  rejected     bigint NOT NULL DEFAULT 0,
  deleted      bigint NOT NULL DEFAULT 0,
  rounded      json NOT NULL DEFAULT '{}',
  replaced     json NOT NULL DEFAULT '{}'
);

-- Two equal starts at once must become one load.
CREATE UNIQUE INDEX IF NOT EXISTS loads_working_digest ON data_transformer.loads (digest) WHERE status = 'working';

CREATE INDEX IF NOT EXISTS loads_digest ON data_transformer.loads (digest, finished_at);

CREATE INDEX IF NOT EXISTS loads_created_at ON data_transformer.loads (created_at, load_id);

-- The ledger: a part is here if and only if its rows are in the stage, or of a direct load in the target, and its
-- rejects in rejects. Parts of a direct load have figures.
CREATE TABLE IF NOT EXISTS data_transformer.parts (
  load_id      text NOT NULL REFERENCES data_transformer.loads ON DELETE CASCADE,
  part         integer NOT NULL,
  epoch        integer NOT NULL,
  documents    bigint NOT NULL,
  rows         bigint NOT NULL,
  rejected     bigint NOT NULL,
  rounded      json NOT NULL DEFAULT '{}',
  replaced     json NOT NULL DEFAULT '{}',
  figures      json,
  committed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (load_id, part)
);

-- A document that stayed out, and why. One row per document: the first problem met.
CREATE TABLE IF NOT EXISTS data_transformer.rejects (
  load_id        text NOT NULL REFERENCES data_transformer.loads ON DELETE CASCADE,
  part           integer NOT NULL,
  line           bigint NOT NULL,
  document_index text,
  document_id    text,
  column_name    text,
  reason         text NOT NULL,
  message        text NOT NULL,
  sqlstate       text,
  value          text,
  PRIMARY KEY (load_id, part, line)
);

-- What became of the rows of a load's child tables.
CREATE TABLE IF NOT EXISTS data_transformer.children (
  load_id  text NOT NULL REFERENCES data_transformer.loads ON DELETE CASCADE,
  position integer NOT NULL,
  figures  json NOT NULL,
  PRIMARY KEY (load_id, position)
);

-- A comparison of a load with its table: its lease while it works, and its outcome until a caller has been told.
CREATE TABLE IF NOT EXISTS data_transformer.verifications (
  load_id     text NOT NULL REFERENCES data_transformer.loads ON DELETE CASCADE,
  extra       boolean NOT NULL,
  verify_id   text NOT NULL,
  lease_until timestamptz NOT NULL,
  staged      bigint NOT NULL DEFAULT 0,
  finished_at timestamptz,
  outcome     json,
  told        boolean NOT NULL DEFAULT false,
  PRIMARY KEY (load_id, extra)
);

-- What changed this database through the server, and when.
CREATE TABLE IF NOT EXISTS data_transformer.audit (
  audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now(),
  role     text NOT NULL DEFAULT current_user,
  action   text NOT NULL,
  load_id  text,
  details  json NOT NULL DEFAULT '{}'
);
