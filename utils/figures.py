"""Pictures of glyphs with Pillow and numpy alone: sample sheets, training GIFs, tables of images, saliency overlays.

    sheet(images, labels, classes, thickness)          one column per class, thin above thick
    sheet(images, labels, classes, t, layout="dial")   one row per class, thickness from 0 to 1
    gif(frames, path, labels, classes)                 the same noise, drawn again and again during training
    grid(rows, row_labels, column_labels)              a table of pictures
    overlay(image, map)                                a saliency map over its glyph
    save(picture, "results/samples.png")

Every function returns a PIL image, a function of its arguments alone (and, for letters that Pillow's own font lacks, of
the fonts of the machine). Glyphs are dark on white, each pixel an exact square; text is never below 12 px.
Curves, bars and heat maps are in charts.py.
"""
import functools
import math
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.files import UserError, atomic

SMALL, TEXT, TITLE = 13, 15, 19  # font sizes in pixels
INK, GREY, RULE, WHITE = (30, 30, 30), (100, 100, 100), (205, 205, 205), (255, 255, 255)
MARGIN, MAX_WIDTH, MAX_NAME = 20, 1200, 240  # pixels: a sheet wraps its classes, a long name is cut
ACCENT = (0, 114, 178)
MAPS = {"sequential": [(255, 255, 255), (205, 224, 241), (118, 173, 214), (37, 110, 175), (8, 44, 92)],
        "heat": [(255, 255, 255), (255, 222, 150), (250, 150, 60), (205, 50, 30), (110, 0, 25)],
        "diverging": [(0, 70, 150), (120, 175, 220), (255, 255, 255), (245, 155, 110), (165, 30, 20)]}
# asked in this order for letters that Pillow's font lacks (é, Greek, Arabic, Japanese): Linux, macOS, Windows
FONTS = ["NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "NotoSansJP-Regular.otf", "DejaVuSans.ttf",
         "NotoSansArabic-Regular.ttf", "NotoNaskhArabic-Regular.ttf", "ipaexg.ttf", "ipag.ttf", "VL-Gothic-Regular.ttf",
         "TakaoGothic.ttf", "DroidSansFallbackFull.ttf", "Arial Unicode.ttf", "Hiragino Sans GB.ttc",
         "ヒラギノ角ゴシック W3.ttc", "arial.ttf", "YuGothR.ttc", "YuGothM.ttc", "meiryo.ttc", "msgothic.ttc"]
PLAIN = str.maketrans(dict(zip("–—−×’", "---x'")) | {"→": "->", "≤": "<=", "≥": ">="})


# ---- text: Pillow's own font first, then the machine's, never a box -------------------------------------------------

@functools.lru_cache(None)
def evenly_spaced(n, most):
    """At most `most` of the numbers 0 .. n - 1, evenly spaced, first and last among them: int64."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _font(name, size):
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@functools.lru_cache(None)
def _has(name, char):
    """Whether a font draws `char` with a glyph of its own (a missing one is drawn like U+FFFF)."""
    font = _font(name, 20)
    if font is None or not char.isprintable():
        return False
    (mask, _), (missing, _) = font.getmask2(char), font.getmask2("\uffff")
    return char == " " or mask.size != missing.size or bytes(mask) != bytes(missing)


def _fonts(text):
    """The fonts that draw every character of the text, best first."""
    return [name for name in [None, *FONTS] if all(_has(name, c) for c in text)]


def _clean(text):
    """One line, composed letters, and plain signs for those that Pillow's font lacks."""
    return unicodedata.normalize("NFC", " ".join(str(text).translate(PLAIN).split()))


@functools.lru_cache(4096)
def _runs(text):
    """[(font name, part of the text)]: one font for the whole text if there is one, else by character, else "?"."""
    text = _clean(text)
    if _fonts(text):
        return [(_fonts(text)[0], text)]
    runs = []
    for c in text:
        name, c = (_fonts(c)[0], c) if _fonts(c) else (None, "?")
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + c)
        else:
            runs.append((name, c))
    return runs


def class_name(classes, k):
    """Class k as text: its own name where the fonts here can draw all of it, else its index."""
    name = _clean(classes[k])
    return name if name and all(_fonts(c) for c in name) else str(k)


def text_width(text, size):
    return math.ceil(sum(_font(name, size).getlength(part) for name, part in _runs(text)))


def fit(text, size, width):
    """The text, cut with an ellipsis so that it is at most `width` pixels wide."""
    text = str(text)[:max(1, int(width))]  # no letter is narrower than a pixel
    while text_width(text, size) > width and len(text) > 1:
        text = text.rstrip("…")[:-1] + "…"
    return text


def wrap(text, size, width):
    lines = []
    for word in str(text).split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fit(word, size, width))
    return lines


def write(image, x, y, text, size=TEXT, colour=INK, align="l", turned=False):
    """Write one line: x its left, middle or right (align l, m, r), y at mid-height of its capitals."""
    width = text_width(text, size)
    if turned:
        strip = Image.new("L", (width + 4, 2 * size), 0)
        write(strip, 2, size, text, size, 255)
        strip = strip.transpose(Image.Transpose.ROTATE_90)
        start = {"l": 0, "m": strip.height // 2, "r": strip.height}[align]
        return image.paste(colour, (round(x) - size, round(y) - strip.height + start), strip)
    x = round(x - {"l": 0, "m": width / 2, "r": width}[align])
    for name, part in _runs(text):
        font = _font(name, size)
        ImageDraw.Draw(image).text((x, round(y + 0.36 * size)), part, fill=colour, font=font, anchor="ls")
        x += font.getlength(part)


def page(parts, title="", footer="", across=False, gap=18):
    """Pictures below (or beside) each other on one white page with a title and a footer."""
    starts = np.cumsum([0] + [(p.width if across else p.height) + gap for p in parts])
    width = starts[-1] - gap if across else max(p.width for p in parts)
    height = max(p.height for p in parts) if across else starts[-1] - gap
    width = max(width, 320 if title or footer else 0)
    head, foot = wrap(title, TITLE, width), wrap(footer, SMALL, width)
    top = MARGIN + 26 * len(head) + 8 * bool(head)
    bottom = top + height + 18 * len(foot) + 10 * bool(foot) + MARGIN
    paper = Image.new("RGB", (int(width) + 2 * MARGIN, int(bottom)), WHITE)
    for i, line in enumerate(head):
        write(paper, MARGIN, MARGIN + 9 + 26 * i, line, TITLE)
    for part, start in zip(parts, starts):
        paper.paste(part, (MARGIN + int(start), top) if across else (MARGIN, top + int(start)))
    for i, line in enumerate(foot):
        write(paper, MARGIN, top + height + 18 + 18 * i, line, SMALL, GREY)
    return paper


def save(image, path):
    """Write a picture as PNG, atomically. Raises UserError where the folder cannot be written."""
    with atomic(path) as tmp:
        image.save(tmp, format="PNG", optimize=True)


# ---- glyphs --------------------------------------------------------------------------------------------------------

def _tile(image, scale):
    """uint8 [h, w] (ink 255) or RGB [h, w, 3] or a PIL image -> RGB uint8, each pixel a square of scale x scale."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise UserError(f"a picture must be uint8 [h, w] or [h, w, 3], not {image.dtype} {list(image.shape)}")
    rgb = np.repeat(255 - image[..., None], 3, 2) if image.ndim == 2 else image[..., :3]
    return rgb.repeat(scale, 0).repeat(scale, 1)


def _table(cells, top, left, scale, top_breaks=(), left_breaks=(), axis=""):
    """Rows of tiles (or None), labels (first, last, text) above columns and beside rows, rules before the breaks."""
    tiles = [[None if c is None else _tile(c, scale) for c in row] for row in cells]
    th, tw = np.max([t.shape[:2] for row in tiles for t in row if t is not None] or [(28 * scale,) * 2], axis=0)
    top, left = ([(a, b, fit(text, TEXT, MAX_NAME)) for a, b, text in labels] for labels in (top, left))
    cw, gap = max([tw, *(text_width(text, TEXT) + 6 for a, b, text in top if a == b)]), 4
    edge = max([0, *(text_width(text, TEXT) + 12 for _, _, text in left)])
    head = (24 if top else 4) + (20 if axis else 0)
    xs = [edge + c * (cw + gap) + 14 * sum(b <= c for b in top_breaks) for c in range(len(cells[0]))]
    ys = [head + r * (th + gap) + 14 * sum(b <= r for b in left_breaks) for r in range(len(cells))]
    image = Image.new("RGB", (int(xs[-1] + cw), int(ys[-1] + th)), WHITE)
    draw = ImageDraw.Draw(image)
    for x in (xs[b] - 9 for b in top_breaks):
        draw.line([(x, head), (x, image.height)], fill=RULE)
    for y in (ys[b] - 9 for b in left_breaks):
        draw.line([(edge, y), (image.width, y)], fill=RULE)
    for r, row in enumerate(tiles):
        for c, tile in enumerate(row):
            if tile is not None:
                image.paste(Image.fromarray(tile), (int(xs[c] + (cw - tw) // 2), int(ys[r])))
    for a, b, text in top:
        write(image, (xs[a] + xs[b] + cw) / 2, head - 13, text, align="m")
    for a, b, text in left:
        write(image, edge - 10, (ys[a] + ys[b] + th) / 2, text, align="r")
    if axis:
        write(image, (xs[0] + xs[-1] + cw) / 2, 9, axis, SMALL, GREY, "m")
    return image


def grid(rows, row_labels=(), column_labels=(), title="", footer="", scale=2):
    """A table of pictures. rows: list of lists of uint8 [h, w] (ink 255), RGB uint8 [h, w, 3], PIL images, or None."""
    if not len(rows) or not len(rows[0]):
        raise UserError("a grid needs at least one picture")
    width = max(len(row) for row in rows)
    top, left = ([(i, i, str(t)) for i, t in enumerate(labels)] for labels in (column_labels, row_labels))
    cells = [list(row) + [None] * (width - len(row)) for row in rows]
    return page([_table(cells, top, left, scale)], title, footer)


def _choose(own, t, group, slots):
    """Indices of one class for `slots` places: in order; a thin, then a thick half; or nearest to 0 ... 1 on a ramp."""
    if group is None:
        return list(own[:slots])
    if group == "style":
        half = [list(own[(t[own] >= 0.5) == thick][:slots // 2]) for thick in (False, True)]
        return [i for h in half for i in h + [None] * (slots // 2 - len(h))]
    own, places, out = list(own[np.argsort(t[own], kind="stable")]), list(range(slots)), [None] * slots
    while own and places:  # enough images: each place takes its nearest; too few: each image its nearest place
        goal = places[0] / max(1, slots - 1)
        if len(own) >= len(places):
            out[places.pop(0)] = own.pop(int(np.argmin(np.abs(t[own] - goal))))
        else:
            i = own.pop(0)
            out[places.pop(int(np.argmin(np.abs(np.array(places) / max(1, slots - 1) - t[i]))))] = i
    return out


def sheet(images, labels, classes, thickness=None, title="", footer="", layout=None, group=None, per_class=None,
          scale=2, max_classes=64):
    """A sheet of samples by class.

    images uint8 [N, h, w] (ink 255), labels int [N], classes list[str], thickness float [N] in [0, 1] or None.
    layout: "columns" (one per class, wrapped), "rows", or "dial" (a row per class, thickness 0 to 1 from left to
        right); by default columns, and rows for fewer than five classes.
    group: "style" (a thin and a thick block), "ramp" (thickness 0 to 1) or "none"; style by default if there is
        thickness.
    per_class: samples of each class (8; 11 on a ramp). Of more than `max_classes` classes an even sample is shown,
        and the footer says so.
    Raises UserError where arrays do not fit together.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    t = None if thickness is None else np.asarray(thickness)
    group = "ramp" if layout == "dial" else group or ("none" if t is None else "style")
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"a sheet needs uint8 images [N, h, w] and N labels, not {images.dtype} {list(images.shape)} "
                        f"and {list(labels.shape)}")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"labels run from {labels.min()} to {labels.max()}, but there are {len(classes)} classes")
    if group != "none" and (t is None or t.shape != labels.shape):
        raise UserError(f"a sheet grouped by {group} needs the thickness of each of the {len(labels)} images")
    shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), max_classes)).round().astype(int))
    if len(shown) < len(classes):
        footer = f"{footer} {len(shown)} of {len(classes):,} classes shown.".strip()
    slots = per_class or (11 if group == "ramp" else 8)
    slots += slots % 2 if group == "style" else 0
    by_class = [_choose(np.flatnonzero(labels == k), t, None if group == "none" else group, slots) for k in shown]
    if group == "none":
        slots = max(len(c) for c in by_class) or 1
    cells = [[None if i is None else images[i] for i in c] + [None] * (slots - len(c)) for c in by_class]
    names = [class_name(classes, k) for k in shown]
    if any(name != _clean(classes[k]) for name, k in zip(names, shown)):
        footer = f"{footer} Numbers stand for class names that no font here can draw.".strip()
    rows = layout in ("rows", "dial") or (layout is None and len(shown) < 5)
    blocks = 2 if group == "style" else 1
    long = slots // blocks  # samples of a block
    if rows and group != "ramp":  # a long row goes on in the next line, each block in its own columns
        long = min(long, max(1, MAX_WIDTH // (images.shape[2] * scale + 4) // blocks))
    lines = math.ceil(slots // blocks / long)
    cells = [[sum((c[b:b + slots // blocks][i * long:(i + 1) * long] + [None] * max(0, (i + 1) * long - slots // blocks)
                   for b in range(0, slots, slots // blocks)), []) for i in range(lines)] for c in cells]
    marks, breaks, axis = [], (), ""
    if group == "style":
        marks, breaks = [(0, long - 1, "thin"), (long, 2 * long - 1, "thick")], (long,)
    elif group == "ramp":
        marks = [(i, i, f"{v:.2g}") for i, v in enumerate(np.linspace(0, 1, slots))]
        axis = "thickness: 0 thin, 1 thick"
    if rows:
        bands = math.ceil(len(shown) / 25)
    else:
        wide = max(images.shape[2] * scale, *(min(text_width(n, TEXT), MAX_NAME) + 6 for n in names)) + 4
        bands = math.ceil(len(shown) * wide / MAX_WIDTH)
        if group == "ramp":
            marks[0], marks[-1] = (0, 0, "thin 0"), (slots - 1, slots - 1, "thick 1")
    parts = []
    for band in np.array_split(np.arange(len(shown)), min(bands, len(shown))):
        part = [line for k in band for line in cells[k]]
        heads = [(i * lines, (i + 1) * lines - 1, names[k]) for i, k in enumerate(band)]
        rules = range(lines, len(part), lines) if lines > 1 else ()
        parts.append(_table(part, marks, heads, scale, breaks, rules, axis) if rows else
                     _table(list(zip(*part)), heads, marks, scale, left_breaks=breaks))
    return page(parts, title, footer, across=rows, gap=36 if rows else 18)


def gif(frames, path, labels, classes, thickness=None, title="", progress=None, ms=150, hold_ms=3000, max_frames=60,
        **options):
    """Write a looping training GIF, atomically.

    frames: list of (images uint8 [N, 28, 28], caption), all from the same noise and labels; progress: their places in
    [0, 1] on the bar (evenly spaced by default). Frames last `ms`, the last one `hold_ms`; of more than `max_frames`,
    evenly spaced ones are kept. Other options go to `sheet`. Raises UserError for no frames.
    """
    frames = list(frames)
    if not frames:
        raise UserError(f"no frames for {path}: draw at least one")
    progress = np.linspace(0, 1, len(frames) + 1)[1:] if progress is None else np.clip(progress, 0, 1)
    keep = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), max_frames)).round().astype(int))
    levels = 16  # greys; the two colours of the bar follow
    palette = np.repeat(np.linspace(0, 255, levels).round().astype(np.uint8), 3).tolist() + [*ACCENT, *RULE]
    pictures = []
    for i in keep:
        images, caption = frames[i]
        picture = sheet(images, labels, classes, thickness, title, **options).convert("L")
        width, height = picture.size
        picture = picture.crop((0, 0, width, height + 44))  # black below, painted white
        picture.paste(255, (0, height, width, height + 44))
        write(picture, MARGIN, height - 2, fit(caption, TEXT, width - 2 * MARGIN), colour=INK[0])
        grey = ((np.asarray(picture, dtype=np.uint16) * (levels - 1) + 127) // 255).astype(np.uint8)
        grey[height + 18:height + 24, MARGIN:width - MARGIN] = levels + 1
        grey[height + 18:height + 24, MARGIN:MARGIN + round((width - 2 * MARGIN) * progress[i])] = levels
        pictures.append(Image.fromarray(grey))
        pictures[-1].putpalette(palette)
    if len({p.size for p in pictures}) > 1:
        raise UserError(f"the frames of {path} differ in size")
    with atomic(path) as tmp:
        pictures[0].save(tmp, format="GIF", save_all=True, append_images=pictures[1:], loop=0, optimize=False,
                         duration=[ms] * (len(pictures) - 1) + [hold_ms])


# ---- colours -------------------------------------------------------------------------------------------------------

def colours(values, low=0.0, high=1.0, name="sequential"):
    """Values [...] -> uint8 [..., 3] by a map of MAPS, low to high, clipped; not-a-number becomes light grey."""
    values = np.asarray(values, dtype=np.float64)
    table = np.array(MAPS[name], dtype=np.float64)
    place = np.clip((values - low) / ((high - low) or 1), 0, 1) * (len(table) - 1)
    rgb = np.stack([np.interp(place, np.arange(len(table)), table[:, c]) for c in range(3)], -1)
    return np.where(np.isfinite(values)[..., None], rgb, 225).round().astype(np.uint8)


def overlay(image, saliency, limit=None, scale=4):
    """A saliency map [h, w] over its glyph, uint8 [h, w], whose strokes show grey: red for, blue against.

    A map without negative values runs from white to dark red. `limit` is the value of the full colour, by default the
    largest magnitude of this map; give one to compare maps.
    """
    image, saliency = np.asarray(image), np.nan_to_num(np.asarray(saliency, dtype=np.float64))
    if image.dtype != np.uint8 or image.ndim != 2 or saliency.shape != image.shape:
        raise UserError(f"an overlay needs a uint8 image and a map of its shape, not {image.dtype} "
                        f"{list(image.shape)} and {list(saliency.shape)}")
    limit = limit or np.abs(saliency).max() or 1.0
    rgb = colours(saliency, -limit, limit, "diverging") if saliency.min() < 0 else colours(saliency, 0, limit, "heat")
    rgb = (rgb * (1 - 0.4 * image[..., None] / 255)).round().astype(np.uint8)
    return Image.fromarray(_tile(rgb, scale))
