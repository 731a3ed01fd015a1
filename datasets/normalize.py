"""Any picture -> a glyph as MNIST's were made: any size, mode, range and polarity to uint8 [28,28], ink 255 on 0.

    glyph, was_dark_ink = to_glyph(grey(open_picture("a.jpg")), dark_ink=False)
    images, ok, notes = glyphs_of(array, "x_train")         # arrays of any common shape and range
"""
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.files import UserError

SIDE = 28                      # pixels; the glyph's own box is 20, its centre of mass in the middle, as in MNIST
MAX_IMAGES = 2_000_000         # 1.6 GB as uint8
MAX_PIXELS = 50_000_000        # of one image file: a 50-megapixel photograph
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA"]  # not EPS: Pillow starts other programs for it


def open_picture(file):
    """A Pillow image of one of the common formats, not yet decoded."""
    return Image.open(file, formats=FORMATS)


def grey(image):
    """A Pillow image of any mode -> uint8 [H,W], colours as luminance, transparency laid on a contrasting ground."""
    if image.mode[0] in "IF":  # 16 or 32 bits: the range in use counts
        a = np.asarray(image, np.float32)
        if not np.isfinite(a).all():
            raise ValueError("pixels that are not numbers")
        return np.rint((a - a.min()) * (255 / max(float(np.ptp(a)), 1e-9))).astype(np.uint8)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        ink = np.asarray(image.convert("L"), np.float32)
        ground = 255.0 if (ink * alpha).sum() < 127.5 * alpha.sum() else 0.0  # dark ink on white, light ink on black
        return np.rint(ink * alpha + ground * (1 - alpha)).astype(np.uint8)
    return np.asarray(image.convert("L"))


def bright_border(a):
    """Share of the border pixels that are brighter than half-way between darkest and brightest: about 1 = dark ink."""
    middle = (int(a.min()) + int(a.max())) / 2
    return np.mean(np.concatenate([a[0], a[-1], a[1:-1, 0], a[1:-1, -1]]) > middle)


def to_glyph(a, dark_ink, center=True):
    """A grey picture of any size and polarity -> (uint8 [28,28] with ink 255 on 0, was it dark ink on light?).

    As MNIST was made (LeCun et al. 1998, Gradient-based learning applied to document recognition): ink cropped, aspect
    kept, longest side 20 px, centre of mass in the centre; with center=False the whole frame is fitted into 28 x 28.
    A clear border decides the polarity, else `dark_ink`, the habit of the data set. Paper becomes 0 and the strongest
    ink 255. Raises ValueError for a blank picture.
    """
    if int(a.max()) - int(a.min()) < 16:
        raise ValueError("blank, no ink")
    share = bright_border(a)
    dark_ink = share >= 0.8 if share >= 0.8 or share <= 0.2 else dark_ink
    a = 255 - a if dark_ink else a
    top = int(a.max())
    paper = int(np.median(a[a <= (int(a.min()) + top) / 2]))
    if paper > 0 or top < 255:
        a = np.rint(np.clip((a.astype(np.float32) - paper) * (255 / (top - paper)), 0, 255)).astype(np.uint8)
    if not center:
        h, w = a.shape
        if (h, w) == (SIDE, SIDE):
            return a, dark_ink
        square = np.zeros((max(h, w),) * 2, np.uint8)
        y, x = (max(h, w) - h) // 2, (max(h, w) - w) // 2
        square[y:y + h, x:x + w] = a
        return _resize(square, SIDE, SIDE), dark_ink
    box = _box(a, 64)  # a quarter of full ink: noise on the paper is no ink
    if a.shape == (SIDE, SIDE) and _is_centred(a):
        return a, dark_ink  # already made so: not resampled again
    a = a[box]
    scale = 20 / max(a.shape)
    a = _resize(a, max(1, round(a.shape[0] * scale)), max(1, round(a.shape[1] * scale)))
    cy, cx = _center_of_mass(a)
    y = min(max(round(SIDE / 2 - cy), 0), SIDE - a.shape[0])
    x = min(max(round(SIDE / 2 - cx), 0), SIDE - a.shape[1])
    out = np.zeros((SIDE, SIDE), np.uint8)
    out[y:y + a.shape[0], x:x + a.shape[1]] = a
    return out, dark_ink


def _box(a, level):
    """Slices of the smallest box around the pixels above `level`."""
    rows, cols = np.flatnonzero((a > level).any(1)), np.flatnonzero((a > level).any(0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _center_of_mass(a):
    weight = a.astype(np.float64)
    return (weight.sum(1) @ np.arange(a.shape[0]) / weight.sum(), weight.sum(0) @ np.arange(a.shape[1]) / weight.sum())


def _is_centred(a):
    rows, cols = _box(a, 0)
    longest = max(rows.stop - rows.start, cols.stop - cols.start)
    return 19 <= longest <= 20 and max(abs(c - SIDE / 2) for c in _center_of_mass(a)) <= 0.75


def _resize(a, height, width):
    """Antialiased; the strongest ink becomes 255 again, so that thin pens do not fade."""
    small = np.asarray(Image.fromarray(a).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return np.rint(small * (255 / max(float(small.max()), 1.0))).astype(np.uint8)


def to_glyphs(n, picture, name, center=True, as_is=False, label="reading images"):
    """`n` pictures -> (uint8 [n,28,28], ok bool [n], notes). picture(i) gives a Pillow image, name(i) its name.

    Broken pictures are left 0 with ok False and named in the notes, as is the polarity that was found. With `as_is`,
    grey 28 x 28 pictures are taken as they are.
    """
    out, dark, faults, start = np.zeros((n, SIDE, SIDE), np.uint8), np.zeros(n, np.int8), {}, time.monotonic()

    def pixels(i):
        with picture(i) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}")
            return image.mode, grey(ImageOps.exif_transpose(image))

    def fill(block):
        for i in block:
            try:
                mode, a = pixels(i)
                if as_is and mode == "L" and a.shape == (SIDE, SIDE):
                    out[i] = a
                else:
                    out[i], dark[i] = to_glyph(a, habit, center)
            except Exception as e:  # Pillow's plugins raise almost anything on a broken file
                faults[i] = ("no picture in a known format" if isinstance(e, UnidentifiedImageError) else
                             str(e).replace("\n", " ") or type(e).__name__)
        return len(block)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is said in the notes
        shares = []
        for i in range(0, n, max(1, n // 256)):  # the habit of the data set, from a sample
            try:
                shares.append(bright_border(pixels(i)[1]))
            except Exception:  # it is named below
                pass
        habit = bool(shares) and float(np.mean(shares)) > 0.5
        blocks = [range(i, min(i + 256, n)) for i in range(0, n, 256)]
        done = 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for count in pool.map(fill, blocks):
                done += count
                progress(label, done, n, start)
    ok = np.ones(n, bool)
    ok[list(faults)] = False
    notes = []
    if dark.any():
        rest = int(ok.sum() - dark.sum())
        notes.append(f"polarity: {dark.sum():,} images are dark ink on light and were inverted" +
                     (f", {rest:,} are light ink on dark" if rest else ""))
    if faults:
        notes.append(few("broken images left out", [f"{name(i)} ({faults[i]})" for i in sorted(faults)]))
    return out, ok, notes


def glyphs_of(a, what, center=True, as_is=False):
    """An array of images, any common shape and range -> (uint8 [N,28,28], ok bool [N], notes).

    [N,28,28] (or [N,784], [N,28,28,1], [N,1,28,28]) is taken as it is, but for its polarity (one for the whole array;
    not even that with `as_is`); other sizes, and colours last, go through `to_glyph`. Ranges: 0..255, 0..1, -1..1,
    0..65535.
    """
    if a.ndim == 4 and 1 in (a.shape[1], a.shape[3]):
        a = a[:, 0] if a.shape[1] == 1 else a[..., 0]
    if a.ndim == 2 and a.shape[1] == SIDE * SIDE:
        a = a.reshape(-1, SIDE, SIDE)
    if a.ndim not in (3, 4) or (a.ndim == 4 and a.shape[3] not in (3, 4)) or a.dtype.kind not in "buif" or 0 in a.shape:
        raise UserError(f"{what}: {a.dtype} of shape {list(a.shape)} is no array of images; expected uint8 [N,28,28]")
    if len(a) > MAX_IMAGES:
        raise UserError(f"{what}: {len(a):,} images are more than the limit of {MAX_IMAGES:,}; take a part of it")
    a = _to_bytes(a, what)
    if a.shape[1:] != (SIDE, SIDE):
        return to_glyphs(len(a), lambda i: Image.fromarray(a[i]), lambda i: f"{what} [{i}]", center)
    notes = []
    border = np.concatenate([a[:, 0], a[:, -1], a[:, 1:-1, 0], a[:, 1:-1, -1]], axis=1)
    if not as_is and np.median(border.mean(1)) > 127:
        notes.append(f"polarity: {what} is dark ink on light and was inverted")
        a = 255 - a
    return np.ascontiguousarray(a), np.ones(len(a), bool), notes


def _to_bytes(a, what):
    """Numbers of a common image range -> uint8, piece by piece."""
    low, high = float(a.min()), float(a.max())
    for lowest, highest in ((0, 1), (-1, 1), (0, 255), (0, 65535)):
        if lowest <= low and high <= highest:
            break
    else:
        raise UserError(f"{what}: values from {low:g} to {high:g}; expected 0..255 (or 0..1, -1..1, 0..65535)")
    if a.dtype == np.uint8 and highest == 255:
        return a
    out = np.empty(a.shape, np.uint8)
    for i in range(0, len(a), 4096):
        out[i:i + 4096] = np.rint((a[i:i + 4096].astype(np.float32) - lowest) * (255 / (highest - lowest)))
    return out


def few(what, names):
    """`what` with a count and the first names."""
    return f"{len(names):,} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def progress(what, done, total, start, unit=""):
    """One live line on stderr for work of more than a second, or with a `unit`, with the time left.

    `start` is from time.monotonic. Where stderr is no terminal, only the end of work with a unit is told.
    """
    seconds = time.monotonic() - start
    if (sys.stderr.isatty() and seconds > 1) or (unit and (sys.stderr.isatty() or done == total)):
        left = f", {seconds * (total - done) / max(done, 1):.0f} s left" if total else ""
        share = f"{100 * done / total:3.0f} % " if total else ""
        end = "\n" if done == total else ""
        print(f"\r{what}: {share}{done:,}{unit}{left}   ", end=end, file=sys.stderr, flush=True)
