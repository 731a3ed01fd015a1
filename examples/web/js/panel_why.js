// Which pixels speak for a class: a saliency map over the drawing.
import { choices } from "./choices.js";
import { paintBlank, paintMap } from "./picture.js";
import { METHODS } from "./saliency.js";

const $ = (id) => document.getElementById(id);
const DEFAULT = 2;                     // SmoothGrad: also tells where ink is missed, and is the easiest to see
const MISSING = "These models come without classifier-gradient.onnx, which the maps are made of.";

export class WhyPanel {
  constructor() {
    this.label = null;                 // the class that was tapped; null: the answer
    this.run = 0;
    choices($("methods"), "method", Object.keys(METHODS), () => this.#update(), { chosen: DEFAULT });
  }

  use(model, classes) {
    Object.assign(this, { model, classes });
    $("methods").disabled = !model;
    this.#update();
  }

  stop() {
    this.run++;
  }

  choose(label) {
    this.label = label;
    this.#update();
  }

  show(x, glyph, answer) {
    Object.assign(this, { x, glyph, answer });
    this.#update();
  }

  async #update() {
    const run = ++this.run, label = this.label ?? this.answer;
    const ready = this.model && this.x && label !== null && label < this.classes.length;
    if (!ready) {
      this.map = null;
      this.paint();
      if (this.model === null) $("why-note").textContent = MISSING;
      return;
    }
    const method = $("methods").querySelector(":checked").value;
    const map = await METHODS[method](this.model, this.x, label, () => run !== this.run);
    if (!map || run !== this.run) return;
    Object.assign(this, { map, mapGlyph: this.glyph, explained: label });
    this.paint();
    const name = this.classes[label], which = label === this.answer ? "the answer" : "which it is not read as";
    $("why-note").textContent = `What speaks for ${name}, ${which}, and what against.`;
    $("map").setAttribute("aria-label", `${method} map: which pixels speak for ${name}`);
  }

  paint() {
    if (this.map) paintMap($("map"), this.map, this.mapGlyph);
    else paintBlank($("map"));
  }
}
