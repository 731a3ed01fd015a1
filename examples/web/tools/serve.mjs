// A static server for the page, of Node alone:  npm start [-- PORT]
import { createServer } from "node:http";
import { createReadStream, statSync } from "node:fs";
import { extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { listing, site } from "./site.mjs";

const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
                ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
                ".json": "application/json", ".wasm": "application/wasm" };

/** A started server on this machine alone; port 0 takes a free one. Its `url` is the page's. */
export async function serve(port = 0) {
  const files = site(), list = listing(files);
  const server = createServer((request, response) => {
    const path = request.url.split("?")[0].slice(1) || "index.html";
    const type = TYPES[extname(path)] ?? "application/octet-stream";
    const fresh = { "Content-Type": type, "Cache-Control": "no-cache" };
    if (path === "files.json") return response.writeHead(200, fresh).end(list);
    if (!Object.hasOwn(files, path)) return response.writeHead(404).end();
    const { mtimeMs, size } = statSync(files[path]);
    const headers = { ...fresh, ETag: `"${size}-${Math.round(mtimeMs)}"` };
    if (request.headers["if-none-match"] === headers.ETag) return response.writeHead(304, headers).end();
    response.writeHead(200, { ...headers, "Content-Length": size });
    if (request.method === "HEAD") return response.end();
    createReadStream(files[path]).pipe(response);
  });
  return new Promise((started, failed) => {
    server.on("error", failed);
    server.listen(port, "localhost", () => {
      server.url = `http://localhost:${server.address().port}/`;
      started(server);
    });
  });
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? process.env.PORT ?? 8000);
  try {
    console.log(`${(await serve(port)).url} (Ctrl-C ends it)`);
  } catch (error) {
    const reason = { EADDRINUSE: `port ${port} is taken: npm start -- ${port + 1}`, ERR_SOCKET_BAD_PORT: "no such port" };
    console.error(`error: ${reason[error.code] ?? error.message}`);
    process.exitCode = 2;
  }
}
