export { type JudgePolicy, judgeExpression, judgeStatement } from "./judge.ts";
