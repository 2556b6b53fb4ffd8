/** Why a document stays out, as one word; `list_rejects` counts by it. */
export type RejectReason =
  | "invalid_line"
  | "invalid_json"
  | "too_deep"
  | "null_key"
  | "null_not_allowed"
  | "wrong_kind"
  | "is_array"
  | "is_object"
  | "not_a_number"
  | "not_an_integer"
  | "fraction"
  | "out_of_range"
  | "too_precise"
  | "not_a_boolean"
  | "not_a_date"
  | "time_of_day"
  | "unknown_date_format"
  | "too_long"
  | "nul"
  | "invalid_utf8"
  | "lone_surrogate"
  | "not_a_uuid"
  | "not_an_ip"
  | "not_a_macaddr"
  | "not_an_interval"
  | "not_a_time"
  | "not_base64"
  | "not_a_point"
  | "not_a_range"
  | "unknown_label";

/** A value that does not fit its column: a sentence without the value, and the SQLSTATE PostgreSQL would have given. */
export class Refusal {
  readonly reason: RejectReason;
  readonly message: string;
  readonly sqlstate: string | null;

  constructor(reason: RejectReason, message: string, sqlstate: string | null = null) {
    this.reason = reason;
    this.message = message;
    this.sqlstate = sqlstate;
  }
}
