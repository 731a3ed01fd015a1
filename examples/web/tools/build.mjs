// One folder that any static host or file server can serve, with the models:  npm run build [-- FOLDER]
import { copyFileSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { HERE, listing, site } from "./site.mjs";

const out = resolve(process.argv[2] ?? join(HERE, "build"));
const files = site();
if (!process.argv[2]) rmSync(out, { recursive: true, force: true });     // the default folder is ours alone
let bytes = 0;
for (const [path, file] of Object.entries(files)) {
  mkdirSync(dirname(join(out, path)), { recursive: true });
  copyFileSync(file, join(out, path));
  bytes += statSync(file).size;
}
writeFileSync(join(out, "files.json"), listing(files));
console.log(`${out}: ${Object.keys(files).length + 1} files, ${(bytes / 1e6).toFixed(1)} MB`);
