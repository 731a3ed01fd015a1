"""Pictures of glyphs with Pillow and numpy alone: sheets of samples, training GIFs, grids, saliency overlays.

Each draws from its arguments alone (and from the machine's fonts, for letters that Pillow's own lacks): dark on white,
each pixel a square. Curves, bars and heat maps are in charts.py.
"""
import functools
import math
import os
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.files import UserError, atomic

SMALL, TEXT, TITLE = 13, 15, 19  # font sizes in pixels
INK, GREY, RULE, WHITE = (30, 30, 30), (100, 100, 100), (205, 205, 205), (255, 255, 255)
ACCENT = (0, 114, 178)
MAPS = {"sequential": [(255, 255, 255), (205, 224, 241), (118, 173, 214), (37, 110, 175), (8, 44, 92)],
        "heat": [(255, 255, 255), (255, 222, 150), (250, 150, 60), (205, 50, 30), (110, 0, 25)],
        "diverging": [(0, 70, 150), (120, 175, 220), (255, 255, 255), (245, 155, 110), (165, 30, 20)]}
MARGIN, MAX_WIDTH = 20, 1200           # pixels: around a page; of a sheet, which then wraps its classes
LABEL_WIDTH, SHEET_CLASSES = 240, 64        # pixels of a label, which is then cut; on a sheet
SCALE = 2                              # side of a glyph's pixel on a sheet
GIF_FRAMES, GIF_GREYS = 12, 8          # ten classes then take about 250 kB
# Pillow's own font, then those of Linux, macOS and Windows that have Greek, Arabic, Japanese, ... letters ...
FONTS = ["", "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "DroidSansFallbackFull.ttf",
         "ipaexg.ttf", "ipag.ttf", "Arial Unicode.ttf", "Hiragino Sans GB.ttc", "arial.ttf", "msgothic.ttc",
         "NotoSansCJKjp-Regular.otf", "NotoSansJP-Regular.otf", "NotoSansJP-Regular.ttf", "NotoSerifCJK-Regular.ttc",
         "wqy-microhei.ttc", "wqy-zenhei.ttc", "TakaoGothic.ttf", "VL-Gothic-Regular.ttf", "YuGothR.ttc", "msyh.ttc",
         "malgun.ttf", "NotoSansDevanagari-Regular.ttf", "Nirmala.ttf", "FreeSans.ttf", "unifont.ttf", "unifont.otf"]
FONT_FOLDERS = ["~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts",         # ... then any
                "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts"]
MAX_FONTS = 1000                       # files that are looked into


def evenly_spaced(n, most):
    """At most `most` of the numbers 0 .. n - 1, evenly spaced, first and last among them: int64."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


@functools.lru_cache(None)
def _open_font(name, size):
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@functools.cache
def _installed_fonts():
    """Font files in FONT_FOLDERS: those that are called Regular first, then by name."""
    files = (path for folder in FONT_FOLDERS for path in Path(os.path.expanduser(folder)).rglob("*.[ot]t[fc]"))
    return [str(p) for p in sorted(files, key=lambda p: ("Regular" not in p.name, p.name))[:MAX_FONTS]]


def _all_fonts():
    yield from FONTS
    yield from _installed_fonts()                      # looked for only where it comes to that


@functools.lru_cache(None)
def _box(name):
    """What the font draws for a character that it lacks, as for U+FFFF: bytes. None where it is damaged or no font."""
    try:
        return bytes(_open_font(name, TITLE).getmask("\uffff"))
    except (OSError, AttributeError):
        return None


def _has(name, text):
    """Can the font draw every character of the text? A damaged one may fail at any of them."""
    font, box = _open_font(name, TITLE), _box(name)
    try:
        return box is not None and all(c == " " or bytes(font.getmask(c)) != box for c in set(text))
    except OSError:
        return False


def use_font(path):
    """Write what Pillow's own font lacks with this font file, where it can. Raises UserError where it is none."""
    if not Path(path).is_file() or _box(str(path)) is None:
        raise UserError(f"--font {path}: no font; name a .ttf, .otf or .ttc file")
    FONTS.insert(1, str(path))
    for found in (_find_font, _typeset):
        found.cache_clear()


@functools.lru_cache(4096)
def _find_font(text):
    """The first font, of FONTS, then of those installed, that has every character of the text, or None."""
    return next((name for name in _all_fonts() if _has(name, text)), None) if text.isprintable() else None


def _one_line(text):
    """The text with single spaces and composed letters."""
    return " ".join(unicodedata.normalize("NFC", str(text)).split())


@functools.lru_cache(4096)
def _typeset(text):
    """(font name, the text as one line): "?" stands for what Pillow's font lacks where no font has the whole text."""
    text = _one_line(text)
    name = _find_font(text)
    if name is None:
        return "", "".join(c if _find_font(c) == "" else "?" for c in text)
    return name, text


def class_name(classes, k):
    """Class k as text: its own name where a font here has all of it, else its index."""
    name = _one_line(classes[k])
    return name if name and _find_font(name) is not None else str(k)


def text_width(text, size):
    """Pixels."""
    name, text = _typeset(text)
    return math.ceil(_open_font(name, size).getlength(text))


def fit(text, size, width):
    """The text, cut with an ellipsis so that it is at most `width` pixels wide."""
    text = str(text)[:max(1, int(width))]  # no letter is narrower than a pixel
    while text_width(text, size) > width and len(text) > 1:
        text = text.rstrip("…")[:-1] + "…"
    return text


def wrap(text, size, width):
    """The text as lines of at most `width` pixels."""
    lines = []
    for word in str(text).split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fit(word, size, width))
    return lines


def write(image, x, y, text, size=TEXT, colour=INK, align="l", turned=False):
    """Write one line: x its left, middle or right (align l, m, r), y at mid-height of its capitals; or upwards."""
    width = text_width(text, size)
    if turned:
        strip = Image.new("L", (width + 4, 2 * size), 0)
        write(strip, 2, size, text, size, 255)
        strip = strip.transpose(Image.Transpose.ROTATE_90)
        start = {"l": 0, "m": strip.height // 2, "r": strip.height}[align]
        image.paste(colour, (round(x) - size, round(y) - strip.height + start), strip)
    else:
        name, text = _typeset(text)
        x = round(x - {"l": 0, "m": width / 2, "r": width}[align])
        ImageDraw.Draw(image).text((x, round(y + 0.36 * size)), text, colour, _open_font(name, size), anchor="ls")


def page(parts, title="", footer="", across=False, gap=18):
    """Pictures below (or beside) each other on one white page with a title and a footer."""
    starts = np.cumsum([0] + [(p.width if across else p.height) + gap for p in parts]).tolist()
    width = starts[-1] - gap if across else max(p.width for p in parts)
    height = max(p.height for p in parts) if across else starts[-1] - gap
    width = max(width, 320 if title or footer else 0)
    head, foot = wrap(title, TITLE, width), wrap(footer, SMALL, width)
    top = MARGIN + (26 * len(head) + 8 if head else 0)
    bottom = top + height + (18 * len(foot) + 10 if foot else 0)
    paper = Image.new("RGB", (width + 2 * MARGIN, bottom + MARGIN), WHITE)
    for i, line in enumerate(head):
        write(paper, MARGIN, MARGIN + 9 + 26 * i, line, TITLE)
    for part, start in zip(parts, starts):
        paper.paste(part, (MARGIN + start, top) if across else (MARGIN, top + start))
    for i, line in enumerate(foot):
        write(paper, MARGIN, top + height + 18 + 18 * i, line, SMALL, GREY)
    return paper


def save(image, path):
    """Write a picture as PNG, atomically. Raises UserError where the folder cannot be written."""
    with atomic(path) as tmp:
        image.save(tmp, format="PNG", optimize=True)


def _tile(image, scale):
    """uint8 [h, w] (ink 255) or RGB [h, w, 3] or a PIL image -> RGB uint8, each pixel a square of scale x scale."""
    image = np.asarray(image)
    rgb = np.repeat(255 - image[..., None], 3, 2) if image.ndim == 2 else image[..., :3]
    return rgb.repeat(scale, 0).repeat(scale, 1)


def _table(rows, row_labels, column_labels, scale, gap_x=4, gap_y=4):
    """Rows of pictures (see grid), top left in cells of one size, labels above the columns and left of the rows."""
    tiles = [[None if cell is None else _tile(cell, scale) for cell in row] for row in rows]
    shapes = [tile.shape[:2] for row in tiles for tile in row if tile is not None]
    if not shapes:
        raise UserError("a grid needs at least one picture")
    height, width = np.max(shapes, axis=0).tolist()
    heads, sides = ([fit(name, TEXT, LABEL_WIDTH) for name in labels] for labels in (column_labels, row_labels))
    cell = max([width, *(text_width(name, TEXT) + 6 for name in heads)])
    left = max([0, *(text_width(name, TEXT) + 12 for name in sides)])
    top = 24 if heads else 4
    xs = [left + i * (cell + gap_x) for i in range(max(map(len, rows)))]
    ys = [top + i * (height + gap_y) for i in range(len(rows))]
    image = Image.new("RGB", (xs[-1] + cell, ys[-1] + height), WHITE)
    for y, row in zip(ys, tiles):
        for x, tile in zip(xs, row):
            if tile is not None:
                image.paste(Image.fromarray(tile), (x + (cell - width) // 2, y))
    for x, name in zip(xs, heads):
        write(image, x + cell / 2, top - 13, name, align="m")
    for y, name in zip(ys, sides):
        write(image, left - 10, y + height / 2, name, align="r")
    return image


def grid(rows, row_labels=(), column_labels=(), title="", footer="", scale=2):
    """A table of pictures. rows: lists of uint8 [h, w] (ink 255), RGB uint8 [h, w, 3], PIL images, or None."""
    return page([_table(rows, row_labels, column_labels, scale)], title, footer)


def _mosaic(images, columns):
    """uint8 [n, h, w] -> one picture of them, `columns` side by side and two pixels apart; None for n = 0."""
    n, h, w = images.shape
    cells = np.zeros((math.ceil(n / columns) * columns, h + 2, w + 2), np.uint8)
    cells[:n, :h, :w] = images
    rows = cells.reshape(-1, columns, h + 2, w + 2).swapaxes(1, 2).reshape(-1, columns * (w + 2))
    return rows[:-2, :-2] if n else None


def sheet(images, labels, classes, thickness=None, title="", footer=""):
    """A sheet of samples: a column per class, several samples wide where there are many; thin above thick.
    images uint8 [N, h, w] (ink 255), labels int [N], classes list[str], thickness float [N] in [0, 1] or None
    (one block). Of more than SHEET_CLASSES classes evenly spaced ones are shown; the footer says how many."""
    images, labels = np.asarray(images), np.asarray(labels)
    present = np.unique(labels)
    shown = present[evenly_spaced(len(present), SHEET_CLASSES)]
    names = [class_name(classes, k) for k in shown]
    if len(shown) < len(classes):
        footer += f" {len(shown)} of {len(classes):,} classes shown."
    if any(name != _one_line(classes[k]) for name, k in zip(names, shown)):
        footer += " Numbers stand for class names that no font here can draw."
    blocks = {"": np.full(len(labels), True)}
    if thickness is not None:
        thick = np.asarray(thickness) >= 0.5
        blocks = {name: half for name, half in {"thin": ~thick, "thick": thick}.items() if half.any()}
    tile = images.shape[2] * SCALE + 4
    wide = round(math.sqrt(len(labels) / len(present) / len(shown)))         # then the sheet is about a square
    wide = max(1, min(wide, MAX_WIDTH // (tile * len(shown))))
    column = max(wide * tile, *(min(text_width(name, TEXT), LABEL_WIDTH) + 10 for name in names))
    bands = min(len(shown), math.ceil(len(shown) * column / MAX_WIDTH))
    parts = []
    for band in np.array_split(np.arange(len(shown)), bands):
        rows = [[_mosaic(images[half & (labels == shown[i])], wide) for i in band] for half in blocks.values()]
        parts.append(_table(rows, list(blocks), [names[i] for i in band], SCALE, 4 if wide == 1 else 14, 18))
    return page(parts, title, footer.strip())


def gif(frames, path, labels, classes, thickness=None, title=""):
    """Write a looping GIF of a training, atomically: GIF_FRAMES sheets at most, in few greys, over a bar of progress.
    frames: list of (images uint8 [N, 28, 28], caption), all from the same noise, labels and thickness. Raises
    UserError for no frames."""
    if not frames:
        raise UserError(f"no frames for {path}: draw at least one")
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.linspace(0, 255, GIF_GREYS).astype(np.uint8).repeat(3).tolist() + list(ACCENT))
    pictures = []
    for i in evenly_spaced(len(frames), GIF_FRAMES).tolist():
        images, caption = frames[i]
        picture = sheet(images, labels, classes, thickness, title, caption)
        width, height = picture.size
        for colour, part in ((RULE, 1), (ACCENT, (i + 1) / len(frames))):
            picture.paste(colour, (MARGIN, height - 12, MARGIN + round(part * (width - 2 * MARGIN)), height - 6))
        pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    with atomic(path) as tmp:
        pictures[0].save(tmp, format="GIF", save_all=True, append_images=pictures[1:], loop=0, optimize=False,
                         duration=[400] * (len(pictures) - 1) + [3000])


def colours(values, low=0.0, high=1.0, name="sequential"):
    """Values [...] -> uint8 [..., 3] by a map of MAPS, low to high, clipped; not-a-number becomes light grey."""
    values = np.asarray(values, dtype=np.float64)
    table = np.array(MAPS[name], dtype=np.float64)
    position = np.clip((values - low) / ((high - low) or 1), 0, 1) * (len(table) - 1)
    rgb = np.stack([np.interp(position, np.arange(len(table)), channel) for channel in table.T], -1)
    return np.where(np.isfinite(values)[..., None], rgb, 225).round().astype(np.uint8)


def overlay(image, saliency, limit=None, scale=4):
    """A saliency map [h, w] over its glyph, uint8 [h, w], whose strokes show grey: red for, blue against.
    A map without negative values runs from white to dark red. `limit` is the value of the full colour, by
    default the largest magnitude of this map; give one to compare maps."""
    image, saliency = np.asarray(image), np.nan_to_num(np.asarray(saliency, dtype=np.float64))
    limit = limit or np.abs(saliency).max() or 1.0
    low, name = (-limit, "diverging") if saliency.min() < 0 else (0, "heat")
    rgb = colours(saliency, low, limit, name)
    rgb = (rgb * (1 - 0.4 * image[..., None] / 255)).round().astype(np.uint8)
    return Image.fromarray(_tile(rgb, scale))
