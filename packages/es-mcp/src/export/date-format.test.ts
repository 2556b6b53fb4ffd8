import { expect, it } from "vitest";
import { dateFormat } from "./date-format.ts";

it.each([
  ["2024-01-31", "yyyy-MM-dd"],
  ["2024/1/5", "yyyy/M/d"],
  ["2024-01-31T10:20", "yyyy-MM-dd'T'HH:mm"],
  ["2024-01-31T10:20:30Z", "yyyy-MM-dd'T'HH:mm:ssX"],
  ["2024-01-31T10:20:30.123+02", "yyyy-MM-dd'T'HH:mm:ss.SSSX"],
  ["2024-01-31 10:20:30,123456 +0200", "yyyy-MM-dd HH:mm:ss,SSSSSS XX"],
  ["2024-01-31T10:20:30+02:00", "yyyy-MM-dd'T'HH:mm:ssXXX"],
  ["31.12.2024 23:59", "dd.MM.yyyy HH:mm"],
  ["01.02.2024", "dd.MM.yyyy"],
  ["31/12/2024", "dd/MM/yyyy"],
  ["12/31/2024", "MM/dd/yyyy"],
  ["1/2/2024", "d/M/yyyy||M/d/yyyy"],
])("reads the format of %s", (text, format) => {
  expect(dateFormat(text)).toBe(format);
});

it.each([
  "",
  "noon",
  "12",
  "1704067200000",
  "2024",
  "2024-13-01",
  "2024-01-32",
  "32/32/2024",
  "1.2.3",
  "2024-01-31x",
  "2024-01-31T",
  "2024-01/31",
  "12.31.2024",
  "10:20:30",
])("takes %j for no date", (text) => {
  expect(dateFormat(text)).toBeUndefined();
});
