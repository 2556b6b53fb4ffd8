import { createServer, type Server } from "node:net";

/** Makes a server listen on loopback, at a port that the system chooses unless one is wanted, and answers the port. */
export async function listenOnLoopback(server: Server, wanted = 0, host = "127.0.0.1"): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(wanted, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the system gave no port");
  return address.port;
}

/** The wanted port of loopback if nobody listens there, else one that the system chooses. */
export async function freePort(wanted = 0): Promise<number> {
  const server = createServer();
  try {
    return await listenOnLoopback(server, wanted);
  } catch (error) {
    if (wanted === 0) throw error;
    return await freePort();
  } finally {
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}
