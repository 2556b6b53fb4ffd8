import { finding, rowsAre } from "../findings.ts";
import type { EvalDocument } from "../place.ts";
import { createCustomers } from "../products.ts";
import type { Task } from "../task.ts";

const count = 120;

/** What stands in a document for a date, and the moment that it is; null is none. */
function visited(number: number): { text: string; at: number | null } {
  const at = Date.UTC(2024, number % 12, 1 + (number % 28), number % 24, number % 60);
  if (number % 40 === 11)
    return { text: ["last Tuesday", "soon", "31.02.2024"][Math.floor(number / 40)] ?? "", at: null };
  if (number % 24 === 5) {
    const day = new Date(Date.UTC(2024, number % 12, 1 + (number % 28)));
    const [year, month, date] = day.toISOString().slice(0, 10).split("-");
    return { text: `${date}.${month}.${year}`, at: day.getTime() };
  }
  return { text: new Date(at).toISOString(), at };
}

function* visits(): Generator<EvalDocument> {
  for (let number = 0; number < count; number++) {
    const id = `V${String(number).padStart(3, "0")}`;
    const remark = `Visitor number ${number} came through the side entrance.`;
    yield { id, source: { visit_id: id, visited_at: visited(number).text, remark } };
  }
}

const rows = [...visits()].map(({ id }, number) => ({ visit_id: id, at: visited(number).at }));
const withoutDate = rows.filter(({ at }) => at === null).map(({ visit_id }) => visit_id);

export const dirtyDates: Task = {
  name: "dirty-dates",
  level: "hard",
  wish:
    "Load the index {visits} into the table shop.visits. Some dates in it are dirty: load what fits first and report what stayed " +
    "out and why. Dates such as 24.12.2024 are day.month.year, in UTC: bring these in by replaying the rejects. Whatever is no " +
    "date at all stays out and is reported.",
  reply: "Yes: what is no date stays out, everything else goes in.",
  indices: ["visits"],
  mayChange: ["shop.visits"],
  async prepare(place) {
    await createCustomers(place);
    await place.createIndex(
      "visits",
      { visit_id: { type: "keyword" }, visited_at: { type: "keyword" }, remark: { type: "text" } },
      visits(),
    );
    await place.sql(
      "CREATE TABLE shop.visits (visit_id text PRIMARY KEY, visited_at timestamptz NOT NULL, remark text NOT NULL)",
    );
  },
  async check(place, { calls }) {
    const replays = await place.sql(
      `SELECT load_id FROM data_transformer.loads WHERE status = 'completed' AND NOT dry_run AND rejected = $1
        ORDER BY created_at DESC LIMIT 1`,
      [withoutDate.length],
    );
    const rejected = await place.sql(
      "SELECT document_id, column_name FROM data_transformer.rejects WHERE load_id = $1 ORDER BY 1",
      [replays[0]?.[0] ?? null],
    );
    const wanted = withoutDate.map((id) => `${id} visited_at`).join(", ");
    const found = rejected.map((reject) => reject.join(" ")).join(", ");
    return [
      await rowsAre(place, {
        claim: "each visit with a date is a row, at its moment",
        sql: "SELECT visit_id, (extract(epoch FROM visited_at) * 1000)::bigint AS at FROM shop.visits",
        rows: rows.filter(({ at }) => at !== null),
      }),
      finding("the last load rejected what is no date, and nothing else", found === wanted, found || "no rejects"),
      finding(
        "the rejects of a load were replayed",
        calls.some(({ tool, args, answer }) => tool === "bulk_insert" && "rejects_of" in args && !answer.isError),
        "no load took the rejects of another",
      ),
      finding(
        "the rejects were looked at",
        calls.some(({ tool, answer }) => tool === "list_rejects" && !answer.isError),
        "list_rejects was not called",
      ),
    ];
  },
  recording: [
    [
      ["get_mapping", { index: "{visits}" }],
      ["profile_index", { index: "{visits}" }],
      ["get_schema", { table: "shop.visits" }],
    ],
    [["bulk_export", { index: "{visits}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.visits" }]],
    [["bulk_insert", { table: "shop.visits", export_id: "$.export_id", mapping: "$.mapping_id" }]],
    [["list_rejects", { load_id: "$.load_id" }]],
    [
      [
        "bulk_insert",
        {
          rejects_of: "$.load_id",
          mapping: {
            id: "$.mapping_id",
            changes: { columns: [{ column: "visited_at", format: "strict_date_optional_time||dd.MM.uuuu" }] },
          },
        },
      ],
    ],
    [
      ["list_rejects", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.visits" }],
    ],
    "Five visits came in by the replay; three have no date and stay out.",
  ],
};
