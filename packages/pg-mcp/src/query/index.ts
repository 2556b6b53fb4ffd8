export { countRows } from "./count.ts";
export { type JudgePolicy, judgeExpression, judgeStatement } from "./judge.ts";
export { type QueryAnswer, runQuery } from "./run.ts";
