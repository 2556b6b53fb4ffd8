export { countRows } from "./count.ts";
export type { JudgePolicy } from "./function-policy.ts";
export { judgeExpression, judgeStatement, judgesAsFunction } from "./judge.ts";
export { type QueryAnswer, runQuery } from "./run.ts";
