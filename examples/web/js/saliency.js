// Which pixels speak for a class: four maps of the same gradient, as saliency.py draws them.
import { drawNoise } from "./samples.js";

const PIXELS = 28 * 28;
const AT_ONCE = 4;                   // variants of the image in one run: the page stays alive between the runs
const SAMPLES = 32, SIGMA = 0.15;    // of SmoothGrad
let noise;                           // drawn once
const STEPS = 32, MAX_STEPS = 256, TOLERANCE = 0.05;     // of integrated gradients: for the eye, not for a table

/** name -> method(model, x, label, stopped): a map, Float32Array [784], signed, or null once stopped() is true.
 *  model: of a gradient file; x: Float32Array [784] in [0, 1]. */
export const METHODS = {
  /** How much a little more ink at each pixel raises the class's logit (Simonyan et al. 2013). */
  gradient: async (model, x, label) => (await model.differentiate(x, [label], ["gradient"])).gradient,

  /** Gradient times pixel (Shrikumar et al. 2016): zero where there is no ink. */
  "gradient × input": async (model, x, label) => times(await METHODS.gradient(model, x, label), x),

  /** The mean gradient under Gaussian noise (Smilkov et al. 2017); the noise is the same for every image. */
  SmoothGrad: (model, x, label, stopped) => {
    noise ??= drawNoise(0, 0, SAMPLES, PIXELS).noise;
    const noisy = (k, i) => x[i] + SIGMA * noise[k * PIXELS + i];
    return meanGradient(model, SAMPLES, noisy, () => 1 / SAMPLES, label, stopped);
  },

  /** The image times the mean gradient on the way to it from blank paper (Sundararajan et al. 2017): it sums to
   *  logit(image) - logit(blank). Midpoints at u^2, as most kinks lie near blank paper; more steps until it adds up. */
  "integrated gradients": async (model, x, label, stopped) => {
    const pair = Float32Array.from([...x, ...new Float32Array(PIXELS)]);
    const { logits } = await model.differentiate(pair, [label, label], ["logits"]);
    const difference = logits[label] - logits[logits.length / 2 + label];
    for (let steps = STEPS; ; steps *= 2) {
      const u = (k) => (k + 0.5) / steps;
      const faded = (k, i) => x[i] * u(k) ** 2, weight = (k) => (2 * u(k)) / steps;
      const mean = await meanGradient(model, steps, faded, weight, label, stopped);
      if (!mean) return null;
      const map = times(mean, x);
      const error = Math.abs(map.reduce((sum, value) => sum + value, 0) - difference);
      if (error <= TOLERANCE * Math.max(Math.abs(difference), 0.1) || steps === MAX_STEPS) return map;
    }
  },
};

/** Sum of weight(k) * gradient at the variants k of an image, whose pixel i is variant(k, i). */
async function meanGradient(model, n, variant, weight, label, stopped) {
  const sum = new Float32Array(PIXELS);
  for (let start = 0; start < n; start += AT_ONCE) {
    const b = Math.min(AT_ONCE, n - start);
    const k = (j) => start + Math.floor(j / PIXELS);
    const images = Float32Array.from({ length: b * PIXELS }, (_, j) => variant(k(j), j % PIXELS));
    const { gradient } = await model.differentiate(images, new Array(b).fill(label), ["gradient"]);
    gradient.forEach((value, j) => { sum[j % PIXELS] += weight(k(j)) * value; });
    await new Promise((resume) => setTimeout(resume));
    if (stopped?.()) return null;
  }
  return sum;
}

const times = (a, b) => a.map((value, i) => value * b[i]);
