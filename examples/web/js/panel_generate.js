// A sheet of samples, the same as generate_digits.py draws, and a walk between two noises.
import { readable } from "./catalogue.js";
import { choices } from "./choices.js";
import { encodePng } from "./png.js";
import { paintGlyph } from "./picture.js";
import { drawNoise, samples } from "./samples.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const SIDE = 28, PIXELS = SIDE * SIDE;
const STYLES = [["both", "thin and thick"], ["thin", "thin"], ["thick", "thick"], ["dial", "by the slider"]];
const FRAMES = 33, WALKERS = 10;
const FRAME_TIME = 60;               // milliseconds

export class GeneratePanel {
  constructor() {
    this.run = 0;
    choices($("styles"), "style", STYLES, () => this.#update());
    $("thickness").addEventListener("input", () => {
      $("thickness-value").textContent = Number($("thickness").value).toFixed(2);
      $("styles").querySelector("[value=dial]").checked = true;
      this.#update();
    });
    $("all-classes").addEventListener("click", () => {
      const boxes = [...$("classes").querySelectorAll("input")], all = boxes.every((box) => box.checked);
      for (const box of boxes) box.checked = !all;
      this.#update();
    });
    for (const id of ["seed", "count"]) $(id).addEventListener("input", () => this.#update());
    $("generate-form").addEventListener("submit", (event) => event.preventDefault());
    $("save-png").addEventListener("click", async () => {
      const { data, width, height } = this.sheet;
      save("samples.png", await encodePng(data, width, height));
    });
    $("save-zip").addEventListener("click", async () => save("samples.zip", zip(await this.files())));
    $("place").addEventListener("input", () => this.#walk());
    $("play").addEventListener("click", () => this.#play(!this.playing));
    // the generator, 0.7 MB, is loaded when one comes near it
    new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting) || this.near) return;
      this.near = true;
      this.#open();
    }, { rootMargin: "300px" }).observe($("generate-form"));
  }

  /** set: with generators { title: URL or model }; open(source) gives the model. */
  use(set, open) {
    Object.assign(this, { set, open, model: null });
    choices($("generators"), "generator", Object.keys(set.generators), () => this.#open());
    if (this.near) this.#open();
  }

  async #open() {
    const title = $("generators").querySelector(":checked")?.value;
    if (!title) return this.#note("These models come without a generator.");
    const source = this.set.generators[title];
    this.wanted = source;
    let model;
    try {
      model = await this.open(source);
    } catch (error) {
      return this.#note(error.message);
    }
    if (source !== this.wanted) return;                        // another one was chosen meanwhile
    const names = readable(this.set, model.classes);
    if (names.join() !== this.names?.join()) {
      const named = names.map((name, k) => [k, name, this.set.lang]);
      choices($("classes"), "class", named, () => this.#update(), { several: true });
    }
    const file = typeof source === "string" ? source.replace("models/", "saved_models/") : model.name;
    Object.assign(this, { model, names, file });
    this.#update();
  }

  #note(text) {
    $("generate-note").textContent = text;
  }

  /** What is asked for: { n, seed, classes, style, dial }, or null where a field holds nothing of use. */
  #request() {
    const classes = [...$("classes").querySelectorAll(":checked")].map((box) => Number(box.value));
    const number = (field) => (field.validity.valid && field.value !== "" ? Number(field.value) : null);
    const [seed, n] = [number($("seed")), number($("count"))];
    if (!classes.length) return this.#note("Choose at least one class.");
    if (seed === null) return this.#note("A seed is a whole number from 0.");
    if (n === null) return this.#note("A sheet holds 1 to 400 samples.");
    const style = $("styles").querySelector(":checked").value;
    return { n, seed, classes, style, dial: style === "dial" ? Number($("thickness").value) : null };
  }

  async #update() {
    const run = ++this.run, request = this.model && this.#request();
    $("save-png").disabled = $("save-zip").disabled = true;
    if (!request) return;
    const start = performance.now(), all = { images: [], labels: [], thickness: [] };
    for await (const block of samples(this.model.draw, this.model.latent, request.n, request)) {
      await new Promise((resume) => setTimeout(resume));
      if (run !== this.run) return;
      for (const key of Object.keys(all)) all[key].push(...block[key]);
    }
    const milliseconds = performance.now() - start;
    performance.measure("samples", { start });
    const sheet = arrange(Uint8Array.from(all.images), request.n, request.classes.length, 5 / 3);
    Object.assign(this, all, { request, sheet });
    this.paint();
    $("save-png").disabled = $("save-zip").disabled = false;
    this.#note(`${request.n} samples of ${this.model.name} in ${milliseconds.toFixed(0)} ms`);
    $("command").textContent = command(this.file, request, this.model.classes);
    const shown = request.classes.map((k) => this.names[k]).join(", ");
    $("sheet").setAttribute("aria-label", `Sheet of ${request.n} samples: ${shown}`);
    this.frames = this.#drawFrames();
    this.#walk();
  }

  paint() {
    if (this.sheet) paintGlyph($("sheet"), this.sheet.data, this.sheet.width, this.sheet.height);
    if (this.frame) paintGlyph($("walk"), this.frame.data, this.frame.width, this.frame.height);
  }

  /** The samples as labelled files, and labels.csv: what generate_digits.py writes, and --dataset reads. */
  async files() {
    const portable = /^[\p{L}\p{N}][\p{L}\p{N}_-]{0,40}$/u;              // what every file system takes as a name
    const names = this.model.classes.map((name, k) => (portable.test(name) ? name : String(k)));
    const rows = ["file,label,class,style,thickness"], files = [];
    for (let i = 0; i < this.request.n; i++) {
      const [label, t] = [this.labels[i], this.thickness[i]], style = t >= 0.5 ? "thick" : "thin";
      const name = `${String(i).padStart(5, "0")}_${names[label]}_${style}.png`;
      const image = Uint8Array.from(this.images.slice(i * PIXELS, (i + 1) * PIXELS));
      files.push({ name, data: await encodePng(image, SIDE, SIDE) });
      rows.push([name, label, quoted(this.model.classes[label]), style, t.toFixed(4)].join());
    }
    return [...files, { name: "labels.csv", data: new TextEncoder().encode(`${rows.join("\r\n")}\r\n`) }];
  }

  // ---- the walk ----------------------------------------------------------------------------------------------------

  /** All frames, glyphs of the first chosen classes on the way from the noise of the seed to that of the next; null where
   *  something else is asked for meanwhile. */
  async #drawFrames() {
    const run = this.run, { request, model } = this, classes = request.classes.slice(0, WALKERS), frames = [];
    const [from, to] = [0, 1].map((next) => drawNoise(request.seed + next, 0, classes.length, model.latent).noise);
    const t = request.dial ?? { thin: 0.25, thick: 0.75, both: 0.5 }[request.style];
    for (let frame = 0; frame < FRAMES; frame++) {
      const angle = ((frame / (FRAMES - 1)) * Math.PI) / 2;            // a quarter turn: N(0, 1) all the way
      const noise = from.map((value, i) => Math.cos(angle) * value + Math.sin(angle) * to[i]);
      const images = await model.draw(noise, classes, new Float32Array(classes.length).fill(t));
      frames.push(arrange(images, classes.length, classes.length, Infinity));
      await new Promise((resume) => setTimeout(resume));
      if (run !== this.run) return null;
    }
    return frames;
  }

  /** Show the place of the slider. */
  async #walk() {
    const frames = await this.frames;
    if (!frames) return;
    this.frame = frames[Number($("place").value)];
    paintGlyph($("walk"), this.frame.data, this.frame.width, this.frame.height);
  }

  #play(playing) {
    this.playing = playing;
    $("play").textContent = playing ? "Pause" : "Play";
    const last = FRAMES - 1, started = performance.now(), offset = Number($("place").value);
    const step = (now) => {
      if (!this.playing) return;
      const place = (offset + Math.floor((now - started) / FRAME_TIME)) % (2 * last);
      $("place").value = place > last ? 2 * last - place : place;      // there and back
      this.#walk();
      requestAnimationFrame(step);
    };
    if (playing) requestAnimationFrame(step);
  }
}

/** n glyphs in rows, so that width / height is about `ratio` and a class keeps its column where there is room. */
function arrange(images, n, classes, ratio) {
  const free = Math.max(1, Math.round(Math.sqrt(n * ratio)));
  const columns = Math.min(n, classes <= 2 * free ? classes * Math.max(1, Math.round(free / classes)) : free);
  const rows = Math.ceil(n / columns), cell = SIDE + 2;
  const [width, height] = [columns * cell, rows * cell], data = new Uint8Array(width * height);
  for (let i = 0; i < n; i++) {
    const left = (i % columns) * cell + 1, top = Math.floor(i / columns) * cell + 1;
    for (let y = 0; y < SIDE; y++) {
      data.set(images.subarray(i * PIXELS + y * SIDE, i * PIXELS + (y + 1) * SIDE), (top + y) * width + left);
    }
  }
  return { data, width, height };
}

/** The command that makes the same images. */
function command(file, { n, seed, classes, style, dial }, known) {
  const chosen = classes.map((k) => known[k]).join(), word = /\s/.test(chosen) ? `"${chosen}"` : chosen;
  const digits = classes.length < known.length ? ` --digits ${word}` : "";
  const pen = dial !== null ? ` --thickness ${dial}` : style === "both" ? "" : ` --style ${style}`;
  const from = seed ? ` --seed ${seed}` : "";
  return `python generate_digits.py --generator ${file} --num_digits ${n}${digits}${pen}${from}`;
}

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function save(name, data) {
  const href = URL.createObjectURL(new Blob([data]));
  const link = Object.assign(document.createElement("a"), { download: name, href });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
