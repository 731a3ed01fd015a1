// The page in a headless Chromium, as a person uses it, on a desktop with a mouse and on a phone with a finger:
//     node browser.mjs FOLDER
// What is to be compared with Python is left in FOLDER: result.json and samples-WIDTH.zip.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "../tools/chromium.mjs";
import { serve } from "../tools/serve.mjs";

const folder = process.argv[2];
const SEVEN = [[0.25, 0.25], [0.5, 0.22], [0.75, 0.22], [0.68, 0.4], [0.58, 0.6], [0.48, 0.85]];
const SCREENS = [{ width: 1280, height: 900 }, { width: 390, height: 844, hasTouch: true }];

const server = await serve();
const browser = await launch();
const result = {};
try {
  for (const screen of SCREENS) await visit(screen);
} finally {
  await browser.close();
  server.close();
}
writeFileSync(join(folder, "result.json"), JSON.stringify(result));

async function visit({ width, height, hasTouch = false }) {
  const context = await browser.newContext({ viewport: { width, height }, hasTouch, acceptDownloads: true });
  const page = await context.newPage(), faults = [];
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
  page.on("request", (request) => { if (!request.url().includes("//localhost:")) faults.push(request.url()); });
  await page.addInitScript(() => {
    globalThis.shift = 0;
    const add = (entry) => { shift += entry.hadRecentInput ? 0 : entry.value; };
    new PerformanceObserver((list) => list.getEntries().forEach(add)).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(server.url);
  await firstAnswer(page);
  const said = async (id, text) => {
    await page.locator(`#${id}`, { hasText: text }).waitFor({ state: "attached" });
    return page.locator(`#${id}`).textContent();
  };

  // every control has a name
  const tree = await page.locator("body").ariaSnapshot();
  assert.doesNotMatch(tree, /- (button|slider|spinbutton|combobox|radio|checkbox|img|application)(?! ")/);

  // draws a 7 and reads it
  await page.click("#clear");
  await said("spoken", "Nothing is drawn");
  await stroke(page, SEVEN, hasTouch);
  assert.match(await said("spoken", "Read as"), /^Read as 7, \d+\.\d %$/);
  assert.equal(await page.locator("#answer-glyph").textContent(), "7");
  result[width] = await page.evaluate(async () => {
    const { pad, state } = await import("./js/main.js");
    const { data, width, height } = pad.raster();
    return { raster: [...data], width, height, glyph: [...state.glyph] };
  });

  // the map of 1
  const map = () => page.locator("#map").evaluate(
    (canvas) => canvas.getContext("2d").getImageData(0, 0, 28, 28).data.join());
  await said("why-note", "What speaks for 7");
  const [before] = [await map(), await page.click("#bars [aria-label^='1:']")];
  await said("why-note", "What speaks for 1");
  assert.notEqual(await map(), before);
  assert.equal(await page.locator("#bars [aria-pressed=true]").count(), 1);

  // attacks it: the plain classifier falls, the adversarially trained one does not
  await page.locator("#eps").fill("0.15");
  await page.waitForFunction(() => document.querySelector("#side-gradient.fooled"));
  await page.waitForFunction(() => document.querySelector("#side-adversarial h3 span").textContent === "not fooled");

  // generates thick 3s of seed 5
  await page.locator("#generate-form").scrollIntoViewIfNeeded();
  await said("generate-note", "60 samples");
  await page.click("#all-classes");
  await page.locator("#classes input[value='3']").check({ force: true });
  await page.locator("#styles input[value=thick]").check({ force: true });
  await page.fill("#seed", "5");
  await page.fill("#count", "5");
  await said("generate-note", "5 samples");
  assert.match(await said("command", "--seed 5"), /generator\.onnx --num_digits 5 --digits 3 --style thick --seed 5$/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-zip")]);
  await download.saveAs(join(folder, `samples-${width}.zip`));

  // a foreign file gets one sentence; a model of one's own is used
  await drop(page, "photo.png", Buffer.from("no model"));
  assert.match(await said("own-note", "photo.png"), /^photo\.png is no ONNX model .*\.$/);
  const own = await (await fetch(`${server.url}models/kkanji49/classifier.onnx`)).arrayBuffer();
  await drop(page, "classifier.onnx", Buffer.from(own));
  await said("own-note", "a classifier, 49 classes");
  assert.equal(await page.locator("#set").inputValue(), "own");

  // runs that are asked for at once do not get in each other's way
  assert.ok(await page.evaluate(async () => {
    const { openModel, toUnit } = await import("./js/models.js"), { state } = await import("./js/main.js");
    const urls = ["classifier-gradient", "classifier-adversarial-gradient"].map((name) => `models/${name}.onnx`);
    const models = await Promise.all(urls.map(openModel)), x = toUnit(state.glyph);
    const runs = models.flatMap((model) => [1, 2, 3].map((k) => () => model.differentiate(x, [k], ["gradient"])));
    const alone = [];
    for (const run of runs) alone.push(await run());
    const together = await Promise.all(runs.map((run) => run()));
    return alone.every(({ gradient }, i) => gradient.every((value, j) => value === together[i].gradient[j]));
  }));

  // nothing sticks out, moves by itself, fails or comes from elsewhere
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  result[width].shift = await page.evaluate(() => shift);
  assert.ok(result[width].shift < 0.02, `layout shift ${result[width].shift}`);
  assert.deepEqual(faults, []);

  if (!hasTouch) await keyboard(page, said);
  await context.close();
}

/** Draw with keys alone; then, with the server's network gone, the page still opens and reads. */
async function keyboard(page, said) {
  await page.selectOption("#set", "mnist");
  await said("read-note", "classifier.onnx");
  await page.focus("#pad");
  await page.keyboard.press("Delete");
  await said("spoken", "Nothing is drawn");
  for (const key of [" ", ...Array(12).fill("ArrowDown"), " "]) await page.keyboard.press(key);
  await said("spoken", "Read as 1");
  await page.keyboard.press("Backspace");
  await said("spoken", "Nothing is drawn");
  await page.evaluate(() => navigator.serviceWorker.ready);
  server.closeAllConnections();
  await page.context().setOffline(true);
  await page.reload();
  await firstAnswer(page);
}

function firstAnswer(page) {
  return page.waitForFunction(() => performance.getEntriesByName("answer").length > 0);
}

/** One stroke over the canvas, of a mouse, or of a finger. Points are [x, y] from 0 to 1. */
async function stroke(page, points, touch) {
  await page.locator("#pad").scrollIntoViewIfNeeded();
  const { x, y, width } = await page.locator("#pad").boundingBox();
  const places = points.map(([px, py]) => ({ x: x + px * width, y: y + py * width }));
  if (touch) {
    const client = await page.context().newCDPSession(page);
    const send = (type, touchPoints) => client.send("Input.dispatchTouchEvent", { type, touchPoints });
    await send("touchStart", [places[0]]);
    for (const place of places.slice(1)) await send("touchMove", [place]);
    return send("touchEnd", []);
  }
  await page.mouse.move(places[0].x, places[0].y);
  await page.mouse.down();
  for (const place of places.slice(1)) await page.mouse.move(place.x, place.y, { steps: 3 });
  return page.mouse.up();
}

async function drop(page, name, buffer) {
  const dataTransfer = await page.evaluateHandle(([file, base64]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], file));
    return transfer;
  }, [name, buffer.toString("base64")]);
  await page.dispatchEvent("#drop", "drop", { dataTransfer });
}
