// What the classifier reads: the image it sees, its answer, a bar for each class, or for the ten likeliest of many.
import { best } from "./models.js";
import { paintBlank, paintGlyph } from "./picture.js";

const $ = (id) => document.getElementById(id);
const MOST = 10;
export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export class ReadPanel {
  /** chosen(label) is called with the class that one taps, null where it is tapped again. */
  constructor(chosen) {
    this.chosen = chosen;
  }

  use(model, classes, lang) {
    Object.assign(this, { model, classes, lang, chosenLabel: null });
    this.chosen(null);
    $("answer-glyph").lang = lang;
    this.rows = Array.from({ length: Math.min(MOST, classes.length) }, (_, row) => {
      const [item, button] = ["li", "button"].map((tag) => document.createElement(tag));
      const parts = ["b", "i", "span"].map((tag) => button.appendChild(document.createElement(tag)));
      parts[0].lang = lang;
      button.type = "button";
      button.addEventListener("click", () => this.#choose(Number(button.dataset.label)));
      item.append(button);
      return { item, button, parts, label: row };
    });
    $("bars").replaceChildren(...this.rows.map((row) => row.item));
    this.#fill(new Float32Array(classes.length), null);
  }

  /** Read a glyph, Uint8Array [784] or null for a blank one: the index of the answer, or null. */
  async show(glyph, finished) {
    this.glyph = glyph;
    this.paint();
    if (!this.model) return null;
    if (!glyph) {
      this.#fill(new Float32Array(this.classes.length), null);
      $("read-note").textContent = "Draw a glyph, as large as you like.";
      if (finished) $("spoken").textContent = "Nothing is drawn.";
      return null;
    }
    const start = performance.now();
    const model = this.model, probabilities = [...await model.read(glyph)];
    const milliseconds = performance.now() - start;
    if (model !== this.model) return null;                     // another one was chosen meanwhile
    const answer = best(probabilities);
    this.#fill(probabilities, answer);
    $("read-note").textContent = `${model.name}, ${milliseconds.toFixed(0)} ms. Tap a class to see what speaks for it.`;
    if (finished) $("spoken").textContent = `Read as ${this.classes[answer]}, ${percent(probabilities[answer])}`;
    return answer;
  }

  paint() {
    if (this.glyph) paintGlyph($("seen"), this.glyph);
    else paintBlank($("seen"));
  }

  #choose(label) {
    this.chosenLabel = this.chosenLabel === label ? null : label;
    this.#press();
    this.chosen(this.chosenLabel);
  }

  #press() {
    for (const { button } of this.rows) {
      button.setAttribute("aria-pressed", Number(button.dataset.label) === this.chosenLabel);
    }
  }

  #fill(probabilities, answer) {
    $("answer-glyph").textContent = answer === null ? "" : this.classes[answer];
    $("answer-share").textContent = answer === null ? "" : percent(probabilities[answer]);
    let labels = this.rows.map((_, row) => row);
    if (this.classes.length > MOST) {
      labels = this.classes.map((_, k) => k).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST);
    }
    this.rows.forEach(({ item, button, parts: [name, bar, share] }, row) => {
      const label = labels[row];
      button.dataset.label = label;
      button.setAttribute("aria-label", `${this.classes[label]}: ${percent(probabilities[label])}`);
      name.textContent = this.classes[label];
      bar.style.setProperty("--share", probabilities[label]);
      share.textContent = answer === null ? "" : percent(probabilities[label]);
      item.className = label === answer ? "best" : "";
    });
    this.#press();
  }
}
