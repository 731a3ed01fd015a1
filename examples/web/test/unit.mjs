// The modules that need no browser, against the values of the Python ones:  node unit.mjs FOLDER
// FOLDER has expected.json, made by tests/test_web.py; glyphs.zip and glyph.png are written there, for Python to read.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { attack } from "../js/attack.js";
import { classNames, kindOf } from "../js/contract.js";
import { normalizeImage, resizeBicubic } from "../js/normalize.js";
import { readMetadata } from "../js/onnx_metadata.js";
import { randomWords } from "../js/philox.js";
import { encodePng } from "../js/png.js";
import { METHODS } from "../js/saliency.js";
import { drawNoise, sampleConditions } from "../js/samples.js";
import { zip } from "../js/zip.js";

const folder = process.argv[2];
const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8"));
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

const checks = {
  "random words are numpy's"() {
    for (const { seed, start, n, words, values } of expected.philox) {
      assert.deepEqual(randomWords(BigInt(seed), start, n, words).flat().map(String), values);
    }
  },

  "noise and thickness are generate_digits.py's"() {
    for (const { seed, start, n, latent, noise, u } of expected.noise) {
      const drawn = drawNoise(seed, start, n, latent);
      drawn.noise.forEach((value, i) => assert.ok(Math.abs(value - noise[i]) <= 1e-6));
      assert.deepEqual(drawn.u, u);
    }
    for (const { u, start, classes, style, dial, labels, thickness } of expected.conditions) {
      const drawn = sampleConditions(u, start, classes, style, dial);
      assert.deepEqual([drawn.labels, [...drawn.thickness]], [labels, thickness]);
    }
  },

  "normalized pictures are datasets/normalize.py's, the filter is Pillow's"() {
    for (const { name, grey, width, height, dark_ink, glyph } of expected.pictures) {
      const made = normalizeImage(bytes(grey), width, height, dark_ink);
      if (glyph === null) assert.equal(made, null, name);
      else assert.ok(largestDifference(made, bytes(glyph)) <= 1, name);
    }
    for (const { grey, width, height, new_width, new_height, resized } of expected.resized) {
      const made = resizeBicubic({ data: bytes(grey), width, height }, new_width, new_height);
      assert.equal(largestDifference(made.data, bytes(resized)), 0, `${width} x ${height}`);
    }
  },

  "metadata is read from the protobuf"() {
    for (const { path, metadata } of expected.metadata) assert.deepEqual(readMetadata(readFileSync(path)), metadata);
    const cut = readFileSync(expected.metadata[0].path).subarray(0, 5000);
    for (const foreign of [Buffer.from("no model at all, but a text"), cut]) {
      assert.throws(() => readMetadata(foreign), /no protobuf/);
    }
  },

  "a file that does not keep the contract gets a sentence"() {
    const port = (name, type, ...shape) => ({ name, type, shape: ["batch", ...shape] });
    const session = (inputMetadata, outputMetadata) => ({ inputMetadata, outputMetadata });
    const outputs = [port("logits", "float32", 10), port("probabilities", "float32", 10)];
    assert.equal(kindOf("a.onnx", session([port("image", "uint8", 28, 28)], outputs)), "classifier");
    for (const [wrong, words] of [
      [session([port("x", "float32", 3)], outputs), /a.onnx takes the inputs x; .*\.$/],
      [session([port("image", "uint8", 28, 28)], []), /lacks the output logits/],
      [session([port("image", "float32", 28, 28)], outputs), /image is float32 .*, not uint8 \[batch, 28, 28\]/],
      [session([{ name: "image", type: "uint8", shape: [1, 28, 28] }], outputs), /with any batch/],
    ]) assert.throws(() => kindOf("a.onnx", wrong), words);
    assert.deepEqual(classNames("a.onnx", { classes: '["あ", "い"]' }), ["あ", "い"]);
    assert.throws(() => classNames("a.onnx", {}), /\.json/);
    assert.throws(() => classNames("a.onnx", { classes: "あ" }), /no list/);
  },

  async "maps of a linear model are its weights"() {
    const weights = Float32Array.from({ length: 784 }, (_, i) => Math.sin(i)), x = weights.map((_, i) => (i % 5) / 5);
    const model = linear(weights);
    for (const [name, method] of Object.entries(METHODS)) {
      const map = await method(model, x, 1), timesInput = ["gradient × input", "integrated gradients"].includes(name);
      map.forEach((value, i) => assert.ok(Math.abs(value - weights[i] * (timesInput ? x[i] : 1)) < 1e-5, name));
    }
    assert.equal(await METHODS.SmoothGrad(model, x, 1, () => true), null);
  },

  async "attacks move downhill, stay in the ball and in [0, 1]"() {
    const weights = Float32Array.from({ length: 784 }, (_, i) => Math.sin(i)), x = weights.map((_, i) => (i % 5) / 4);
    const score = (image) => image.reduce((sum, value, i) => sum + value * weights[i], 0);
    for (const steps of [1, 20]) {
      for (const [target, sign] of [[null, -1], [1, 1], [0, -1]]) {       // logit 1 is the score, logit 0 is 0
        const changed = await attack(linear(weights), x, { steps, eps: 0.1, answer: 1, target });
        assert.ok(sign * (score(changed) - score(x)) > 10);
        changed.forEach((value, i) => assert.ok(Math.abs(value - x[i]) < 0.1001 && value >= 0 && value <= 1));
      }
    }
    assert.deepEqual(await attack(linear(weights), x, { steps: 20, eps: 0, answer: 1 }), x);
  },

  async "files for Python to read"() {
    const glyph = Uint8Array.from({ length: 28 * 20 }, (_, i) => i % 251);
    const png = await encodePng(glyph, 28, 20);
    writeFileSync(join(folder, "glyph.png"), png);
    const files = [{ name: "あ/glyph.png", data: png }, { name: "empty", data: new Uint8Array() }];
    writeFileSync(join(folder, "glyphs.zip"), zip(files));
  },
};

/** A model of two classes, the logit of 1 linear in the pixels, that of 0 zero. */
function linear(weights) {
  return {
    async differentiate(images, labels) {
      const parts = labels.map((label, k) => {
        const score = images.slice(k * 784, (k + 1) * 784).reduce((sum, value, i) => sum + value * weights[i], 0);
        return { score, gradient: weights.map((weight) => weight * label),
                 loss: weights.map((weight) => weight * (label ? -1 : 1) / (1 + Math.exp(label ? score : -score))) };
      });
      const join = (arrays) => Float32Array.from(arrays.flatMap((array) => [...array]));
      return { logits: join(parts.map(({ score }) => [0, score])), gradient: join(parts.map((part) => part.gradient)),
               loss_gradient: join(parts.map((part) => part.loss)) };
    },
  };
}

function largestDifference(a, b) {
  assert.equal(a.length, b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok: ${name}`);
}
