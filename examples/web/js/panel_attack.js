// The drawing, changed so that the classifier errs: the plain classifier beside the adversarially trained one.
import { ATTACKS, attack } from "./attack.js";
import { choices } from "./choices.js";
import { best, softmax } from "./models.js";
import { percent } from "./panel_read.js";
import { paintBlank, paintGlyph, paintMap } from "./picture.js";

const $ = (id) => document.getElementById(id);
const TITLES = { gradient: "Trained as usual", adversarial: "Trained on attacked images" };
const PICTURES = ["drawn", "change", "changed"];
const MISSING = { gradient: "needs classifier-gradient.onnx", adversarial: "none of these classes" };

export class AttackPanel {
  constructor() {
    this.run = 0;
    this.sides = Object.entries(TITLES).map(([key, title]) => new Side($("duel"), key, title));
    choices($("attacks"), "attack", Object.keys(ATTACKS).reverse(), () => this.#update());
    $("target").addEventListener("change", () => this.#update());
    $("eps").addEventListener("input", () => {
      $("eps-value").textContent = Number($("eps").value).toFixed(2);
      this.#update();
    });
  }

  use(models, classes, lang) {
    Object.assign(this, { models, classes });
    const named = classes.map((name, k) => Object.assign(new Option(name, k), { lang }));
    $("target").replaceChildren(new Option("anything else", ""), ...named);
    this.#update();
  }

  show(x, glyph, answer) {
    Object.assign(this, { x, glyph, answer });
    this.#update();
  }

  stop() {
    this.run++;
  }

  paint() {
    for (const side of this.sides) side.paint();
  }

  async #update() {
    const run = ++this.run, stopped = () => run !== this.run;
    if (!this.models) return;
    const settings = { eps: Number($("eps").value), steps: ATTACKS[$("attacks").querySelector(":checked").value],
                       target: $("target").value === "" ? null : Number($("target").value) };
    const x = this.answer === null ? null : this.x;
    for (const side of this.sides) {
      await side.update(this.models[side.key], this.classes, x, settings, stopped);
      if (stopped()) return;
    }
  }
}

class Side {
  constructor(parent, key, title) {
    this.key = key;
    this.element = document.createElement("div");
    this.element.innerHTML = `<h3>${title} <span role="status"></span></h3><div class="trio">${PICTURES.map((name) =>
      `<figure><canvas class="square pixels" width="28" height="28" role="img" aria-label="${name}"></canvas>
       <figcaption>${name}<p></p></figcaption></figure>`).join("")}</div>`;
    this.element.id = `side-${key}`;
    this.status = this.element.querySelector("h3 span");
    this.canvases = [...this.element.querySelectorAll("canvas")];
    this.captions = [...this.element.querySelectorAll("figcaption p")];
    parent.append(this.element);
  }

  async update(model, classes, x, settings, stopped) {
    if (!model || !x) {
      this.result = null;
      this.status.textContent = model ? "" : MISSING[this.key];
      this.element.classList.remove("fooled");
      for (const caption of this.captions) caption.textContent = "";
      return this.paint();
    }
    const read = async (image) => softmax((await model.differentiate(image, [0], ["logits"])).logits);
    const before = await read(x), answer = best(before);
    if (settings.target === answer) settings = { ...settings, target: null };
    const changed = await attack(model, x, { ...settings, answer }, stopped);
    if (!changed) return;
    const after = await read(changed), fooled = best(after) !== answer;
    this.result = { x, changed, eps: settings.eps };
    this.element.classList.toggle("fooled", fooled);
    this.status.textContent = fooled ? `fooled: now read as ${classes[best(after)]}` : "not fooled";
    this.#caption(0, classes[answer], percent(before[answer]));
    this.captions[1].textContent = settings.eps ? `± ${settings.eps.toFixed(2)}` : "none";
    this.#caption(2, classes[best(after)], percent(after[best(after)]));
    this.paint();
  }

  #caption(i, name, share) {
    const big = Object.assign(document.createElement("b"), { textContent: name });
    this.captions[i].replaceChildren(big, share);
  }

  paint() {
    if (!this.result) return this.canvases.forEach(paintBlank);
    const { x, changed, eps } = this.result;
    const bytes = (image) => Uint8Array.from(image, (value) => Math.round(255 * value));
    paintGlyph(this.canvases[0], bytes(x));
    paintMap(this.canvases[1], changed.map((value, i) => value - x[i]), new Uint8Array(784), eps || 1);
    paintGlyph(this.canvases[2], bytes(changed));
  }
}
