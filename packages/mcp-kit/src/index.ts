export * from "./tool.ts";
export * from "./tool-error.ts";
