import { randomBytes } from "node:crypto";
import type { FieldDef, Connection as PgConnection, Submittable } from "pg";

/** One row as the text protocol sends it, and the columns it belongs to. */
export interface RawResult {
  rows: (string | null)[][];
  fields: { name: string; typeOid: number; modifier: number }[];
  rowCount: number;
}

/** One statement of several that are sent at once. */
export interface BatchStatement {
  sql: string;
  params?: readonly (string | null)[];
  /** Only what it takes and answers is asked: it is neither planned nor run. */
  describe?: boolean;
  /** One of few that come again and again: the session keeps it parsed and planned, where it can. */
  kept?: boolean;
}

export type BatchResult = RawResult &
  Described & {
    /** Why the last statement of a batch has no answer, where it may have none. */
    failure?: Error;
  };

export interface BatchOptions {
  answerBytesMax?: number | undefined;
  lastMayFail?: boolean;
}

/** Which statement of a batch an error is about; undefined where it is about none. */
export function failedStatement(error: unknown): number | undefined {
  return error instanceof Error && "statement" in error && typeof error.statement === "number"
    ? error.statement
    : undefined;
}

export interface Described {
  parameterTypeOids: number[];
  fields: RawResult["fields"];
}

/** Parse, Describe and Sync of an unnamed statement, as pg's queue takes it. */
export class Description implements Submittable {
  readonly #sql: string;
  readonly #resolve: (described: Described) => void;
  readonly #reject: (error: Error) => void;
  #parameterTypeOids: number[] = [];
  #fields: RawResult["fields"] = [];

  constructor(sql: string, resolve: (described: Described) => void, reject: (error: Error) => void) {
    this.#sql = sql;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  submit(connection: PgConnection): void {
    connection.once("parameterDescription", (message: { dataTypeIDs: number[] }) => {
      this.#parameterTypeOids = message.dataTypeIDs;
    });
    connection.parse({ name: "", text: this.#sql, types: [] }, true);
    connection.describe({ type: "S", name: "" }, true);
    connection.sync();
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    this.#fields = message.fields.map(rawField);
  }

  handleReadyForQuery(): void {
    this.#resolve({ parameterTypeOids: this.#parameterTypeOids, fields: this.#fields });
  }

  handleError(error: Error): void {
    this.#reject(error);
  }
}

/** A statement that a session has parsed, and planned. */
interface KeptStatement {
  name: string;
  /** What it answers; undefined before it has once run to its end. */
  fields: RawResult["fields"] | undefined;
}

/** The statements that a session keeps, under names that nobody else can know before. */
export class KeptStatements {
  readonly bySql = new Map<string, KeptStatement>();
  readonly #prefix = `kept_${randomBytes(9).toString("hex")}`;
  #given = 0;

  newStatement(): KeptStatement {
    return { name: `${this.#prefix}_${this.#given++}`, fields: undefined };
  }
}

/** Statements by the extended protocol up to one Sync, as pg's queue takes them. */
export class Batch implements Submittable {
  readonly #statements: readonly BatchStatement[];
  readonly #lastMayFail: boolean;
  readonly #kept: KeptStatements | undefined;
  readonly #resolve: (results: BatchResult[]) => void;
  readonly #reject: (error: Error) => void;
  readonly #results: BatchResult[];
  /** Statements that were sent to be parsed, in their order, with what the session keeps of them. */
  readonly #parsed: { sql: string; kept: KeptStatement | undefined }[] = [];
  #connection: PgConnection | undefined;
  /** Statements that have ended: the position of the one that is answered. */
  #ended = 0;
  readonly #onParameters = ({ dataTypeIDs }: { dataTypeIDs: number[] }): void => {
    const result = this.#results[this.#ended];
    if (result !== undefined) result.parameterTypeOids = dataTypeIDs;
  };
  readonly #onNoData = (): void => {
    if (this.#statements[this.#ended]?.describe === true) this.#ended++;
  };

  readonly #onParsed = (): void => {
    const parsed = this.#parsed.shift();
    if (parsed?.kept !== undefined) this.#kept?.bySql.set(parsed.sql, parsed.kept);
  };

  constructor(
    statements: readonly BatchStatement[],
    options: {
      lastMayFail: boolean;
      kept: KeptStatements | undefined;
      resolve: (results: BatchResult[]) => void;
      reject: (error: Error) => void;
    },
  ) {
    this.#statements = statements;
    this.#lastMayFail = options.lastMayFail;
    this.#kept = options.kept;
    this.#resolve = options.resolve;
    this.#reject = options.reject;
    this.#results = statements.map(() => ({ rows: [], fields: [], rowCount: 0, parameterTypeOids: [] }));
  }

  submit(connection: PgConnection): void {
    this.#connection = connection;
    connection.on("parameterDescription", this.#onParameters);
    connection.on("noData", this.#onNoData);
    connection.on("parseComplete", this.#onParsed);
    connection.stream.cork();
    for (const [index, { sql, params = [], describe = false, kept = false }] of this.#statements.entries()) {
      const { name, fields } = this.#parse(connection, sql, kept) ?? { name: "", fields: undefined };
      if (describe) connection.describe({ type: "S", name }, true);
      else {
        connection.bind({ portal: "", statement: name, values: [...params] }, true);
        const result = this.#results[index];
        if (fields !== undefined && result !== undefined) result.fields = fields;
        else connection.describe({ type: "P", name: "" }, true);
        connection.execute({ portal: "" }, true);
      }
    }
    connection.sync();
    connection.stream.uncork();
  }

  /** Sends a statement to be parsed unless the session has kept it, and answers what is known of one that is kept. */
  #parse(connection: PgConnection, sql: string, isKept: boolean): KeptStatement | undefined {
    const known = isKept ? this.#kept?.bySql.get(sql) : undefined;
    if (known !== undefined) return known;
    const kept = isKept ? this.#kept?.newStatement() : undefined;
    this.#parsed.push({ sql, kept });
    connection.parse({ name: kept?.name ?? "", text: sql, types: [] }, true);
    return kept;
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    const result = this.#results[this.#ended];
    if (result !== undefined) result.fields = message.fields.map(rawField);
    if (this.#statements[this.#ended]?.describe === true) this.#ended++;
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    this.#results[this.#ended]?.rows.push(message.fields);
  }

  handleCommandComplete(): void {
    const result = this.#results[this.#ended];
    if (result !== undefined) {
      result.rowCount = result.rows.length;
      const { sql = "", kept = false } = this.#statements[this.#ended] ?? {};
      const known = kept ? this.#kept?.bySql.get(sql) : undefined;
      if (known !== undefined) known.fields = result.fields;
    }
    this.#ended++;
  }

  handleEmptyQuery(): void {
    this.#ended++;
  }

  handleReadyForQuery(): void {
    this.#leave();
    this.#resolve(this.#results);
  }

  handleError(error: Error): void {
    this.#leave();
    const last = this.#results.at(-1);
    if (last !== undefined && this.#lastMayFail && this.#ended === this.#statements.length - 1) {
      last.failure = error;
      this.#resolve(this.#results);
    } else this.#reject(Object.assign(error, { statement: this.#ended }));
  }

  #leave(): void {
    this.#connection?.removeListener("parameterDescription", this.#onParameters);
    this.#connection?.removeListener("noData", this.#onNoData);
    this.#connection?.removeListener("parseComplete", this.#onParsed);
  }
}

export function rawField(field: FieldDef): RawResult["fields"][number] {
  return { name: field.name, typeOid: field.dataTypeID, modifier: field.dataTypeModifier };
}
