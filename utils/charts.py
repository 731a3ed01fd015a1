"""Plots with Pillow and numpy alone: curves, bars with error bars, heat maps.

    curves({"CGAN": (x, y), "CVAE": (x, y, low, high)}, x_title="epoch", y_title="FID")
    curves({"discriminator": (steps, losses)}, smooth=50, log_y=True)
    bars({"10 per class": {"real": (0.81, 0.79, 0.83), "real + CGAN": (0.84, 0.83, 0.85)}}, y_title="accuracy")
    heatmap(confusion, classes, classes, x_title="predicted", y_title="true class")

Each returns a PIL image, the same for the same arguments; `figures.save` writes it. Series differ by colour, dashes
and marker, so that they can be told apart without colour.
"""
import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from utils.figures import (
    ACCENT,
    GREY,
    INK,
    RULE,
    SMALL,
    TEXT,
    WHITE,
    class_name,
    colours,
    fit,
    page,
    text_width,
    wrap,
    write,
)
from utils.files import UserError

# Okabe & Ito's palette for colour-blind readers, its yellow (invisible on white) replaced by grey
COLOURS = [ACCENT, (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0),
           (128, 128, 128)]
DASHES = [(), (9, 4), (2, 3), (9, 3, 2, 3)]  # lengths on, off, ... in pixels
FAINT = (232, 232, 232)
SMOOTHING = 3  # shapes are drawn this much larger, then reduced


class _Canvas:
    """Shapes are drawn larger, then reduced (smooth edges); text is kept back and drawn at its final size."""

    def __init__(self, width, height):
        self.image = Image.new("RGB", (int(width) * SMOOTHING, int(height) * SMOOTHING), WHITE)
        self.later, self.texts = [], []
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def area(self, points, colour):
        """A filled polygon; a rectangle is given by two opposite corners."""
        points = [(x * SMOOTHING, y * SMOOTHING) for x, y in points]
        if len(points) == 2:
            (a, b), (c, d) = points
            points = [(a, b), (c, b), (c, d), (a, d)]
        self.draw.polygon(points, fill=colour)

    def line(self, points, colour, width=1.0, dash=()):
        """A polyline; dash holds lengths on, off, ... along it."""
        pieces = [points] if not dash else []
        if dash:
            k, left = 0, dash[0]
            piece = [points[0]]
            for (a, b), (c, d) in zip(points, points[1:]):
                length, at = math.hypot(c - a, d - b), 0.0
                while length - at > left:
                    at += left
                    piece.append((a + (c - a) * at / length, b + (d - b) * at / length))
                    pieces += [piece] if k % 2 == 0 else []
                    piece, k = [piece[-1]], k + 1
                    left = dash[k % len(dash)]
                left -= length - at
                piece.append((c, d))
            pieces += [piece] if k % 2 == 0 else []
        for piece in pieces:
            self.draw.line([(x * SMOOTHING, y * SMOOTHING) for x, y in piece], fill=colour,
                           width=round(width * SMOOTHING), joint="curve")

    def marker(self, x, y, colour, kind, r=4.0):
        """A small circle, square, triangle or diamond with a white edge."""
        for size, fill in ((r + 1.2, WHITE), (r, colour)):
            if kind % 4 == 0:
                self.draw.ellipse([(v + s * size) * SMOOTHING for s in (-1, 1) for v in (x, y)], fill=fill)
            else:
                shape = [[(-.9, -.9), (.9, -.9), (.9, .9), (-.9, .9)], [(0, -1.2), (1.1, .8), (-1.1, .8)],
                         [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]][kind % 4 - 1]
                self.area([(x + a * size, y + b * size) for a, b in shape], fill)

    def text(self, *args, **options):
        self.texts.append((args, options))

    def clip(self, before, box):
        """Take back everything drawn outside the box since the copy `before`."""
        box = [round(v * SMOOTHING) for v in box]
        inside = self.image.crop(box)
        self.image.paste(before)
        self.image.paste(inside, box[:2])

    def done(self):
        for draw, args in self.later:
            draw(*args)
        image = self.image.reduce(SMOOTHING)
        for args, options in self.texts:
            write(image, *args, **options)
        return image


def ticks(lo, hi, n=6):
    """At most n + 1 round values in [lo, hi], their step 1, 2 or 5 times a power of ten; `[lo]` for an empty range."""
    if not hi > lo:
        return [lo]
    raw = (hi - lo) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9)
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]  # + 0.0 turns -0.0 into 0.0


def _log_ticks(lo, hi):
    a, b = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
    marks = (1,) if hi > 2000 * lo else (1, 2, 5)
    found = [m * 10.0 ** e for e in range(a, b + 1, max(1, (b - a) // 8)) for m in marks]
    found = [v for v in found if lo * (1 - 1e-9) <= v <= hi * (1 + 1e-9)]
    return found if len(found) > 1 else ticks(lo, hi, 4)


def _number(v):
    """A tick as text: 0.25, 1,500, 2e7, 3e-5."""
    if v == 0 or 1e-4 <= abs(v) < 1e7:
        return f"{v:,.6f}".rstrip("0").rstrip(".")
    digits, power = f"{v:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def _alike(values):
    """A function that writes these values with the same decimals: none for whole numbers, else about three digits."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    top = np.abs(values).max(initial=0)
    power = math.floor(math.log10(top)) if top else 0
    decimals = 0 if (values == values.round()).all() else max(0, 2 - power) if power >= 0 else 1 - power
    return lambda v: f"{v:,.{decimals}f}" if math.isfinite(v) else "-"


def _axis(values, log, given, zero=False, margin=0.04):
    """Finite values -> (lo, hi, ticks, function value -> place in [0, 1]) with a little room at both ends."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    lo, hi = given or ((values.min(), values.max()) if len(values) else (1.0, 10.0) if log else (0.0, 1.0))
    if not given:
        lo, hi = (min(lo, 0.0), max(hi, 0.0)) if zero else (lo, hi)
        if hi - lo <= 1e-12 * max(abs(lo), abs(hi), 1e-300):
            lo, hi = (lo / 2, hi * 2) if log else (lo - (abs(lo) / 2 or 0.5), hi + (abs(hi) / 2 or 0.5))
        room = (math.log(hi / lo) if log else hi - lo) * margin
        if log:
            lo, hi = lo * math.exp(-room), hi * math.exp(room)
        else:
            lo, hi = (lo if lo == 0 else lo - room if lo < 0 or lo > room else 0.0), (hi + room if hi else hi)
    if not hi > lo or (log and lo <= 0):
        raise UserError(f"an axis cannot run from {lo:g} to {hi:g}" + " on a logarithmic scale" * bool(log))
    place = (lambda v: math.log(v / lo) / math.log(hi / lo)) if log else (lambda v: (v - lo) / (hi - lo))
    return lo, hi, _log_ticks(lo, hi) if log else ticks(lo, hi), place


def _frame(size, legend, y_axis, y_title, x_title, right=16, bottom=28):
    """An empty plot with a legend: canvas and box (left, top, right, bottom). legend: (name, draw(canvas, x, y))."""
    width, height = size
    _, _, y_ticks, place = y_axis
    left = max(text_width(_number(v), SMALL) for v in y_ticks) + 12 + 26 * bool(y_title)
    canvas, x, y = _Canvas(width, height), left, 10
    for name, sample in legend:
        name = fit(name, SMALL, width - left - 60)
        step = 40 + text_width(name, SMALL) + 20
        x, y = (left, y + 22) if x > left and x + step > width + 20 else (x, y)
        canvas.later.append((sample, (canvas, x, y)))
        canvas.text(x + 40, y, name, SMALL)
        x += step
    box = left, y + 20 if legend else 10, width - right, height - bottom - 24 * bool(x_title)
    for v in y_ticks:
        h = box[3] - place(v) * (box[3] - box[1])
        canvas.line([(left, h), (box[2], h)], FAINT)
        canvas.text(left - 8, h, _number(v), SMALL, GREY, "r")
    canvas.text((left + box[2]) / 2, height - 10, fit(x_title, SMALL, width - left), SMALL, INK, "m")
    canvas.text(10, (box[1] + box[3]) / 2, fit(y_title, SMALL, box[3] - box[1]), SMALL, INK, "m", True)
    return canvas, box


def _pieces(*arrays):
    """Cut parallel arrays where any of them is not finite -> list of tuples of arrays without gaps."""
    good = np.isfinite(np.stack(arrays)).all(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [tuple(a[i:j] for a in arrays) for i, j in zip(edges[::2], edges[1::2])]


def smoothed(y, window):
    """Centred running mean over `window` points (fewer at the ends); gaps stay gaps and spoil no neighbour."""
    y = np.asarray(y, dtype=np.float64)
    good = np.isfinite(y)
    sums, counts = (np.concatenate([[0.0], np.cumsum(a)]) for a in (np.where(good, y, 0), good))
    a = np.maximum(np.arange(len(y)) - window // 2, 0)
    b = np.minimum(np.arange(len(y)) + (window + 1) // 2, len(y))
    return np.where(good, (sums[b] - sums[a]) / np.maximum(counts[b] - counts[a], 1), np.nan)


def curves(series, title="", x_title="", y_title="", log_x=False, log_y=False, x_range=None, y_range=None, smooth=1,
           footer="", size=(860, 460)):
    """A line plot. series: dict name -> (x, y), or (x, y, low, high) for a band around the line; arrays of one length.

    Not-a-number and, on a logarithmic axis, values <= 0 are gaps; a series without a value says so in the legend.
    smooth > 1: the raw line faint, its running mean over that many points strong. Raises UserError for unequal lengths.
    """
    data = {}
    for name, parts in series.items():
        parts = [np.array(p, dtype=np.float64).reshape(-1) for p in parts]  # copies
        if len(parts) not in (2, 4) or len({len(p) for p in parts}) > 1:
            raise UserError(f"curve {name!r} needs x, y (and low, high) of one length, not {[len(p) for p in parts]}")
        for p, log in zip(parts, (log_x, log_y, log_y, log_y)):
            p[~np.isfinite(p) | ((p <= 0) & log)] = np.nan
        data[str(name)] = parts
    x_axis = _axis(np.concatenate([p[0][np.isfinite(p[1])] for p in data.values()] or [[]]), log_x, x_range)
    y_axis = _axis(np.concatenate([v for p in data.values() for v in p[1:]] or [[]]), log_y, y_range)

    def look(i):
        return COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]

    def sample(i, marked):
        def draw(canvas, x, y):
            canvas.line([(x, y), (x + 32, y)], look(i)[0], 2.4, look(i)[1])
            if marked:
                canvas.marker(x + 16, y, look(i)[0], i)
        return draw

    marked = {n: smooth <= 1 and np.isfinite(p[1]).sum() <= 40 for n, p in data.items()}
    empty = {n: not np.isfinite(p[0] + p[1]).any() for n, p in data.items()}
    legend = [(n + " (no data)" * empty[n], sample(i, marked[n])) for i, n in enumerate(data)]
    right = 10 + max(text_width(_number(v), SMALL) for v in x_axis[2]) // 2
    canvas, box = _frame(size, legend, y_axis, y_title, x_title, right)

    def points(x, y):
        (x0, y0, x1, y1), (fx, fy) = box, (x_axis[3], y_axis[3])
        return [(x0 + fx(a) * (x1 - x0), y1 - fy(b) * (y1 - y0)) for a, b in zip(x, y)]

    for v in x_axis[2]:
        (at, _), = points([v], [y_axis[0]])
        canvas.line([(at, box[1]), (at, box[3])], FAINT)
        canvas.text(at, box[3] + 14, _number(v), SMALL, GREY, "m")
    before, marks = canvas.image.copy(), []
    for i, (x, y, *band) in enumerate(data.values()):
        for a, low, high in _pieces(x, *band) if band else []:
            if len(a) > 1:
                canvas.area(points(a, low) + points(a, high)[::-1], (*look(i)[0], 45))
        raw = _Canvas(*size)
        for a, b in _pieces(x, y) if smooth > 1 else []:
            raw.line(points(a, b), tuple(255 - (255 - c) * 3 // 10 for c in look(i)[0]))
        canvas.image.paste(ImageChops.multiply(canvas.image, raw.image))  # so that no series hides another
    for i, (name, (x, y, *_)) in enumerate(data.items()):
        for a, b in _pieces(x, smoothed(y, smooth) if smooth > 1 else y):
            p = points(a, b)
            canvas.line(p, look(i)[0], 2.4, look(i)[1])
            marks += [(*q, look(i)[0], i) for q in p if (marked[name] or len(p) == 1)
                      and box[0] - 1 <= q[0] <= box[2] + 1 and box[1] - 1 <= q[1] <= box[3] + 1]
    canvas.clip(before, (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1))
    canvas.line([(box[0], box[1]), (box[0], box[3]), (box[2], box[3])], GREY)
    for mark in marks:
        canvas.marker(*mark)
    if all(empty.values()):
        canvas.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, "no data", TEXT, GREY, "m")
    if smooth > 1:
        footer = f"{footer} Faint: raw values; strong: running mean over {smooth:,} points.".strip()
    return page([canvas.done()], title, footer)


def bars(groups, title="", x_title="", y_title="", y_range=None, footer="", size=(860, 420)):
    """Bars side by side in groups, with error bars, from zero (or from the lower end of y_range).

    groups: dict group -> dict name -> value or (value, low, high). The picture grows wider where the bars need it.
    Not-a-number and missing bars are written "n/a". Raises UserError where there is no bar at all.
    """
    names = list(dict.fromkeys(str(name) for group in groups.values() for name in group))
    if not names:
        raise UserError("a bar plot needs at least one group with at least one bar")
    data = [{str(n): np.broadcast_to(np.asarray(v, dtype=np.float64), 3) for n, v in group.items()}
            for group in groups.values()]
    every = np.concatenate([v for group in data for v in group.values()])
    y_axis = _axis(every, False, y_range, zero=True, margin=0.09)

    def sample(i):
        return lambda canvas, x, y: canvas.area([(x + 8, y - 6), (x + 32, y + 6)], COLOURS[i % len(COLOURS)])

    width = max(size[0], 80 + len(groups) * (22 * len(names) + 24))
    labels = [wrap(group, SMALL, (width - 80) / len(groups) - 8)[:3] for group in groups]
    bottom = 12 + 17 * max(len(lines) for lines in labels)
    canvas, box = _frame((width, size[1]), [(n, sample(i)) for i, n in enumerate(names)], y_axis, y_title, x_title,
                         bottom=bottom)
    step = (box[2] - box[0]) / len(groups)
    wide = min(step * 0.8 / len(names), 70)

    def at(v):
        return box[3] - min(max(y_axis[3](v), 0), 1) * (box[3] - box[1])

    ground = at(max(0, y_axis[0]))
    values = [v[0] for group in data for v in group.values()]
    write_value = _alike(values)
    room = max(text_width(write_value(v), SMALL) for v in values) <= wide + 2
    for g, (group, lines) in enumerate(zip(data, labels)):
        middle = box[0] + (g + 0.5) * step
        for i, line in enumerate(lines):
            canvas.text(middle, box[3] + 14 + 17 * i, line, SMALL, INK, "m")
        for i, name in enumerate(names):
            value, low, high = group.get(name, [math.nan] * 3)
            x = middle + (i - len(names) / 2 + 0.5) * wide
            if not math.isfinite(value):
                canvas.text(x, ground - 10, "n/a", SMALL, GREY, "m")
                continue
            canvas.area([(x - wide * 0.44, at(value)), (x + wide * 0.44, ground)], COLOURS[i % len(COLOURS)])
            if low < high:
                canvas.line([(x, at(low)), (x, at(high))], INK, 1.4)
                for v in (low, high):
                    canvas.line([(x - 4, at(v)), (x + 4, at(v))], INK, 1.4)
            if room:
                end = at(max(value, high)) - 10 if value >= 0 else at(min(value, low)) + 10
                canvas.text(x, end, write_value(value), SMALL, INK, "m")
    canvas.line([(box[0], box[1]), (box[0], box[3])], GREY)
    canvas.line([(box[0], ground), (box[2], ground)], GREY)
    return page([canvas.done()], title, footer)


def heatmap(matrix, rows, columns, title="", x_title="", y_title="", text=None, low=None, high=None, footer=""):
    """A matrix [R, C] as coloured cells with a colour bar: confusion matrices, robustness tables.

    rows, columns: their labels. text: a format such as "{:.1%}" for the figure in each cell, "" for none; by default
    with about three digits, up to 24 columns. low, high: the ends of the colours, by default those of the
    matrix; below and above zero the colours diverge. Not-a-number cells are grey with a dash.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape != (len(rows), len(columns)) or not matrix.size:
        raise UserError(f"a heat map needs a matrix of {len(rows)} x {len(columns)} labels, not {list(matrix.shape)}")
    finite = matrix[np.isfinite(matrix)]
    low = low if low is not None else finite.min() if len(finite) else 0.0
    high = high if high is not None else finite.max() if len(finite) else 1.0
    name = "diverging" if low < 0 < high else "sequential"
    low, high = (-max(-low, high), max(-low, high)) if low < 0 < high else (low, high)
    show = matrix.shape[1] <= 24 if text is None else bool(text)
    write_value = _alike(matrix) if not text else lambda v: text.format(v) if math.isfinite(v) else "-"
    words = [[write_value(v) if show else "" for v in row] for row in matrix]
    small = max(2, min(24, 1200 // max(matrix.shape)))  # side of a cell without figures
    cw = max(34, max(text_width(w, SMALL) for row in words for w in row) + 12) if show else small
    ch = 30 if show else small
    rows, columns = ([fit(class_name(names, i), SMALL, 180) for i in range(len(names))] for names in (rows, columns))
    every_r, every_c = math.ceil(17 / ch), math.ceil(17 / cw)  # label every so many rows and columns
    turned = max(text_width(c, SMALL) for c in columns) > cw * every_c - 4
    left = max(text_width(r, SMALL) for r in rows) + 14 + 26 * bool(y_title)
    top = (max(text_width(c, SMALL) for c in columns) + 12 if turned else 26) + 24 * bool(x_title)
    right, bottom = left + cw * len(columns), top + ch * len(rows)
    bar = np.linspace(high, low, max(bottom - top, 120))
    marks = ticks(low, high, 5)
    tail = 50 + max(text_width(_number(v), SMALL) for v in marks)
    image = Image.new("RGB", (right + tail, max(bottom, top + len(bar)) + 10), WHITE)
    cells = colours(matrix, low, high, name)
    image.paste(Image.fromarray(cells.repeat(ch, 0).repeat(cw, 1)), (left, top))
    image.paste(Image.fromarray(colours(bar, low, high, name)[:, None].repeat(14, 1)), (right + 20, top))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, top - 1, right, bottom), outline=RULE)
    draw.rectangle((right + 19, top - 1, right + 34, top + len(bar)), outline=RULE)
    for v in marks:
        y = top + (high - v) / ((high - low) or 1) * (len(bar) - 1)
        draw.line([(right + 34, y), (right + 38, y)], fill=GREY)
        write(image, right + 42, y, _number(v), SMALL, GREY)
    for i in range(0, len(rows), every_r):
        write(image, left - 8, top + (i + 0.5) * ch, rows[i], SMALL, align="r")
    for i in range(0, len(columns), every_c):
        x = left + (i + 0.5) * cw
        write(image, x, top - (8 if turned else 13), columns[i], SMALL, align="l" if turned else "m", turned=turned)
    for i, row in enumerate(words):
        for j, word in enumerate(row):
            dark = cells[i, j] @ (0.299, 0.587, 0.114) < 140
            write(image, left + (j + 0.5) * cw, top + (i + 0.5) * ch, word, SMALL, WHITE if dark else INK, "m")
    write(image, (left + right) / 2, 9, x_title, SMALL, align="m")
    write(image, 10, (top + bottom) / 2, y_title, SMALL, align="m", turned=True)
    return page([image], title, footer)
