// What sample i is: a function of (generator file, seed, i) alone, the same as generate_digits.py draws.
import { randomWords } from "./philox.js";

export const BLOCK = 64;                       // samples that are drawn at once
const BELOW_HALF = Math.fround(0.49999997);

/** noise: Float32Array [n * latent], N(0, 1) by Box and Muller; u: n numbers in [0, 1), for the thickness. */
export function drawNoise(seed, start, n, latent) {
  const pairs = Math.ceil(latent / 2);
  const words = randomWords(seed, start, n, Math.ceil((2 * pairs + 1) / 4) * 4);
  const noise = new Float32Array(n * latent);
  const u = words.map((row, i) => {
    const uniform = row.map((word) => Number(word >> 11n) * 2 ** -53);                 // [0, 1), 53 bits
    for (let k = 0; k < latent; k++) {
      const pair = k >> 1;
      const radius = Math.sqrt(-2 * Math.log1p(-uniform[1 + pair]));
      const angle = 2 * Math.PI * uniform[1 + pairs + pair];
      noise[i * latent + k] = radius * (k % 2 ? Math.sin(angle) : Math.cos(angle));
    }
    return uniform[0];
  });
  return { noise, u };
}

/** Labels cycle through `classes` (indices); thickness is `dial` where that is a number, else in [0, 0.5) for the style
 *  "thin", in [0.5, 1] for "thick", in turn for "both". Returns { labels: number[], thickness: Float32Array }. */
export function sampleConditions(u, start, classes, style = "both", dial = null) {
  const thickness = new Float32Array(u.length);
  const labels = u.map((value, i) => {
    const [round, position] = [Math.floor((start + i) / classes.length), (start + i) % classes.length];
    const thick = { thin: 0, thick: 1, both: (position + round) % 2 }[style];
    const t = Math.min(Math.fround(value / 2), BELOW_HALF);
    thickness[i] = dial ?? t + thick / 2;
    return classes[position];
  });
  return { labels, thickness };
}

/** Draw n samples with `draw`(noise, labels, thickness) -> Uint8Array [b * 784], a block after the other: an async
 *  generator of { start, images, labels, thickness }. The page stays alive between the blocks. */
export async function* samples(draw, latent, n, { seed, classes, style, dial }) {
  for (let start = 0; start < n; start += BLOCK) {
    const b = Math.min(BLOCK, n - start);
    const { noise, u } = drawNoise(seed, start, b, latent);
    const { labels, thickness } = sampleConditions(u, start, classes, style, dial);
    yield { start, images: await draw(noise, labels, thickness), labels, thickness };
  }
}
