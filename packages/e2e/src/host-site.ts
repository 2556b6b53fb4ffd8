import { createServer, type Server } from "node:http";
import { fileURLToPath } from "node:url";
import { listenOnLoopback } from "@es-to-pg/engines";
import { build } from "esbuild";

/** A client that shows pages, as a site: itself on one origin, the frames of its pages on another. */
export interface HostSite extends AsyncDisposable {
  url: string;
}

/** What the extension has a client enforce for a page that names no origin at all. */
const SANDBOX_POLICY =
  "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'none'; object-src 'none'; base-uri 'self'";

const HOST_STYLE = `
  :root { color-scheme: light; background: #f3f4f6; }
  :root[data-theme="dark"] { color-scheme: dark; background: #0b0d10; }
  body { margin: 0; padding: 24px; }
  iframe { display: block; box-sizing: border-box; width: 100%; max-width: 680px; height: 60px; margin: 0 auto; border: 1px solid light-dark(#d8dee4, #30363d); border-radius: 12px; }`;

const SANDBOX_STYLE = `html, body, iframe { display: block; width: 100%; height: 100%; margin: 0; border: 0; }`;

/** Serves the client. Its script is the built one of `src/host`, with the extension's own bridge in it. */
export async function serveHostSite(): Promise<HostSite> {
  const [host, sandbox] = await Promise.all([bundled("host"), bundled("sandbox")]);
  const sandboxPage = document(SANDBOX_STYLE, "", sandbox);
  const frames = await serve("localhost", sandboxPage, { "Content-Security-Policy": SANDBOX_POLICY });
  const site = await serve("127.0.0.1", document(HOST_STYLE, '<main id="conversation"></main>', host));
  return {
    url: `${site.url}/?sandbox=${encodeURIComponent(`${frames.url}/`)}`,
    async [Symbol.asyncDispose]() {
      for (const { server } of [site, frames]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

async function bundled(name: "host" | "sandbox"): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../dist/host/${name}.js`, import.meta.url))],
    bundle: true,
    write: false,
    format: "iife",
    logLevel: "warning",
  });
  return outputFiles[0]?.text ?? "";
}

function document(style: string, body: string, script: string): string {
  const safe = script.replaceAll("</script", "<\\/script");
  return `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>Client</title><style>${style}</style><body>${body}<script>${safe}</script></body></html>`;
}

async function serve(
  host: string,
  page: string,
  headers: Record<string, string> = {},
): Promise<{ url: string; server: Server }> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", ...headers }).end(page);
  });
  const port = await listenOnLoopback(server, 0, host);
  return { url: `http://${host}:${port}`, server };
}
