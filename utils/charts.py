"""Plots with Pillow and numpy alone: curves, bars with error bars, heat maps.

    curves({"CGAN": (x, y), "CVAE": (x, y, low, high)}, x_title="epoch", y_title="FID")

Each returns a PIL image, for figures.save. Twelve series differ in colour, and without it in dashes and marker.
"""
import math

import numpy as np
from PIL import Image, ImageDraw

from utils import figures
from utils.figures import GREY, INK, RULE, SMALL, WHITE
from utils.files import UserError


def _shape(corners, turn=0.0, radii=(1.2,)):
    """Corners around the origin, the first at `turn` of a full turn from the top; their radii alternate."""
    angles = 2 * math.pi * (np.arange(corners) / corners + turn)
    return [(r * math.sin(a), -r * math.cos(a)) for a, r in zip(angles, np.resize(radii, corners))]


# Okabe & Ito's palette for colour-blind readers, its yellow (invisible on white) replaced by grey, and four darker ones
COLOURS = [figures.ACCENT, (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0),
           (128, 128, 128), (136, 34, 85), (140, 140, 30), (110, 70, 190), (120, 70, 30)]
DASHES = [(), (9, 4), (2, 3), (9, 3, 2, 3)]  # lengths on, off, ... in pixels
MARKERS = [_shape(24, radii=[1]), _shape(4, 1 / 8), _shape(3), _shape(4), _shape(3, 1 / 2), _shape(8, 0, (1.5, 0.6))]
MATRIX_CLASSES = 50                          # up to which a confusion matrix can be read
FAINT, SMOOTHING = (232, 232, 232), 3        # of rules; shapes are drawn that much larger, then reduced
tick_text = "{:,.6g}".format                 # 0.25, 1,500, 2e+07, 3e-05


class _Canvas:
    """Shapes are drawn larger, then reduced (smooth edges); text is kept back and drawn at its final size."""

    def __init__(self, width, height):
        self.image = Image.new("RGB", (int(width) * SMOOTHING, int(height) * SMOOTHING), WHITE)
        self.draw, self.texts = ImageDraw.Draw(self.image, "RGBA"), []

    def area(self, points, colour):
        """A filled polygon."""
        self.draw.polygon([(x * SMOOTHING, y * SMOOTHING) for x, y in points], fill=colour)

    def line(self, points, colour, width=1.0, dash=()):
        """A polyline; dash holds lengths on, off, ... along it."""
        for piece in _dashes(np.array(points), dash) if dash else [points]:
            self.draw.line([(x * SMOOTHING, y * SMOOTHING) for x, y in piece], fill=colour,
                           width=round(width * SMOOTHING), joint="curve")

    def curve(self, points, i):
        """A line in the style of series i."""
        self.line(points, COLOURS[i % 12], 2.4, DASHES[i % 4])

    def marker(self, x, y, i):
        """The marker of series i, with a white edge."""
        for radius, colour in ((5.2, WHITE), (4.0, COLOURS[i % 12])):
            self.area([(x + a * radius, y + b * radius) for a, b in MARKERS[i % 6]], colour)

    def text(self, *args):
        """figures.write's arguments after the image."""
        self.texts.append(args)

    def page(self, title, footer):
        image = self.image.reduce(SMOOTHING)
        for args in self.texts:
            figures.write(image, *args)
        return figures.page([image], title, footer)


def _dashes(points, dash):
    """Yield the dashes of a polyline [n, 2], polylines themselves; dash: lengths on, off, ... along it."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    edges = np.cumsum([0, *np.resize(dash, len(dash) * math.ceil(along[-1] / sum(dash)))]).clip(max=along[-1])
    for start, end in zip(edges[::2], edges[1::2]):
        stops = [start, *along[(along > start) & (along < end)], end]
        yield list(zip(*(np.interp(stops, along, axis) for axis in points.T)))


def ticks(lo, hi, n=6):
    """At most n + 1 round values in [lo, hi], their step 1, 2 or 5 times a power of ten; `[lo]` for an empty range."""
    if not hi > lo:
        return [lo]
    raw = (hi - lo) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(lo, hi):
    """Powers of ten in [lo, hi], over a short range 2 and 5 times them, too; those of ticks() where that is but one."""
    a, b = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
    marks = (1,) if hi > 2000 * lo else (1, 2, 5)
    values = [m * 10.0 ** e for e in range(a, b + 1, max(1, (b - a) // 8)) for m in marks]
    values = [v for v in values if lo * (1 - 1e-9) <= v <= hi * (1 + 1e-9)]
    return values if len(values) > 1 else ticks(lo, hi, 4)


def value_format(values):
    """A function that writes these values with the same decimals: none for whole numbers, else about three digits."""
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    power = math.floor(math.log10(np.abs(values).max(initial=0) or 1))
    decimals = 0 if (values == values.round()).all() else max(0, 2 - power) if power >= 0 else 1 - power
    return lambda v: f"{v:,.{decimals}f}" if math.isfinite(v) else "-"


def _axis(values, log=False, limits=None, margin=0.04):
    """An axis for these values with a little room at both ends, or for the given limits: its ticks, and the
    function from a value to its position, 0 at the low end and 1 at the high end."""
    scale = math.log10 if log else float
    values = [scale(v) for v in np.ravel(values) if np.isfinite(v) and (v > 0 or not log)]
    if limits:
        lo, hi = map(scale, limits)
    else:
        lo, hi = min(values, default=0.0), max(values, default=1.0)
        if hi - lo <= 1e-12 * max(abs(lo), abs(hi), 1e-300):
            half = 0.3 if log else abs(lo) / 2 or 0.5
            lo, hi = lo - half, hi + half
        room = (hi - lo) * margin
        lo = max(0, lo - room) if lo >= 0 and not log else lo - room     # the room ends at zero
        hi = hi if hi == 0 and not log else hi + room
    return log_ticks(10 ** lo, 10 ** hi) if log else ticks(lo, hi), lambda v: (scale(v) - lo) / (hi - lo)


def _frame(size, legend, sample, y_ticks, y_at, y_title, x_title, right=16, bottom=28):
    """An empty plot: canvas, box (left, top, right, bottom). legend: names; sample(canvas, x, y, i) draws the key."""
    width, height = size
    left = max(figures.text_width(tick_text(v), SMALL) for v in y_ticks) + (38 if y_title else 12)
    canvas, x, y = _Canvas(width, height), left, 10
    for i, name in enumerate(legend):
        name = figures.fit(name, SMALL, width - left - 60)
        step = 40 + figures.text_width(name, SMALL) + 20
        if x > left and x + step > width + 20:
            x, y = left, y + 22
        sample(canvas, x, y, i)
        canvas.text(x + 40, y, name, SMALL)
        x += step
    box = left, y + 20 if legend else 10, width - right, height - bottom - (24 if x_title else 0)
    for v in y_ticks:
        h = box[3] - y_at(v) * (box[3] - box[1])
        canvas.line([(left, h), (box[2], h)], FAINT)
        canvas.text(left - 8, h, tick_text(v), SMALL, GREY, "r")
    canvas.text((left + box[2]) / 2, height - 10, figures.fit(x_title, SMALL, width - left), SMALL, INK, "m")
    canvas.text(10, (box[1] + box[3]) / 2, figures.fit(y_title, SMALL, box[3] - box[1]), SMALL, INK, "m", True)
    return canvas, box


def smoothed(y, window):
    """Centred running mean of y, not empty, over `window` points (fewer at the ends); gaps stay, spoil no neighbour."""
    good, kernel = np.isfinite(y), np.ones(min(window, len(y)))
    sums, counts = (np.convolve(a, kernel, "same") for a in (np.where(good, y, 0), good))
    return np.where(good, sums / np.maximum(counts, 1), np.nan)


def _pieces(*arrays):
    """Cut parallel arrays where any of them is not finite -> list of tuples of arrays without gaps."""
    good = np.isfinite(np.stack(arrays)).all(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [tuple(a[i:j] for a in arrays) for i, j in zip(edges[::2], edges[1::2])]


def _drawable(arrays, logs, limits):
    """Float64 copies of x, y (and low, high), with not-a-number for what cannot be drawn."""
    arrays = [np.array(a, dtype=np.float64).reshape(-1) for a in arrays]
    for k, a in enumerate(arrays):
        lo, hi = limits[k > 0] or (-np.inf, np.inf)
        if k > 1:
            a.clip(lo, hi, out=a)
        a[~np.isfinite(a) | (a < lo) | (a > hi) | ((a <= 0) & logs[k > 0])] = np.nan
    return arrays


def _draw_behind(canvas, i, points, x, y, band, raw):
    """What lies behind the line of series i: its band (of a single point, an error bar) or, faintly, its raw values."""
    for a, low, high in _pieces(x, *band) if band else []:
        if len(a) > 1:
            canvas.area(points(a, low) + points(a, high)[::-1], (*COLOURS[i % 12], 45))
        else:
            canvas.line(points(a, low) + points(a, high), COLOURS[i % 12], 1.4)
    for piece in _pieces(x, y) if raw else []:
        canvas.line(points(*piece), tuple(255 - (255 - c) * 3 // 10 for c in COLOURS[i % 12]))


def curves(series, title="", x_title="", y_title="", log_x=False, log_y=False, x_range=None, y_range=None, smooth=1,
           footer="", size=(860, 460)):
    """A line plot. series: dict name -> (x, y), or (x, y, low, high) for a band around the line; arrays of one length.
    Not-a-number, values outside a given range and, on a logarithmic axis, values <= 0 are gaps; a series without a
    value says so in the legend. smooth > 1: the raw line faint, its running mean over that many points strong."""
    data = [_drawable(s, (log_x, log_y), (x_range, y_range)) for s in series.values()]
    x_ticks, x_at = _axis(np.concatenate([x[np.isfinite(y)] for x, y, *_ in data] or [[]]), log_x, x_range)
    y_ticks, y_at = _axis(np.concatenate([v for _, *ys in data for v in ys] or [[]]), log_y, y_range)
    marked = [smooth <= 1 and np.isfinite(y).sum() <= 40 for _, y, *_ in data]
    empty = [not _pieces(x, y) for x, y, *_ in data]

    def sample(canvas, x, y, i):
        canvas.curve([(x, y), (x + 32, y)], i)
        if marked[i]:
            canvas.marker(x + 16, y, i)

    legend = [f"{name} (no data)" if none else name for name, none in zip(series, empty)]
    right = 10 + max(figures.text_width(tick_text(v), SMALL) for v in x_ticks) // 2
    canvas, (x0, y0, x1, y1) = _frame(size, legend, sample, y_ticks, y_at, y_title, x_title, right)

    def points(x, y):
        return [(x0 + x_at(a) * (x1 - x0), y1 - y_at(b) * (y1 - y0)) for a, b in zip(x, y)]

    for v in x_ticks:
        x = x0 + x_at(v) * (x1 - x0)
        canvas.line([(x, y0), (x, y1)], FAINT)
        canvas.text(x, y1 + 14, tick_text(v), SMALL, GREY, "m")
    for i, (x, y, *band) in enumerate(data):
        _draw_behind(canvas, i, points, x, y, band, smooth > 1)
    canvas.line([(x0, y0), (x0, y1), (x1, y1)], GREY)
    lines = [(i, points(*piece)) for i, (x, y, *_) in enumerate(data) if not empty[i]
             for piece in _pieces(x, smoothed(y, smooth))]
    for i, line in lines:
        canvas.curve(line, i)
        for point in line if marked[i] or len(line) == 1 else []:
            canvas.marker(*point, i)
    if smooth > 1:
        footer = f"{footer} Faint: raw values; strong: running mean over {smooth:,} points.".strip()
    return canvas.page(title, footer)


def bars(groups, title="", y_title="", y_range=None, footer="", size=(860, 420)):
    """Bars side by side in groups, with error bars, from zero (or from the lower end of y_range).
    groups: dict group -> dict name -> value or (value, low, high). The picture grows wider where the bars need it.
    Not-a-number and missing bars are written "n/a". Raises UserError where there is no bar at all."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    if not names:
        raise UserError("a bar plot needs at least one group with at least one bar")
    data = [[np.broadcast_to(np.float64(group.get(name, np.nan)), 3) for name in names] for group in groups.values()]
    y_ticks, y_at = _axis([data, np.zeros_like(data)], limits=y_range, margin=0.09)

    def sample(canvas, x, y, i):
        canvas.line([(x + 8, y), (x + 32, y)], COLOURS[i % 12], 12)

    width = max(size[0], 80 + len(groups) * (22 * len(names) + 24))
    labels = [figures.wrap(group, SMALL, (width - 80) / len(groups) - 8)[:3] for group in groups]
    bottom = 12 + 17 * max(map(len, labels))
    canvas, (x0, y0, x1, y1) = _frame((width, size[1]), names, sample, y_ticks, y_at, y_title, "", bottom=bottom)
    step = (x1 - x0) / len(groups)
    wide = min(step * 0.8 / len(names), 70)

    def at(v):
        return y1 - min(max(y_at(v), 0), 1) * (y1 - y0)

    value_text = value_format([value for group in data for value, _, _ in group])
    has_room = all(figures.text_width(value_text(v), SMALL) <= wide + 2 for group in data for v, _, _ in group)
    for g, (group, lines) in enumerate(zip(data, labels)):
        middle = x0 + (g + 0.5) * step
        for i, line in enumerate(lines):
            canvas.text(middle, y1 + 14 + 17 * i, line, SMALL, INK, "m")
        for i, (value, low, high) in enumerate(group):
            x = middle + (i - len(names) / 2 + 0.5) * wide
            if not math.isfinite(value):
                canvas.text(x, at(0) - 10, "n/a", SMALL, GREY, "m")
                continue
            canvas.line([(x, at(value)), (x, at(0))], COLOURS[i % 12], 0.88 * wide)
            if low < high:
                for a, b in (((0, low), (0, high)), ((-4, low), (4, low)), ((-4, high), (4, high))):
                    canvas.line([(x + a[0], at(a[1])), (x + b[0], at(b[1]))], INK, 1.4)
            if has_room:
                end = at(max(value, high)) - 10 if value >= 0 else at(min(value, low)) + 10
                canvas.text(x, end, value_text(value), SMALL, INK, "m")
    canvas.line([(x0, y0), (x0, y1)], GREY)
    canvas.line([(x0, at(0)), (x1, at(0))], GREY)
    return canvas.page(title, footer)


def heatmap(matrix, rows, columns, title="", x_title="", y_title=""):
    """A matrix [R, C] as coloured cells with a colour bar: confusion matrices, robustness tables.
    rows, columns: their labels. Of up to 24 columns every cell shows its value; not-a-number is grey with a dash."""
    matrix = np.asarray(matrix, dtype=np.float64)
    low, high = (np.nanmin(matrix), np.nanmax(matrix)) if np.isfinite(matrix).any() else (0.0, 1.0)
    value_text = value_format(matrix)
    words = [[value_text(v) for v in row] for row in matrix] if len(columns) <= 24 else []
    ch, cw = 24, 24                                                          # height and width of a cell
    if words:
        ch, cw = 30, max(34, max(figures.text_width(word, SMALL) for row in words for word in row) + 12)
    rows, columns = ([figures.fit(figures.class_name(names, i), SMALL, 180) for i in range(len(names))]
                     for names in (rows, columns))
    widest_row, widest_column = (max(figures.text_width(name, SMALL) for name in names) for names in (rows, columns))
    turned = widest_column > cw - 4
    left = widest_row + (40 if y_title else 14)
    top = (widest_column + 12 if turned else 26) + (24 if x_title else 0)
    right, bottom = left + cw * len(columns), top + ch * len(rows)
    bar = np.linspace(high, low, max(bottom - top, 120))
    marks = ticks(low, high, 5)
    tail = 50 + max(figures.text_width(tick_text(v), SMALL) for v in marks)
    image = Image.new("RGB", (right + tail, max(bottom, top + len(bar)) + 10), WHITE)
    draw = ImageDraw.Draw(image)
    cells = figures.colours(matrix, low, high)
    for x, pixels in ((left, cells.repeat(ch, 0).repeat(cw, 1)),
                      (right + 20, figures.colours(bar, low, high)[:, None].repeat(14, 1))):
        image.paste(Image.fromarray(pixels), (x, top))
        draw.rectangle((x - 1, top - 1, x + pixels.shape[1], top + len(pixels)), outline=RULE)
    for v in marks:
        y = top + (high - v) / ((high - low) or 1) * (len(bar) - 1)
        draw.line([(right + 34, y), (right + 38, y)], fill=GREY)
        figures.write(image, right + 42, y, tick_text(v), SMALL, GREY)
    for i, name in enumerate(rows):
        figures.write(image, left - 8, top + (i + 0.5) * ch, name, SMALL, align="r")
    for j, name in enumerate(columns):
        x, y, align = left + (j + 0.5) * cw, top - (8 if turned else 13), "l" if turned else "m"
        figures.write(image, x, y, name, SMALL, align=align, turned=turned)
    for i, row in enumerate(words):
        for j, word in enumerate(row):
            dark = cells[i, j] @ (0.299, 0.587, 0.114) < 140
            figures.write(image, left + (j + 0.5) * cw, top + (i + 0.5) * ch, word, SMALL, WHITE if dark else INK, "m")
    figures.write(image, (left + right) / 2, 9, x_title, SMALL, align="m")
    figures.write(image, 10, (top + bottom) / 2, y_title, SMALL, align="m", turned=True)
    return figures.page([image], title)
