import type { Task } from "../task.ts";
import { addColumn } from "./add-column.ts";
import { answerQuestion } from "./answer-question.ts";
import { copyProducts } from "./copy-products.ts";
import { dirtyDates } from "./dirty-dates.ts";
import { explainMismatch } from "./explain-mismatch.ts";
import { hostileReview } from "./hostile-review.ts";
import { orderLines } from "./order-lines.ts";
import { renameAndSelect } from "./rename-and-select.ts";
import { replaceTable } from "./replace-table.ts";
import { secondDay } from "./second-day.ts";
import { selectArticles } from "./select-articles.ts";
import { wideStations } from "./wide-stations.ts";

/** All tasks, from easy to hard. */
export const tasks: readonly Task[] = [
  copyProducts,
  answerQuestion,
  renameAndSelect,
  selectArticles,
  addColumn,
  secondDay,
  replaceTable,
  hostileReview,
  explainMismatch,
  orderLines,
  dirtyDates,
  wideStations,
];
