export { countRows } from "./count.ts";
export type { JudgePolicy } from "./function-policy.ts";
export { judgeExpression, judgeStatement, judgesAsFunction } from "./judge.ts";
export type { QueryAnswer } from "./request.ts";
export { runQuery } from "./run.ts";
