// The page: which models are in use, and which panel answers to what.
import { DrawingCanvas } from "./canvas.js";
import { SETS, readable, withFiles } from "./catalogue.js";
import { example, hasExample } from "./examples.js";
import { openModel, toUnit } from "./models.js";
import { normalizeImage } from "./normalize.js";
import { AttackPanel } from "./panel_attack.js";
import { GeneratePanel } from "./panel_generate.js";
import { ReadPanel } from "./panel_read.js";
import { WhyPanel } from "./panel_why.js";
import { acceptFiles, withOwn } from "./own_models.js";

const $ = (id) => document.getElementById(id);
export const state = { set: null, classifier: null, classes: [], glyph: null, answer: null };

const read = new ReadPanel((label) => why.choose(label));
const why = new WhyPanel();
const attack = new AttackPanel();
const generate = new GeneratePanel();
export const pad = new DrawingCanvas($("pad"), drawn);

let busy = false, waiting = null, nextExample = 0;

/** The drawing has changed: read it. While it is being read, only the newest change waits. */
async function drawn(finished) {
  if (busy) {
    waiting = finished || waiting;
    return;
  }
  busy = true;
  for (const panel of [why, attack]) panel.stop();             // they would hold up the pen
  try {
    const start = performance.now(), raster = pad.raster();
    state.glyph = normalizeImage(raster.data, raster.width, raster.height);
    state.answer = await read.show(state.glyph, finished);
    if (state.answer !== null) performance.measure("answer", { start });
    if (finished) explain();
  } finally {
    busy = false;
  }
  if (waiting !== null) {
    const again = waiting;
    waiting = null;
    drawn(again);
  }
}

/** What follows an answer once a stroke is finished: its map, and how it breaks. */
function explain() {
  const x = state.glyph && toUnit(state.glyph);
  why.show(x, state.glyph, state.answer);
  attack.show(x, state.glyph, state.answer);
}

/** Use the models of a set: URLs, or opened models where they are the user's own. */
async function use(set) {
  const open = (source) => (typeof source === "string" ? openModel(source) : source);
  state.set = set;
  const classifier = await open(set.classifier);
  if (state.set !== set) return;                               // another one was chosen meanwhile
  Object.assign(state, { classifier, classes: readable(set, classifier.classes) });
  read.use(classifier, state.classes, set.lang);
  $("example").disabled = !state.classes.some(hasExample);
  if (pad.isExample || !pad.strokes.length) showExample();
  else drawn(true);
  generate.use(set, open);
  const [gradient, adversarial] = await Promise.all([set.gradient, set.adversarial].map((part) => part && open(part)));
  if (state.set !== set) return;
  why.use(gradient, state.classes);
  attack.use({ gradient, adversarial }, state.classes, set.lang);
  if (state.answer !== null) explain();
}

/** The next class of which there is an example; "7" is the first. */
function showExample() {
  const known = state.classes.filter(hasExample);
  if (!known.length) return pad.clear();
  nextExample = known.includes("7") && nextExample === 0 ? known.indexOf("7") : nextExample % known.length;
  pad.show(example(known[nextExample++]), true);
}

async function start() {
  const { files } = await (await fetch("files.json")).json();
  const found = SETS.map((set) => withFiles(set, files)).filter((set) => set.classifier);
  const sets = Object.fromEntries(found.map((set) => [set.id, set]));
  $("set").append(...found.map((set) => new Option(set.title, set.id)));
  const useChosen = () => use(sets[$("set").value]);
  $("set").addEventListener("change", () => useChosen().catch(report));
  $("undo").addEventListener("click", () => pad.undo());
  $("clear").addEventListener("click", () => pad.clear());
  $("example").addEventListener("click", showExample);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const panel of [pad, read, why, attack, generate]) panel.paint();
  });
  acceptFiles($("files"), async (models) => {
    sets.own = withOwn(state.set, state.classifier, models);
    $("set").querySelector("[value=own]")?.remove();
    $("set").append(new Option(sets.own.title, "own", false, true));
    await useChosen();
    const what = { generator: "a generator", classifier: "a classifier", gradient: "a classifier with its gradients" };
    const named = models.map(({ name, kind, classes }) => `${name}, ${what[kind]}, ${classes.length} classes`);
    say(`In use: ${named.join("; ")}.`);
  }, say);
  await useChosen();
  navigator.serviceWorker?.register("sw.js").catch(() => {});     // offline is a gift: not over plain http, for one
}

const say = (sentence) => { $("own-note").textContent = sentence; };
const report = (error) => { $("read-note").textContent = error.message; };

start().catch(report);
