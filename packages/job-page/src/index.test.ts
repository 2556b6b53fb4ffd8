import { jobPage } from "@es-to-pg/job-page";
import { expect, test } from "vitest";

test("is one document that loads nothing", () => {
  const page = jobPage("loads");
  expect(page).toMatch(/^<!doctype html>\n<html lang="en" data-jobs="loads" data-endpoint="">/);
  expect(page).not.toMatch(/\b(?:src|srcset|action|formaction|ping)=|@import|https?:\/\/(?!www\.w3\.org\/)/i);
  expect(page.match(/<script>/g)).toHaveLength(1);
  expect(page.match(/<style>/g)).toHaveLength(1);
});

test("reads nothing as markup", () => {
  expect(jobPage("exports")).not.toMatch(
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/,
  );
});

test("takes no endpoint that could leave its attribute", () => {
  expect(jobPage("exports", "x/mcp")).toContain('data-endpoint="x/mcp"');
  expect(() => jobPage("exports", '"><script>')).toThrow("is not an address");
});
