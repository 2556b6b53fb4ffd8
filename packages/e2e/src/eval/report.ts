import { formatTable } from "../text-table.ts";
import type { Driver, Outcome } from "./run-task.ts";

/** The outcomes as a table, and under it what was not so. */
export function formatReport(outcomes: readonly Outcome[]): string {
  const isEstimate = outcomes.some(({ spent }) => spent.isEstimate);
  const tokens = isEstimate ? "tokens (estimate)" : "tokens";
  const rows = outcomes.map(({ task, level, success, spent, answerTokens, seconds }) => ({
    task,
    level,
    success: success ? "yes" : "NO",
    calls: String(spent.calls),
    errors: String(spent.errors),
    [`${tokens} in`]: figure(spent.inputTokens),
    out: figure(spent.outputTokens),
    "of answers": figure(answerTokens),
    seconds: seconds.toFixed(1),
  }));
  const failed = outcomes.filter(({ success }) => !success);
  return [
    formatTable(rows),
    "",
    `${outcomes.length - failed.length} of ${outcomes.length} tasks succeeded.`,
    ...failed.flatMap(({ task, stopped, findings }) => [
      `${task}:`,
      ...(stopped === null ? [] : [`  stopped: ${stopped}`]),
      ...findings
        .filter(({ holds }) => !holds)
        .map(({ claim, detail }) => `  not so: ${claim}${detail === undefined ? "" : ` (${detail})`}`),
    ]),
  ].join("\n");
}

/** The same as data. */
export function reportData(outcomes: readonly Outcome[], driver: Driver): object {
  return {
    model: "model" in driver ? driver.model.model : null,
    protocol: "model" in driver ? driver.model.protocol : driver.recordedOver,
    recorded: !("model" in driver),
    succeeded: outcomes.filter(({ success }) => success).length,
    tasks: outcomes.map(({ task, level, success, stopped, findings, spent, answerTokens, seconds }) => ({
      task,
      level,
      success,
      ...(stopped === null ? {} : { stopped }),
      calls: spent.calls,
      errors: spent.errors,
      input_tokens: spent.inputTokens,
      output_tokens: spent.outputTokens,
      tokens_are_estimate: spent.isEstimate,
      answer_tokens: answerTokens,
      seconds: Math.round(seconds * 1000) / 1000,
      findings,
    })),
  };
}

function figure(value: number): string {
  return value.toLocaleString("en");
}
