// A canvas to draw on with mouse, finger, pen or keyboard; strokes are kept, so that they can be taken back.

const RASTER = 280;                    // side of the picture that the classifier's image is made of
const PEN = 0.075;                     // width of a stroke, in sides of the canvas
const STEP = 0.04;                     // of the keyboard's pen
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

export class DrawingCanvas {
  /** changed(finished) is called after every change: while a stroke is drawn, and, finished, at its end. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.strokes = [];                 // each an array of points [x, y] from 0 to 1
    this.isExample = false;            // an example goes when one starts to draw
    this.cursor = { at: [0.5, 0.3], down: false, shown: false };
    this.surface = Object.assign(document.createElement("canvas"), { width: RASTER, height: RASTER })
      .getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#release());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => { Object.assign(this.cursor, { shown: false, down: false }); this.paint(); });
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  show(strokes, isExample = false) {
    Object.assign(this, { strokes, isExample, active: null });
    this.#finish();
  }

  undo() { this.show(this.isExample ? [] : this.strokes.slice(0, -1)); }
  clear() { this.show([]); }

  /** The drawing as light ink on black: Uint8Array [side * side]. */
  raster() {
    this.surface.fillStyle = "#000";
    this.surface.fillRect(0, 0, RASTER, RASTER);
    drawStrokes(this.surface, this.strokes, RASTER, "#fff");
    const rgba = this.surface.getImageData(0, 0, RASTER, RASTER).data, data = new Uint8Array(RASTER * RASTER);
    for (let i = 0; i < data.length; i++) data[i] = rgba[4 * i];
    return { data, width: RASTER, height: RASTER };
  }

  paint() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d"), style = getComputedStyle(this.canvas);
    context.clearRect(0, 0, side, side);
    drawStrokes(context, this.strokes, side, style.getPropertyValue("--ink"));
    if (!this.cursor.shown) return;
    context.beginPath();
    context.arc(this.cursor.at[0] * side, this.cursor.at[1] * side, (PEN / 2) * side, 0, 2 * Math.PI);
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
    if (this.cursor.down) context.fill();
    context.stroke();
  }

  #start(point) {
    if (this.isExample) this.strokes = [];
    this.isExample = false;
    this.active = [point];
    this.strokes = [...this.strokes, this.active];
  }

  #finish() {
    this.active = null;
    this.paint();
    this.changed(true);
  }

  #extend(points) {
    this.active.push(...points);
    this.paint();
    this.changed(false);
  }

  #place(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / width];
  }

  #press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor.shown = false;
    this.#start(this.#place(event));
    this.#extend([]);
  }

  #move(event) {
    if (!this.active || !event.buttons) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#extend((events.length ? events : [event]).map((part) => this.#place(part)));
  }

  #release() {
    if (this.active) this.#finish();
  }

  #key(event) {
    const arrow = ARROWS[event.key], control = event.ctrlKey || event.metaKey;
    const undo = event.key === "Backspace" || (event.key === "z" && control);
    if (!arrow && !undo && event.key !== " " && event.key !== "Delete") return;
    event.preventDefault();
    this.cursor.shown = true;
    if (undo) return this.undo();
    if (event.key === "Delete") return this.clear();
    if (event.key === " ") {
      this.cursor.down = !this.cursor.down;
      if (!this.cursor.down) return this.#release();
      this.#start(this.cursor.at);
      return this.#extend([]);
    }
    this.cursor.at = this.cursor.at.map((value, i) => Math.min(Math.max(value + arrow[i], 0), 1));
    if (this.cursor.down) this.#extend([this.cursor.at]);
    else this.paint();
  }
}

/** Smooth lines: through the middles between the points, bent towards the points. */
function drawStrokes(context, strokes, side, colour) {
  Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: PEN * side, strokeStyle: colour });
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}
