/** The frame between a client and a page, on an origin of its own: it loads the page's HTML, and hands messages on. */
export function relay(host: string): void {
  const view = document.createElement("iframe");
  // No `allow-same-origin`: stricter than the extension asks for, so that a page which works here works anywhere.
  view.setAttribute("sandbox", "allow-scripts");
  document.body.append(view);
  window.addEventListener("message", ({ source, origin, data }) => {
    if (source === view.contentWindow) window.parent.postMessage(data, host);
    else if (source === window.parent && origin === host) {
      if (data?.method === "ui/notifications/sandbox-resource-ready") view.srcdoc = data.params.html;
      else view.contentWindow?.postMessage(data, "*");
    }
  });
  window.parent.postMessage({ jsonrpc: "2.0", method: "ui/notifications/sandbox-proxy-ready", params: {} }, host);
}

relay(new URL(document.referrer).origin);
