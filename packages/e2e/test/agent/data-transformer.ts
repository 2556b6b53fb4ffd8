import { z } from "zod";
import { ask, call, finish, read, type Script, type Told, waitSeconds } from "../../src/agent/script.ts";

const verdicts = z.array(z.looseObject({ column: z.string(), verdict: z.string(), reason: z.string().optional() }));
const figuresSchema = z.record(z.string(), z.number());
const reasonsSchema = z.array(z.looseObject({ reason: z.string(), count: z.number() }));

/** A model that follows agent-prompt.md, for wishes such as "Copy the index products to the table shop.products". */
export function* transform(wish: string): Script {
  // Intent.
  const asked = /index (?<index>\S+) to the table (?<table>[\w.]+\w)/.exec(wish)?.groups;
  if (asked === undefined) return "Which index shall I copy, and to which table?";
  const { table = "" } = asked;
  const mode = /make it equal/i.test(wish) ? "replace" : "upsert";

  // Discover.
  const [listed] = yield* call(["list_indices", { pattern: asked["index"] }], ["list_tables", {}]);
  let index = asked["index"];
  if (listed?.error !== undefined) {
    const nearest = listed.error.nearest?.at(0);
    if (listed.error.code !== "index_not_found" || nearest === undefined) return failure(listed);
    const answer = yield* ask(`There is no index ${index}. The nearest is ${nearest}: shall I copy that one?`);
    if (!isYes(answer)) return "I have copied nothing.";
    index = nearest;
  }
  const [, , target] = yield* call(["get_mapping", { index }], ["profile_index", { index }], ["get_schema", { table }]);
  if (target?.error !== undefined && target.error.code !== "table_not_found") return failure(target);

  // Export.
  const exported = yield* finish(
    yield* call(["bulk_export", { index, wait_seconds: waitSeconds }]),
    "get_export",
    "export_id",
  );
  if (exported.error !== undefined || exported["status"] !== "completed") return failure(exported);
  const exportId = read(exported, "export_id", z.string());

  // Plan.
  const [plan] = yield* call(["propose_mapping", { export_id: exportId, table }]);
  if (plan?.error !== undefined) return failure(plan);
  const mapping = read(plan, "mapping_id", z.string());
  const doubtful = read(plan, "columns", verdicts).filter(({ verdict }) => !["ok", "widened"].includes(verdict));
  if (doubtful.length > 0) {
    const columns = doubtful.map(({ column, verdict }) => `${column} (${verdict})`).join(", ");
    const expected = read(plan, "rejects_expected", z.number().nullable());
    const answer = yield* ask(`${columns}: about ${expected} documents would stay out. Shall I go on?`);
    if (!isYes(answer)) return "I have loaded nothing; the export is kept.";
  }

  // Execute.
  if (target?.error !== undefined) {
    const [created] = yield* call(["create_table", { table, mapping }]);
    if (created?.error !== undefined) return failure(created);
  }
  const order = { table, export_id: exportId, mapping, mode, wait_seconds: waitSeconds };
  let load = yield* finish(yield* call(["bulk_insert", order]), "get_load", "load_id");
  if (load.error?.code === "confirm_needed") {
    const dry = yield* finish(yield* call(["bulk_insert", { ...order, dry_run: true }]), "get_load", "load_id");
    const deleted = read(dry, "deleted", z.number());
    const answer = yield* ask(`The table holds rows: ${deleted} of them would be deleted. Shall I?`);
    if (!isYes(answer)) return "I have changed nothing.";
    const confirm = read(dry, "confirm", z.string());
    load = yield* finish(yield* call(["bulk_insert", { ...order, confirm }]), "get_load", "load_id");
  }
  if (load.error !== undefined || load["status"] !== "completed") return failure(load);

  // Verify.
  const loadId = read(load, "load_id", z.string());
  const [verified, counted] = yield* call(["verify_load", { load_id: loadId }], ["count_rows", { table }]);
  const figures = read(load, "figures", figuresSchema);
  const [rejects] = (figures["rejected"] ?? 0) > 0 ? yield* call(["list_rejects", { load_id: loadId }]) : [];

  // Report.
  const verdict = read(verified, "verdict", z.string());
  const reasons = rejects === undefined ? [] : read(rejects, "reasons", reasonsSchema);
  const report = [
    verdict === "equal" ? `Copied ${index} to ${table}.` : `FAILED: the table ${verdict} from the export.`,
    `${Object.entries(figures)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ")}.`,
    ...(load["deleted"] === undefined ? [] : [`deleted ${read(load, "deleted", z.number())}.`]),
    ...(reasons.length > 0
      ? [`Rejected: ${reasons.map(({ reason, count }) => `${reason} ${count}`).join(", ")}.`]
      : []),
    `verify_load: ${verdict}, ${read(verified, "matched", z.number())} matched.`,
    `The table has ${read(counted, "count", z.union([z.number(), z.string()]))} rows.`,
    `${read(load, "seconds", z.number())} s.`,
    "Not done: the export is kept.",
  ];
  return `${report.join(" ")}\nResult: ${verdict === "equal" ? "success" : "failure"}; rejected ${figures["rejected"] ?? 0}`;
}

function isYes(answer: string): boolean {
  return /^yes\b/i.test(answer);
}

function failure(told: Told): string {
  return `FAILED: ${JSON.stringify(told.error ?? told)}\nResult: failure; rejected 0`;
}
