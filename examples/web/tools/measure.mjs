// What the README tells: download, time to the first answer, a stroke, maps, attacks, 100 samples.   npm run measure
// Medians of a few runs in a headless Chromium, everything on one thread of WebAssembly with SIMD.
import { launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const VISITS = 5, REPEATS = 5;
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const whole = (value) => value.toFixed(0);
const ms = (values) => `${whole(median(values))} ms (${whole(Math.min(...values))} to ${whole(Math.max(...values))})`;

const server = await serve();
const browser = await launch();
const context = () => browser.newContext({ viewport: { width: 1280, height: 900 } });
const durations = (page, name) => page.evaluate(
  (key) => performance.getEntriesByName(key, "measure").map((entry) => entry.duration), name);

const first = [];
for (let visit = 0; visit < VISITS; visit++) {
  const fresh = await context(), page = await fresh.newPage();
  await open(page);
  first.push(await page.evaluate(() => {
    const [{ startTime, duration }] = performance.getEntriesByName("answer");
    return startTime + duration;
  }));
  if (visit === 0) {
    const bytes = await page.evaluate(
      () => performance.getEntriesByType("resource").reduce((sum, entry) => sum + entry.decodedBodySize, 0));
    console.log(`until the page rests: ${(bytes / 1e6).toFixed(1)} MB, uncompressed`);
  }
  await fresh.close();
}
console.log(`first answer, empty cache: ${ms(first)}`);

const page = await (await context()).newPage();
await open(page);
await page.click("#clear");
const { x, y, width } = await page.locator("#pad").boundingBox();
await page.evaluate(() => performance.clearMeasures());
for (let stroke = 0; stroke < REPEATS; stroke++) {
  await page.mouse.move(x + 0.25 * width, y + 0.25 * width);
  await page.mouse.down();
  await page.mouse.move(x + 0.7 * width, y + 0.25 * width, { steps: 15 });
  await page.mouse.move(x + 0.4 * width, y + 0.85 * width, { steps: 15 });
  await page.mouse.up();
  await page.waitForTimeout(2000);                       // its map and attacks
  await page.click("#clear");
}
console.log(`a change while one draws, to bars on the screen: ${ms(await durations(page, "answer"))}`);
await page.click("#example");
await page.waitForTimeout(3000);
const work = await page.evaluate(mapsAndAttacks, REPEATS);
for (const [name, times] of Object.entries(work)) console.log(`${name}: ${ms(times)}`);
await page.locator("#generate-form").scrollIntoViewIfNeeded();
await page.waitForFunction(() => document.getElementById("generate-note").textContent.includes("samples"));
await page.fill("#count", "100");
for (const model of ["CGAN", "CVAE"]) {
  await page.locator(`#generators [value=${model}]`).check({ force: true });
  await page.waitForTimeout(2000);
  await page.evaluate(() => performance.clearMeasures());
  for (let seed = 1; seed <= REPEATS; seed++) {
    await page.fill("#seed", String(seed));
    await settled(page, "samples", seed);
    await page.waitForTimeout(1000);                     // the walk's frames
  }
  console.log(`100 samples of the ${model}: ${ms(await durations(page, "samples"))}`);
}
await browser.close();
server.close();

async function open(page) {
  await page.goto(server.url);
  await settled(page, "answer", 1);
  await page.waitForTimeout(1500);                       // the gradient files load after the first answer
}

/** In the page: milliseconds of each map, and of each attack on one classifier. */
async function mapsAndAttacks(repeats) {
  const { state } = await import("./js/main.js"), { openModel, toUnit } = await import("./js/models.js");
  const { METHODS } = await import("./js/saliency.js"), { ATTACKS, attack } = await import("./js/attack.js");
  const model = await openModel("models/classifier-gradient.onnx"), x = toUnit(state.glyph), answer = state.answer;
  const work = Object.entries(METHODS).map(([name, map]) => [`map, ${name}`, () => map(model, x, answer)]);
  for (const [name, steps] of Object.entries(ATTACKS)) {
    work.push([name, () => attack(model, x, { steps, eps: 0.1, answer })]);
  }
  const times = {};
  for (const [name, run] of work) {
    times[name] = [];
    for (let repeat = 0; repeat < repeats; repeat++) {
      const start = performance.now();
      await run();
      times[name].push(performance.now() - start);
    }
  }
  return times;
}

/** Until `name` was measured n times. */
function settled(page, name, n) {
  const measured = ([key, count]) => performance.getEntriesByName(key, "measure").length >= count;
  return page.waitForFunction(measured, [name, n]);
}
