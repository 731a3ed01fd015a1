// A grey picture of any size -> a glyph as MNIST's were made (LeCun et al. 1998): ink 255 on 0, cropped, 20 pixels
// long, its centre of mass in the middle of 28 x 28. The same steps, and the same bytes, as datasets/normalize.py has
// for clean pictures: a drawing has no paper with shadows, lines and specks to be taken out.

export const SIDE = 28;
const INK = 64;                    // a quarter of full ink: noise on the paper is no ink

/** grey: Uint8Array [height * width], dark on light or light on dark -> Uint8Array [784], or null where it is blank.
 *  Where the border does not tell the polarity, `darkInk` does. */
export function normalizeImage(grey, width, height, darkInk = false) {
  let [low, high] = extremes(grey);
  if (high - low < 16) return null;
  const bright = brightBorder(grey, width, height, (low + high) / 2);
  if (bright >= 0.8 || (darkInk && bright > 0.2)) {
    grey = grey.map((value) => 255 - value);
    [low, high] = [255 - high, 255 - low];
  }
  const paper = Math.floor(median(grey, (low + high) / 2));
  if (paper > 0 || high < 255) {
    const scale = Math.fround(255 / (high - paper));
    grey = grey.map((value) => roundHalfEven(Math.min(Math.max(Math.fround((value - paper) * scale), 0), 255)));
  }
  let image = { data: grey, width, height };
  if (width === SIDE && height === SIDE && isCentred(image)) return grey;
  image = crop(image, box(image, INK));
  const scale = 20 / Math.max(image.width, image.height);
  const size = (side) => Math.max(1, roundHalfEven(side * scale));
  image = strengthen(resizeBicubic(image, size(image.width), size(image.height)));
  const centre = centreOfMass(image);
  const place = (at, side) => Math.min(Math.max(roundHalfEven(SIDE / 2 - at), 0), SIDE - side);
  return paste(image, place(centre.x, image.width), place(centre.y, image.height));
}

function extremes(data) {
  let [low, high] = [255, 0];
  for (const value of data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Share of the border pixels above `middle`: about 1 where the ink is dark. */
function brightBorder(data, width, height, middle) {
  let [bright, n] = [0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x += y % (height - 1) && x < width - 1 ? width - 1 : 1) {
      bright += data[y * width + x] > middle;
      n++;
    }
  }
  return bright / n;
}

/** Median of the values up to `limit`. */
function median(data, limit) {
  const counts = new Array(256).fill(0);
  for (const value of data) if (value <= limit) counts[value]++;
  const n = counts.reduce((sum, count) => sum + count);
  const nth = (k) => {
    let value = 0;
    for (let seen = counts[0]; seen <= k; seen += counts[++value]);
    return value;
  };
  return (nth(Math.floor((n - 1) / 2)) + nth(Math.floor(n / 2))) / 2;
}

/** The smallest box around the pixels above `level`: { left, top, right, bottom }, the last two outside. */
function box({ data, width, height }, level) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] > level) {
        [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
        [top, bottom] = [Math.min(top, y), y + 1];
      }
    }
  }
  return { left, top, right, bottom };
}

function crop({ data, width }, { left, top, right, bottom }) {
  const part = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    part.set(data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { data: part, width: right - left, height: bottom - top };
}

function centreOfMass({ data, width }) {
  let [sum, x, y] = [0, 0, 0];
  data.forEach((value, i) => {
    sum += value;
    x += value * (i % width);
    y += value * Math.floor(i / width);
  });
  return { x: x / sum, y: y / sum };
}

function isCentred(image) {
  const { left, top, right, bottom } = box(image, 0);
  const longest = Math.max(right - left, bottom - top);
  const { x, y } = centreOfMass(image);
  return longest >= 19 && longest <= 20 && Math.max(Math.abs(x - SIDE / 2), Math.abs(y - SIDE / 2)) <= 0.75;
}

/** The strongest ink becomes 255 again, so that thin pens do not fade. */
function strengthen(image) {
  const scale = Math.fround(255 / Math.max(extremes(image.data)[1], 1));
  return { ...image, data: image.data.map((value) => roundHalfEven(Math.fround(value * scale))) };
}

function paste({ data, width, height }, left, top) {
  const square = new Uint8Array(SIDE * SIDE);
  for (let y = 0; y < height; y++) square.set(data.subarray(y * width, (y + 1) * width), (top + y) * SIDE + left);
  return square;
}

/** As numpy and Python round: 0.5 to the even neighbour. */
function roundHalfEven(value) {
  const down = Math.floor(value);
  return value - down === 0.5 ? down + (down % 2) : Math.round(value);
}

// ---- Pillow's antialiased bicubic filter, in its integers: each pass is rounded to bytes ---------------------------

const PRECISION = 22;              // bits after the point of a weight

export function resizeBicubic(image, width, height) {
  const columns = (part) => transpose(resizeRows(transpose(part), height));
  const columnsFirst = image.height > 2 * image.width && image.height > height;        // Pillow 13, in tall pictures
  return columnsFirst ? resizeRows(columns(image), width) : columns(resizeRows(image, width));
}

function resizeRows({ data, width, height }, newWidth) {
  if (newWidth === width) return { data, width, height };
  const out = new Uint8Array(newWidth * height);
  weights(width, newWidth).forEach(({ first, values }, x) => {
    for (let y = 0; y < height; y++) {
      let sum = 1 << (PRECISION - 1);
      for (let k = 0, at = y * width + first; k < values.length; k++) sum += data[at + k] * values[k];
      out[y * newWidth + x] = Math.min(Math.max(sum >> PRECISION, 0), 255);
    }
  });
  return { data: out, width: newWidth, height };
}

/** For each new pixel: the first old pixel that counts, and integer weights from there on. */
function weights(oldSize, newSize) {
  const scale = oldSize / newSize, stretch = Math.max(scale, 1), support = 2 * stretch;
  return Array.from({ length: newSize }, (_, x) => {
    const centre = (x + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), oldSize);
    const exact = Array.from({ length: last - first }, (_, k) => bicubic((k + first - centre + 0.5) * (1 / stretch)));
    const one = 2 ** PRECISION / exact.reduce((sum, value) => sum + value, 0);
    return { first, values: exact.map((value) => Math.trunc(value * one + (value < 0 ? -0.5 : 0.5))) };
  });
}

function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function transpose({ data, width, height }) {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) out[x * height + y] = data[y * width + x];
  return { data: out, width: height, height: width };
}
