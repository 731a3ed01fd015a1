// Painting glyphs, changes and saliency maps on canvases of 28 x 28 pixels, in the colours of the page.

/** The colours of an element's theme: { paper, ink, for, against }, each [r, g, b]. */
function theme(element) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16));
  return { paper: colour("--paper"), ink: colour("--ink"), for: colour("--for"), against: colour("--against") };
}

const mix = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);

/** Fill a canvas, width pixels wide, with colour(i) -> [r, g, b] of pixel i. */
function paint(canvas, width, height, colour) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([...colour(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Ink from 0 to 255, Uint8Array [width * height], in the ink and paper of the page. */
export function paintGlyph(canvas, glyph, width = 28, height = 28) {
  const { paper, ink } = theme(canvas);
  const shades = Array.from({ length: 256 }, (_, value) => mix(paper, ink, value / 255));
  paint(canvas, width, height, (i) => shades[glyph[i]]);
}

/** Signed values over a faint glyph: one colour for, one against, full at `limit`. */
export function paintMap(canvas, map, glyph, limit = null) {
  const colours = theme(canvas);
  const full = limit ?? quantile(map.map(Math.abs), 0.995);     // a few extreme pixels would leave the others pale
  paint(canvas, 28, 28, (i) => {
    const ground = mix(colours.paper, colours.ink, (0.4 * glyph[i]) / 255);
    const strength = full ? Math.min(Math.abs(map[i]) / full, 1) : 0;
    return mix(ground, map[i] > 0 ? colours.for : colours.against, strength);
  });
}

/** An empty square of paper. */
export const paintBlank = (canvas) => paintGlyph(canvas, new Uint8Array(784));

function quantile(values, share) {
  return Float32Array.from(values).sort()[Math.floor(share * (values.length - 1))];
}
