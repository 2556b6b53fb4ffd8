import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Page } from "./page.ts";

/**
 * Answers GET and HEAD with the page, which holds no data: what it shows it asks the endpoint for, with the token where
 * there is one.
 */
export function pageHandler(page: Page, mcpPath: string): (request: IncomingMessage, response: ServerResponse) => void {
  // Relative, so that it holds behind a proxy that serves all of this under a path of its own.
  const html = page.html(mcpPath.slice(1));
  const body = Buffer.from(html);
  const headers = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Length": body.length,
    "Content-Security-Policy": contentPolicy(html),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
  };
  return ({ method }, response) => {
    if (method === "GET" || method === "HEAD") {
      response.writeHead(200, headers).end(method === "GET" ? body : undefined);
    } else {
      // A body was not read, and a kept connection would have to swallow it.
      response.writeHead(405, { Allow: "GET, HEAD", Connection: "close", "Cache-Control": "no-store" }).end();
    }
  };
}

/** Lets run what is in the page as it was built, and nothing that comes into it later. */
function contentPolicy(html: string): string {
  return [
    "default-src 'none'",
    `script-src ${hashes(html, "script")}`,
    `style-src ${hashes(html, "style")}`,
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
}

function hashes(html: string, element: "script" | "style"): string {
  const texts = [...html.matchAll(new RegExp(`<${element}[^>]*>([^]*?)</${element}>`, "g"))].map(
    ([, text = ""]) => text,
  );
  const sums = texts.map((text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`);
  return sums.length > 0 ? sums.join(" ") : "'none'";
}
