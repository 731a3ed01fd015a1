// Which files make the site: { URL path: file }. The server hands them out, the build copies them.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CANDIDATES } from "../js/catalogue.js";

export const HERE = fileURLToPath(new URL("..", import.meta.url));
const MODELS = join(HERE, "../../saved_models");
const RUNTIME = join(HERE, "node_modules/onnxruntime-web/dist");
const SMALLEST = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

export function site() {
  if (!existsSync(RUNTIME)) throw new Error("onnxruntime-web is not installed: run npm install in examples/web");
  const modules = readdirSync(join(HERE, "js")).sort();
  const pages = ["index.html", "style.css", "icon.svg", "sw.js", ...modules.map((name) => `js/${name}`)];
  const models = CANDIDATES.filter((name) => existsSync(join(MODELS, name)));
  return Object.fromEntries([
    ...pages.map((name) => [name, join(HERE, name)]),
    ...SMALLEST.map((name) => [`ort/${name}`, join(RUNTIME, name)]),
    ...models.map((name) => [`models/${name}`, join(MODELS, name)]),
  ]);
}

/** files.json: what the page can load and keep, and a version that changes with any of it. */
export function listing(files) {
  const hash = createHash("sha256");
  for (const file of Object.values(files)) hash.update(readFileSync(file));
  return JSON.stringify({ version: hash.digest("hex").slice(0, 16), files: Object.keys(files) }, null, 1);
}
