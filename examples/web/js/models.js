// Model files -> functions of plain arrays. onnxruntime-web on one WebAssembly thread with SIMD: no special headers.
import * as ort from "../ort/ort.wasm.min.mjs";
import { ContractError, classNames, kindOf } from "./contract.js";
import { readMetadata } from "./onnx_metadata.js";

export { ContractError };

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
ort.env.logLevel = "fatal";                    // what goes wrong is said on the page

const NO_RUNTIME = "The runtime does not start; it needs WebAssembly with SIMD, which browsers since 2023 have.";
const PIXELS = 28 * 28;
const SIZES = (n) => [n, 28, 28];
const int64 = (labels) => new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [labels.length]);

/** Do `work`, an async function, after all work before it: the runtime mixes up two runs that overlap, even of two
 *  sessions. Returns what work returns. */
let last = Promise.resolve();
function inTurn(work) {
  const result = last.then(work);
  last = result.catch(() => {});
  return result;
}

/** A file at a URL -> a model, as modelOf() gives it; asked for again, it is the same one. */
const opened = new Map();
export function openModel(url) {
  if (!opened.has(url)) {
    const model = fetch(url).catch(() => ({ ok: false })).then(async (answer) => {
      if (!answer.ok) throw new ContractError(`${url} could not be loaded: look at the connection, choose it again.`);
      return modelOf(url.split("/").at(-1), new Uint8Array(await answer.arrayBuffer()));
    });
    model.catch(() => opened.delete(url));     // a lost connection may come back
    opened.set(url, model);
  }
  return opened.get(url);
}

/** The bytes of a file -> { name, kind, classes, latent, ...functions }, checked against the contract. `record` is the
 *  parsed .json beside it, for a file without metadata. Throws ContractError, a sentence for the user. */
export async function modelOf(name, bytes, record = {}) {
  let session, metadata;
  try {
    metadata = readMetadata(bytes);
    session = await inTurn(() => ort.InferenceSession.create(bytes));
  } catch (error) {
    if (/backend|wasm/i.test(error.message)) throw new ContractError(`${NO_RUNTIME} (${error.message})`);
    throw new ContractError(`${name} is no ONNX model that onnxruntime can load: give an .onnx that train.py wrote.`);
  }
  const kind = kindOf(name, session);
  const classes = classNames(name, { ...record, ...metadata });
  const latent = session.inputMetadata[0].shape[1];
  const model = { name, kind, classes, latent, metadata, ...FUNCTIONS[kind](session, latent) };
  await tryOut(model);
  return model;
}

const FUNCTIONS = {
  generator: (session, latent) => ({
    /** noise Float32Array [n * latent], labels n indices, thickness Float32Array [n] -> Uint8Array [n * 784]. */
    async draw(noise, labels, thickness) {
      const n = labels.length;
      const feeds = { noise: new ort.Tensor("float32", noise, [n, latent]), label: int64(labels),
                      thickness: new ort.Tensor("float32", thickness, [n]) };
      return (await inTurn(() => session.run(feeds, ["image"]))).image.data;
    },
  }),
  classifier: (session) => ({
    /** A glyph, Uint8Array [784] with ink 255 -> its probabilities, Float32Array [K]. */
    async read(glyph) {
      const image = new ort.Tensor("uint8", glyph, SIZES(1));
      return (await inTurn(() => session.run({ image }, ["probabilities"]))).probabilities.data;
    },
  }),
  gradient: (session) => {
    /** images Float32Array [n * 784] in [0, 1], labels n indices -> Float32Arrays logits [n * K], gradient [n * 784] of
     *  the label's logit, or loss_gradient [n * 784] of its cross-entropy: those outputs that are named. */
    const differentiate = async (images, labels, outputs) => {
      const feeds = { image: new ort.Tensor("float32", images, SIZES(labels.length)), label: int64(labels) };
      const results = await inTurn(() => session.run(feeds, outputs));
      return Object.fromEntries(outputs.map((output) => [output, results[output].data]));
    };
    const read = async (glyph) => softmax((await differentiate(toUnit(glyph), [0], ["logits"])).logits);
    return { differentiate, read };
  },
};

/** One run with the last class: fails where the graph has fewer classes than the metadata names. */
async function tryOut({ name, kind, classes, latent, ...model }) {
  const k = classes.length, wrong = `${name} names ${k} classes, but does not run with them.`;
  let length = k;
  try {
    if (kind === "generator") await model.draw(new Float32Array(latent), [k - 1], new Float32Array(1));
    else length = (await model.read(new Uint8Array(PIXELS))).length;
  } catch {
    throw new ContractError(wrong);
  }
  if (length !== k) throw new ContractError(wrong);
}

/** A glyph of bytes -> Float32Array in [0, 1]. */
export const toUnit = (glyph) => Float32Array.from(glyph, (value) => value / 255);

export function softmax(logits) {
  const highest = Math.max(...logits);
  const exp = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = exp.reduce((total, value) => total + value);
  return Float32Array.from(exp, (value) => value / sum);
}

export const best = (values) => values.indexOf(Math.max(...values));
