// Draws a digit, writes it as digit.pgm and reads it again.
//
//     npm install                                           onnxruntime-node, see package.json and .npmrc
//     node infer.mjs 7 0.9 5                                class, thickness from 0 to 1, seed
//
// In a browser: import "onnxruntime-web" instead, and give create() the URLs of the two files.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as ort from "onnxruntime-node";

const [label = "7", thickness = "0.5", seed = "0"] = process.argv.slice(2);
if (!/^\d+$/.test(label) || !(thickness >= 0 && thickness <= 1) || !/^\d+$/.test(seed)) {
  console.error("error: expected a class, a thickness from 0 to 1, a seed, as 7 0.9 5");
  process.exit(2);
}
const open = (name) => ort.InferenceSession.create(fileURLToPath(new URL(`../saved_models/${name}`, import.meta.url)));
const [generator, classifier] = [await open("generator.onnx"), await open("classifier.onnx")];
const latent = generator.inputMetadata.find((input) => input.name === "noise").shape[1];

let state = Number(seed);
const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;     // in (0, 1)
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

const { image } = await generator.run({
  noise: new ort.Tensor("float32", Float32Array.from({ length: latent }, normal), [1, latent]),
  label: new ort.Tensor("int64", BigInt64Array.from([BigInt(label)]), [1]),                           // int64 is BigInt
  thickness: new ort.Tensor("float32", [Number(thickness)], [1]),
});
writeFileSync("digit.pgm", Buffer.concat([Buffer.from("P5 28 28 255\n"), image.data]));                  // Uint8Array

const { probabilities } = await classifier.run({ image });
const best = probabilities.data.indexOf(Math.max(...probabilities.data));
console.log(`digit.pgm: drawn as ${label}, read as ${best} (${(100 * probabilities.data[best]).toFixed(1)} %)`);
