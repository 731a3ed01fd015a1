"""Any image -> a glyph as MNIST's were made: any size, mode, range and polarity to uint8 [28,28], ink 255 on 0.

    glyph, was_dark_ink = normalize_image(grey(open_picture("a.jpg")), dark_ink=False)
    images, ok, notes = normalize_images(array, "x_train")  # arrays of any common shape and range
"""
import contextlib
import functools
import math
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datasets.cleaning import clean, stretch
from utils.cli import Progress
from utils.files import UserError
from utils.limits import MAX_IMAGES, MAX_PIXELS

SIDE = 28                      # pixels; the glyph itself takes 20, its centre of mass in the middle, as in MNIST
LARGE = 4_000_000              # pixels of a picture above which it is reduced before anything else
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA"]  # not EPS: Pillow starts other programs for it
open_picture = functools.partial(Image.open, formats=FORMATS)  # a path or stream -> an image, not yet decoded


def shrink(image):
    """A picture of more than LARGE pixels reduced to fewer, as all that follows needs many bytes for each."""
    factor = math.ceil(math.sqrt(image.width * image.height / LARGE))
    if factor < 2:
        return image
    if image.mode in ("1", "P", "PA") or "transparency" in image.info:  # modes that cannot be averaged
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode.startswith("I;"):
        image = image.convert("I")
    return image.reduce(factor)


def grey(image):
    """A Pillow image of any mode -> uint8 [H,W]: colours as luminance, transparency on a contrasting ground."""
    if image.mode[0] in "IF":  # 16 or 32 bits: the range in use counts
        a = np.asarray(image, np.float32)
        if not np.isfinite(a).all():
            raise ValueError("pixels that are not numbers")
        return np.rint((a - a.min()) * (255 / max(float(np.ptp(a)), 1e-9))).astype(np.uint8)
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        ink = np.asarray(image.convert("L"), np.float32)
        if alpha.min() == 1:
            return ink.astype(np.uint8)
        seen = ink[alpha > 0.5] if alpha.max() > 0.5 else ink  # dark ink on white, light ink on black, by its mid-tone
        ground = 255.0 if np.percentile(seen, 5) + np.percentile(seen, 95) < 255 else 0.0
        return np.rint(ink * alpha + ground * (1 - alpha)).astype(np.uint8)
    return np.asarray(image.convert("L"))


def bright_border(a):
    """Fraction of the border pixels that are brighter than half-way from darkest to brightest: about 1 is dark ink."""
    middle = (int(a.min()) + int(a.max())) / 2
    return np.mean(np.concatenate([a[0], a[-1], a[1:-1, 0], a[1:-1, -1]]) > middle)


def has_dark_ink(a, dark_ink):
    """Is a grey image uint8 [H,W] dark ink on light? The border tells, within a dark frame the paper inside it; where
    neither does, `dark_ink`."""
    border = bright_border(a)
    dy, dx = (max(1, n // 8) for n in a.shape)
    inner = a[dy:-dy, dx:-dx]
    if min(a.shape) > SIDE and inner.size and border < 0.8:
        middle = (int(a.min()) + int(a.max())) / 2
        bright, core = inner > middle, inner[dy:-dy, dx:-dx] > middle
        ring = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
        if ring.mean() >= 0.8 and bright.mean() >= 0.7 and 0.5 <= core.mean() < (1.1 if dark_ink else 0.998):
            return True
        if border > 0.2 and ring.mean() <= 0.2 and bright.mean() <= 0.3 and 0.002 < core.mean() <= 0.5:
            return False
    return border >= 0.8 or (dark_ink and border > 0.2)


def normalize_image(a, dark_ink, center=True):
    """A grey image uint8 [H,W] of any polarity -> (uint8 [28,28] with ink 255 on 0, was it dark ink on light?).

    Uneven light, printed cell lines and specks are taken out first (see cleaning.py), but not of 28 x 28 images.

    As MNIST was made (LeCun et al. 1998, Gradient-based learning applied to document recognition): ink cropped, aspect
    kept, longest side 20 px, centre of mass in the centre; with center=False the whole frame fitted into 28 x 28. Where
    the border does not tell the polarity, `dark_ink` does. Paper becomes 0, the strongest ink 255. ValueError: blank.
    """
    glyph, dark_ink, _ = _normalize(a, dark_ink, center)
    return glyph, dark_ink


def _normalize(a, dark_ink, center, lines="clear"):
    """normalize_image's result and the set of what was removed; `lines`: see cleaning.clean."""
    if int(a.max()) - int(a.min()) < 16:
        raise ValueError("blank, no ink")
    dark_ink, removed = has_dark_ink(a, dark_ink), set()
    a = 255 - a if dark_ink else a
    if a.shape != (SIDE, SIDE):
        a, removed = clean(a, lines)
    a = stretch(a)
    if a.shape == (SIDE, SIDE) and (not center or _is_centred(a)):
        return a, dark_ink, removed  # already as wanted: not resampled again
    if center:
        a = a[_box(a, 64)]  # a quarter of full ink: noise on the paper is no ink
        scale, side = 20 / max(a.shape), SIDE
        a = _resize(a, max(1, round(a.shape[0] * scale)), max(1, round(a.shape[1] * scale)))
        y, x = (min(max(round(SIDE / 2 - c), 0), SIDE - size) for c, size in zip(_center_of_mass(a), a.shape))
    else:
        side = max(a.shape)
        y, x = ((side - size) // 2 for size in a.shape)
    square = np.pad(a, [(start, side - size - start) for start, size in zip((y, x), a.shape)])
    return square if center else _resize(square, SIDE, SIDE), dark_ink, removed


def _box(a, level):
    """Slices of the smallest box around the pixels above `level`."""
    rows, cols = np.flatnonzero((a > level).any(1)), np.flatnonzero((a > level).any(0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _center_of_mass(a):
    """(y, x), float."""
    weight = a.astype(np.float64)
    return [weight.sum(1 - axis) @ np.arange(a.shape[axis]) / weight.sum() for axis in (0, 1)]


def _is_centred(a):
    return 19 <= max(a[_box(a, 0)].shape) <= 20 and max(abs(c - SIDE / 2) for c in _center_of_mass(a)) <= 0.75


def _resize(a, height, width):
    """Antialiased; the strongest ink becomes 255 again, so that thin pens do not fade."""
    small = np.asarray(Image.fromarray(a).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return np.rint(small * (255 / max(float(small.max()), 1.0))).astype(np.uint8)


def usual_look(read, n):
    """Of a sample of n pictures: (are most dark ink on light? what to take for a cell line, see cleaning.clean).
    A set in which few have lines is no form: what looks like one there is a stroke."""
    borders, has_lines = [], []
    for i in range(0, n, max(1, n // 256)):
        with contextlib.suppress(ValueError):  # it is named elsewhere
            borders.append(bright_border(read(i)[1]))
    mostly_dark = bool(borders) and float(np.mean(borders)) > 0.5
    for i in range(0, n, max(1, n // 100)):
        with contextlib.suppress(ValueError):
            has_lines.append("cell lines" in _normalize(read(i)[1], mostly_dark, True, "frames")[2])
    share = np.mean(has_lines) if len(has_lines) >= 20 else 0.05
    return mostly_dark, "all" if share > 0.1 else "clear" if share > 0.02 else "none"


def normalize_pictures(n, open_one, name_of, center=True, as_is=False):
    """`n` pictures -> (uint8 [n,28,28], ok bool [n], notes). open_one(i) gives a Pillow image, name_of(i) its name.
    Broken ones stay 0 and are noted. With `as_is`, grey 28 x 28 pictures are taken as they are."""
    out, dark, removed, faults = np.zeros((n, SIDE, SIDE), np.uint8), np.zeros(n, bool), {}, {}

    one_large = threading.Lock()  # at a time, whatever the number of threads

    def read(i):
        try:
            with open_one(i) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}")
                with one_large if image.width * image.height > LARGE else contextlib.nullcontext():
                    return image.mode, grey(shrink(ImageOps.exif_transpose(image)))
        except UnidentifiedImageError as e:
            raise ValueError("no picture in a known format") from e
        except Exception as e:  # Pillow's plugins raise almost anything on a broken file
            raise ValueError(str(e).replace("\n", " ") or type(e).__name__) from e

    def fill(block):
        for i in block:
            try:
                mode, a = read(i)
                if as_is and mode == "L" and a.shape == (SIDE, SIDE):
                    out[i] = a
                else:
                    out[i], dark[i], removed[i] = _normalize(a, mostly_dark, center, lines)
            except ValueError as e:
                faults[i] = str(e)
        return block.stop

    with warnings.catch_warnings(action="ignore"):  # Pillow's remarks on odd files; what matters is in the notes
        mostly_dark, lines = usual_look(read, n)
        progress = Progress(sys.stderr, delay=1)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for done in pool.map(fill, [range(i, min(i + 256, n)) for i in range(0, n, 256)]):
                progress("reading images", done, n)
    ok, notes = ~np.isin(np.arange(n), list(faults)), []
    if dark.any():
        notes.append(f"polarity: {dark.sum():,} images are dark ink on light and were inverted")
        if ok.sum() > dark.sum():
            notes[0] += f", {ok.sum() - dark.sum():,} are light ink on dark"
    for what in ("cell lines", "specks", "uneven light"):
        if count := sum(what in found for found in removed.values()):
            notes.append(f"{what} removed from {count:,} images")
    notes += left_out("broken images left out", [f"{name_of(i)} ({faults[i]})" for i in sorted(faults)])
    return out, ok, notes


def normalize_images(a, what, center=True, as_is=False):
    """An array of images, any common shape and range -> (uint8 [N,28,28], ok bool [N], notes).

    [N,28,28] (or [N,784], [N,28,28,1], [N,1,28,28]) is taken as it is, but for its polarity (one for the whole array;
    not even that with `as_is`); other sizes, and colours last, go through `normalize_image`. `what` names the array.
    """
    if a.ndim == 4 and 1 in (a.shape[1], a.shape[3]):
        a = a[:, 0] if a.shape[1] == 1 else a[..., 0]
    if a.ndim == 2 and a.shape[1] == SIDE * SIDE:
        a = a.reshape(-1, SIDE, SIDE)
    is_image = a.ndim == 3 or (a.ndim == 4 and a.shape[3] in (3, 4))
    if not is_image or a.dtype.kind not in "buif" or 0 in a.shape:
        raise UserError(f"{what}: {a.dtype} of shape {list(a.shape)} is no array of images; expected uint8 [N,28,28]")
    if len(a) > MAX_IMAGES:
        raise UserError(f"{what}: {len(a):,} images are more than the limit of {MAX_IMAGES:,}; take a part of it")
    a = _to_bytes(a, what)
    if a.shape[1:] != (SIDE, SIDE):
        return normalize_pictures(len(a), lambda i: Image.fromarray(a[i]), lambda i: f"{what} [{i}]", center)
    notes = []
    border = np.concatenate([a[:, 0], a[:, -1], a[:, 1:-1, 0], a[:, 1:-1, -1]], axis=1)
    if not as_is and np.median(border.mean(1)) > 127:
        notes.append(f"polarity: {what} is dark ink on light and was inverted")
        a = 255 - a
    return np.ascontiguousarray(a), np.ones(len(a), bool), notes


def _to_bytes(a, what):
    """Numbers of a common image range -> uint8, piece by piece, which bounds the memory."""
    low, high = float(a.min()), float(a.max())
    ranges = [(lo, hi) for lo, hi in ((0, 1), (-1, 1), (0, 255), (0, 65535)) if lo <= low and high <= hi]
    if not ranges:
        raise UserError(f"{what}: values from {low:g} to {high:g}; expected 0..255 (or 0..1, -1..1, 0..65535)")
    lowest, highest = ranges[0]
    if a.dtype == np.uint8 and highest == 255:
        return a
    scale, pieces = 255 / (highest - lowest), np.array_split(a, 1 + len(a) // 4096)
    return np.concatenate([np.rint((piece.astype(np.float32) - lowest) * scale).astype(np.uint8) for piece in pieces])


def left_out(what, names):
    """[a note with a count and the first names], as "7 stray files: a, b, c, d, e, ..."; without names []."""
    return [f"{len(names):,} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"] if names else []
