// Philox4x64-10, a counter-based random generator: word w of a stream is a function of (seed, w) alone.
// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The same words as numpy.random.Philox(key=seed).

const MASK = (1n << 64n) - 1n;
const MULTIPLIERS = [0xD2E7470EE14C6C93n, 0xCA5A826395121157n];
const WEYL = [0x9E3779B97F4A7C15n, 0xBB67AE8584CAA73Bn];
const ROUNDS = 10;

/** One block: 4 words, BigInt below 2^64, of a counter below 2^256 and a seed below 2^64. */
function block(counter, seed) {
  let [a, b, c, d] = [0n, 64n, 128n, 192n].map((shift) => (counter >> shift) & MASK);
  let [k0, k1] = [seed, 0n];
  for (let round = 0; round < ROUNDS; round++) {
    const [p, q] = [a * MULTIPLIERS[0], c * MULTIPLIERS[1]];
    [a, b, c, d] = [(q >> 64n) ^ b ^ k0, q & MASK, (p >> 64n) ^ d ^ k1, p & MASK];
    [k0, k1] = [(k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK];
  }
  return [a, b, c, d];
}

/** The words of samples start .. start + n - 1, `words` each (a multiple of 4): an array of n arrays of BigInt. */
export function randomWords(seed, start, n, words) {
  const blocks = words / 4;
  return Array.from({ length: n }, (_, i) => {
    const first = (BigInt(start) + BigInt(i)) * BigInt(blocks) + 1n;     // numpy counts up before it draws
    return Array.from({ length: blocks }, (_, j) => block(first + BigInt(j), BigInt(seed))).flat();
  });
}
