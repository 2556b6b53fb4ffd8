import { rowsAre } from "../findings.ts";
import type { EvalDocument, FoundDocument } from "../place.ts";
import { createCustomers } from "../products.ts";
import type { Task } from "../task.ts";

const languages = ["en", "de", "fr"];
const topics = ["law", "art", "sport", "film", "travel, slow", 'so-called "news"', "{braces}"];
const people = ["Ada Brandt", "Ben Okoro", "Chiara Neri", "Dmitri Weiss", "Elif Kaya"];

function* articles(): Generator<EvalDocument> {
  for (let number = 0; number < 240; number++) {
    const id = `A${String(number).padStart(4, "0")}`;
    const from = (list: readonly string[], size: number): string[] =>
      Array.from({ length: size }, (_, at) => list[(number * 3 + at * 2) % list.length] ?? "");
    const published = new Date(Date.UTC(2022 + (number % 4), number % 12, 1 + (number % 28)))
      .toISOString()
      .slice(0, 10);
    const source = {
      article_id: id,
      language: languages[number % 3],
      published,
      headline: `Article ${id}: what the morning brought to the harbour`,
      topics: from(topics, number % 4),
      authors: from(people, 1 + (number % 3)),
    };
    yield { id, source };
  }
}

export const selectArticles: Task = {
  name: "select-articles",
  level: "medium",
  wish:
    "From the index {articles} copy only the articles in English (language en) that were published in 2024 to the table " +
    "shop.articles: article_id as the key, published as a date, headline, topics as an array of text, and lead_author, which " +
    "is the first of authors. No other columns.",
  indices: ["articles"],
  mayChange: ["shop.articles"],
  async prepare(place) {
    await createCustomers(place);
    await place.createIndex(
      "articles",
      {
        article_id: { type: "keyword" },
        language: { type: "keyword" },
        published: { type: "date" },
        headline: { type: "text" },
        topics: { type: "keyword" },
        authors: { type: "keyword" },
      },
      articles(),
    );
  },
  check: async (place) => [
    await rowsAre(place, {
      claim: "the English articles of 2024 are there, and no others",
      sql: "SELECT article_id, published::date::text, headline, topics::text[], lead_author FROM shop.articles",
      rows: (await place.documents("articles")).filter(isWanted).map(({ source }) => ({
        article_id: source["article_id"],
        published: source["published"],
        headline: source["headline"],
        topics: source["topics"],
        lead_author: Array.isArray(source["authors"]) ? source["authors"][0] : null,
      })),
    }),
    await rowsAre(place, {
      claim: "the table has the columns that were asked for",
      sql: `SELECT column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'shop' AND table_name = 'articles' AND column_name IN ('published', 'topics')
          OR table_schema = 'shop' AND table_name = 'articles'
            AND column_name NOT IN ('article_id', 'headline', 'lead_author')`,
      rows: [
        { column_name: "published", data_type: "date" },
        { column_name: "topics", data_type: "ARRAY" },
      ],
    }),
  ],
  recording: [
    [
      ["get_mapping", { index: "{articles}" }],
      ["profile_index", { index: "{articles}" }],
      ["list_tables", { schema: "shop" }],
    ],
    [["count_documents", { index: "{articles}", query: wanted() }]],
    [["bulk_export", { index: "{articles}", query: wanted() }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.articles" }]],
    [["create_table", { table: "shop.articles", mapping: { id: "$.mapping_id", changes: changes() } }]],
    [
      [
        "bulk_insert",
        { table: "shop.articles", export_id: "$.export_id", mapping: { id: "$.mapping_id", changes: changes() } },
      ],
    ],
    [
      ["verify_load", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.articles" }],
    ],
    "The English articles of 2024 are in shop.articles.",
  ],
};

function isWanted({ source }: FoundDocument): boolean {
  return source["language"] === "en" && String(source["published"]).startsWith("2024-");
}

function wanted(): object {
  return {
    bool: {
      filter: [{ term: { language: "en" } }, { range: { published: { gte: "2024-01-01", lt: "2025-01-01" } } }],
    },
  };
}

/** What the recording makes of the proposal. */
function changes(): object {
  return {
    key: ["article_id"],
    remove: ["language", "authors"],
    columns: [
      { column: "published", type: "date" },
      { column: "topics", type: "text[]" },
      { column: "lead_author", from: "authors", type: "text", array: "first" },
    ],
  };
}
