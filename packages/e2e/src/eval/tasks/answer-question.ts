import { finding } from "../findings.ts";
import { createCustomers } from "../products.ts";
import type { Task } from "../task.ts";

/** Which country, how many orders, and what they came to. */
const truth = `
  SELECT country, count(*)::text, sum(total)::text FROM shop.sales
  WHERE ordered_on >= '2024-01-01' AND ordered_on < '2025-01-01' AND NOT cancelled
  GROUP BY country ORDER BY sum(total) DESC LIMIT 1`;

export const answerQuestion: Task = {
  name: "answer-question",
  level: "easy",
  wish:
    "A question about the table shop.sales, nothing is to be changed: which country brought the greatest total in 2024 without " +
    "the cancelled orders, how many orders were that, and what is the total?",
  indices: [],
  mayChange: [],
  async prepare(place) {
    await createCustomers(place);
    await place.sql(
      "CREATE TABLE shop.sales (id integer PRIMARY KEY, country text, ordered_on date, total numeric(10,2), cancelled boolean)",
    );
    await place.sql(`INSERT INTO shop.sales SELECT n, (array['NO', 'PT', 'GR', 'IE'])[1 + n * 7 % 4],
      date '2023-06-01' + n * 11 % 900, (n * 7919 % 100000)::numeric / 100, n % 9 = 0 FROM generate_series(1, 3000) AS n`);
  },
  async check(place, { calls }) {
    const [[country, orders, total] = []] = await place.sql(truth);
    const answered = calls.filter(
      ({ tool, answer }) => !answer.isError && (tool === "execute_query" || tool === "count_rows"),
    );
    const lacking = [country, orders, total].filter(
      (figure) => !answered.some(({ answer }) => answer.text.includes(String(figure))),
    );
    return [
      finding("the database told the model the figures", lacking.length === 0, `no answer has ${lacking.join(", ")}`),
    ];
  },
  recording: [
    [["get_schema", { table: "shop.sales" }]],
    [
      [
        "execute_query",
        {
          sql:
            "SELECT country, count(*) AS orders, sum(total) AS total FROM shop.sales WHERE ordered_on BETWEEN '2024-01-01' AND " +
            "'2024-12-31' AND NOT cancelled GROUP BY country ORDER BY total DESC",
        },
      ],
    ],
    "The first row has the answer.",
  ],
};
