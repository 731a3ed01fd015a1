"""What a scanned glyph has beside its ink, found and taken out: uneven light, printed cell lines, specks.

    ink, removed = clean(255 - grey_scan)      # dark ink on paper -> ink on 0; {"cell lines", "specks"}, or unchanged

Everything works on ink that is bright on dark. A picture in which nothing is found comes back as the same array, so
that clean crops stay as they are, bit for bit.

A cell line is straight, thin, within 4 degrees of the side that it lies along, near it, and runs out of the picture. A
stroke may be all this, too: what remains decides (`_without_strokes`), and where that leaves a doubt, the data set.
"""
import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

WORK = 200            # pixels of the longest side at which lines and specks are looked for
INK = 64              # of 255: a quarter of full ink is ink
MUCH_GRAIN = 5        # of 255, standard deviation
SLOPE = math.tan(math.radians(4))


def clean(a, lines="clear"):
    """A picture of one glyph uint8 [H,W], ink brighter than the paper -> (the same, ink 255 on 0, or `a` itself where
    nothing is to be done; set of what was removed: "uneven light", "cell lines", "specks", "grain").

    `lines`, what is taken for a cell line: "clear" ones alone, "all" that may be one (right where most pictures of a
    set have some), or "none"."""
    removed = set()
    flat = even_light(a)
    if flat is not a:
        removed.add("uneven light")
    k = -(-max(a.shape) // WORK)
    f, grain = _less_noise(_max_pool(_stretch(flat), k))
    if grain > MUCH_GRAIN:
        removed.add("grain")
    erase = strip = np.zeros(f.shape, bool)
    level = min(max(INK / 2, 4 * grain), 1.5 * INK)
    found = [] if lines == "none" else find_lines(f, level)
    if found:
        found, erase, strip = _without_strokes(f, level, found, lines == "all")
    if found:
        removed.add("cell lines")
        f = np.where(erase, 0, f)
        gain = 255 / _usual_ink(f)
        f, grain = f * gain, grain * gain
    keep, dropped = _keep(f, min(max(INK, 4 * grain), 2 * INK), strip, found)
    if dropped:
        removed.add("specks")
    if not removed:
        return a, removed
    keep = (keep & ~erase).repeat(k, 0).repeat(k, 1)[:a.shape[0], :a.shape[1]]
    full = np.where(keep, _stretch(flat), 0)
    return np.rint(np.clip(full * (255 / _usual_ink(full)), 0, 255)).astype(np.uint8), removed


# ---- light ---------------------------------------------------------------------------------------

def stretch(a):
    """Paper, the median of the darker half of the range, becomes 0, the strongest ink 255: uint8 [H,W]."""
    top = int(a.max())
    paper = int(np.median(a[a <= (int(a.min()) + top) / 2]))
    if paper == 0 and top == 255:
        return a
    return np.rint(np.clip((a.astype(np.float32) - paper) * (255 / (top - paper)), 0, 255)).astype(np.uint8)


def _stretch(a):
    """As stretch(), but not clipped: float32 [H,W]."""
    top = float(a.max())
    paper = float(np.median(a[a <= (int(a.min()) + top) / 2]))
    return (a.astype(np.float32) - np.float32(paper)) * np.float32(255 / (top - paper))


def _usual_ink(f):
    """The grey level of a pen's ink, not of its darkest pixel: a faint pen is full ink then."""
    ink = f[f > INK / 2]
    return float(np.percentile(ink, 85)) if len(ink) else 255.0


def _less_noise(f):
    """(`f` with its paper at 0, softened where there is much grain; what grain is left: its standard deviation)"""
    def grain(f):
        pairs = [(f[:, 3:], f[:, :-3]), (f[3:], f[:-3])]
        steps = np.concatenate([(one - two)[(one < INK) & (two < INK)] for one, two in pairs])
        return 1.4826 / math.sqrt(2) * float(np.median(np.abs(steps))) if len(steps) else 0.0

    sigma = grain(f)
    if sigma > 1:
        f = f - np.float32(np.median(f[f < INK]))
    if sigma > 2 * MUCH_GRAIN:
        f = np.pad(f, 1, mode="edge")
        f = (f[:-2] + f[1:-1] + f[2:]) / 3
        f = (f[:, :-2] + f[:, 1:-1] + f[:, 2:]) / 3
        sigma = grain(f)
    return f, sigma


def even_light(a):
    """`a` without its slow changes of paper (shadow, vignetting), or `a` itself where the light is even."""
    grid = np.asarray(Image.fromarray(a).resize([min(32, n) for n in a.shape[::-1]], Image.Resampling.BOX), float)
    fine, grid = _min_pool(grid, 2), _min_pool(grid, 4)   # a block holds paper nearly everywhere
    contrast = max(float(np.percentile(a, 99.5)), a.max() / 2) - grid.min()   # not that of a speck
    level = np.quantile(grid, 0.4)
    is_even = np.mean(np.abs(grid - level) <= 0.12 * contrast)
    surface, coefficients = _fit_paper(grid) if is_even < 0.85 else (0 * grid + level, np.array([level, 0, 0, 0, 0, 0]))
    fits = np.mean(np.abs(grid - surface) <= 0.12 * contrast)
    if fits < 0.6 or (is_even < 0.85 and fits < is_even + 0.1):   # blocks full of ink, no shadow
        return a
    y, x = (np.linspace(-1, 1, 2 * n + 1)[1::2] for n in fine.shape)
    rest = _opened(fine - _basis(y, x) @ coefficients)    # the edge of a shadow is steeper than any surface
    if rest.max() > 0.4 * contrast:                   # a thick blob of ink, which has no business here
        rest[:] = 0
    if is_even >= 0.85 and np.mean(np.abs(rest - np.median(rest)) > 0.05 * contrast) < 0.2:
        return a
    y, x = (np.linspace(-1, 1, 2 * n + 1)[1::2] for n in a.shape)
    rest = Image.fromarray(rest.astype(np.float32)).resize(a.shape[::-1], Image.Resampling.BILINEAR)
    paper = _basis(y, x) @ coefficients + np.asarray(rest)
    flat = np.clip((a - paper) / np.clip(255 - paper, 32, None), 0, 1)   # dark ink takes a share of the light away
    return np.rint(flat * (255 / max(float(flat.max()), 1e-6))).astype(np.uint8)


def _opened(grid):
    """What is brighter than its surroundings within 5 x 5 is cut down to them: the morphological opening."""
    for extreme in (np.min, np.max):
        grid = extreme(sliding_window_view(np.pad(grid, 2, mode="edge"), (5, 5)), axis=(2, 3))
    return grid


def _basis(y, x):
    """Quadratic surface: [H,W,6] of y [H], x [W] in [-1, 1]."""
    y, x = np.broadcast_arrays(y[:, None], x)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _fit_paper(grid, quantile=0.4, rounds=15):
    """The quadratic surface below which `quantile` of the pixels lie, by reweighted least squares: ink, which is far
    above, hardly counts. (surface [h,w], coefficients [6])"""
    basis = _basis(*(np.linspace(-1, 1, 2 * n + 1)[1::2] for n in grid.shape)).reshape(-1, 6)
    values = grid.ravel()
    coefficients = np.zeros(6)
    coefficients[0] = np.quantile(values, quantile)
    for _ in range(rounds):
        rest = values - basis @ coefficients
        weight = np.where(rest > 0, quantile, 1 - quantile) / np.maximum(np.abs(rest), 1)
        weighted = basis.T * weight
        coefficients = np.linalg.solve(weighted @ basis + 1e-6 * np.eye(6), weighted @ values)
    return (basis @ coefficients).reshape(grid.shape), coefficients


def _max_pool(f, k):
    """The strongest ink of blocks of k x k pixels."""
    if k == 1:
        return f
    f = np.pad(f, [(0, -n % k) for n in f.shape], mode="edge")
    return f.reshape(f.shape[0] // k, k, f.shape[1] // k, k).max((1, 3))


def _min_pool(f, k):
    return -_max_pool(-f, k)


# ---- cell lines ----------------------------------------------------------------------------------

@dataclass
class Line:
    """A cell line, in a view of the picture in which its side is at the top: row = slope * column + height."""
    side: int              # 0 top, 1 bottom, 2 left, 3 right
    slope: float
    height: float
    thick: float           # pixels
    first: int             # column
    last: int
    ends: list             # [bool, bool], does it run out of the picture at its first column, at its last?
    depth: float           # share of the picture that lies beyond it

    @property
    def extent(self):
        return self.last - self.first + 1


def _views(a):
    """Views of [H,W] in which the top, bottom, left, right side lies at the top."""
    return a, a[::-1], a.T, a.T[::-1]


def find_lines(f, level):
    """The straight lines around the glyph in float [H,W], ink above `level`: a list of Line."""
    mask = f > level
    if not any(view[:2].any() for view in _views(mask)):
        return []                                     # no ink runs out of the picture
    found = [line for side, view in enumerate(_views(mask)) for line in _candidates(view, side)]
    lines = [line for line in found if _is_line(line, mask.shape)]
    for line in found if lines else []:               # a line may also end at another one, at a corner of the cell
        if line not in lines:
            ends = line.ends
            line.ends = [end or any(_meet(line, k, other, mask.shape) for other in lines) for k, end in enumerate(ends)]
            if all(line.ends) and _is_line(line, mask.shape):
                lines.append(line)
    return lines


def _without_strokes(f, level, lines, is_form):
    """(those of the lines that are none of the glyph's strokes; see _erase for the rest)

    A long 1, a dash or the bar of a 7 that is cut to its ink look like lines. What remains without them decides: if it
    is nothing, or if it spans the picture from the line to the opposite side, they are strokes. In the pictures
    of a form only the innermost line is one, where nothing else remains."""
    mask = f > level
    lines = sorted(lines, key=lambda line: line.depth)
    while lines:
        erase, strip = _erase(f, mask, lines)
        labels, boxes, areas = components(mask & ~grow(erase, 1))
        thick = max(line.thick for line in lines)
        least = thick ** 2 if is_form else max(thick ** 2, 0.15 * np.count_nonzero(erase & mask))
        if len(areas) and areas.max() >= max(least, 4):
            main = labels == areas.argmax() + 1
            if is_form or not any(_is_stroke(line, lines, main, boxes[areas.argmax()]) for line in lines):
                return lines, erase, strip
        lines = lines[:-1] if is_form else []
    return [], np.zeros_like(mask), np.zeros_like(mask)


def _is_stroke(line, lines, main, box):
    """Does the ink `main` (its box: top, left, bottom, right) reach the opposite edge of the picture, which is then cut
    to its ink, or hang on a line that is short or has another one opposite, on which it hangs, too?"""
    across, along = _size(main.shape, line.side)
    reach = (across - box[2], box[0]) if line.side < 2 else (across - box[3], box[1])
    gap = reach[line.side % 2]                        # from the ink to the opposite edge
    if gap <= 1:
        return True
    opposite = [other.depth * across + other.thick / 2 + 2 for other in lines if other.side == line.side ^ 1]
    if line.extent > 0.8 * along and gap > max([0, *opposite]):
        return False
    view = _views(main)[line.side]
    x = np.arange(view.shape[1])
    rows = np.rint(line.slope * x + line.height + line.thick / 2).astype(int)[:, None] + np.arange(1, 5)
    return bool(view[np.clip(rows, 0, across - 1), x[:, None]].any())


def _size(shape, side):
    """(across, along) a side."""
    return shape if side < 2 else shape[::-1]


def _is_line(line, shape):
    """Is it long enough for how deep it lies and for where it ends?"""
    extent, ends = line.extent / _size(shape, line.side)[1], sum(line.ends)
    return ends == 2 and (extent > 0.8 or line.depth < 0.2) or ends == 1 and extent > 0.4 and line.depth < 0.2


def _meet(line, k, other, shape):
    """Does the first (k = 0) or last (k = 1) column of the line lie on the other one?"""
    if other.side != (2 + k if line.side < 2 else k):
        return False
    across, along = _size(shape, line.side)
    column = line.last if k else line.first
    row = line.slope * column + line.height
    at = other.slope * (across - 1 - row if line.side % 2 else row) + other.height
    at = along - 1 - at if other.side % 2 else at
    return abs(column - at) <= other.thick / 2 + 3


def _candidates(mask, side):
    """What may be lines along the top of `mask` [H,W], at most three."""
    h, w = mask.shape
    rows, most = max(2, math.ceil(h / 3)), math.ceil(SLOPE * w)
    rest, found = mask[:rows + most].copy(), []
    above = np.maximum.accumulate(np.where(mask, -1, np.arange(h)[:, None]), 0) + 1         # first row of the run
    below = np.minimum.accumulate(np.where(mask, h, np.arange(h)[:, None])[::-1], 0)[::-1]  # row after the run
    while np.count_nonzero(rest[:rows].any(0)) >= 0.3 * w and len(found) < 3:
        score = _hough(rest, rows, most)
        for _ in range(4):
            drop, row = np.unravel_index(score.argmax(), score.shape)
            if score[drop, row] < 0.3 * w:
                return found
            y = row + (drop - most) * ((np.arange(w) + 0.5) / w - 0.5)
            line = _check(mask, above, below, y, side)
            if line:
                break
            score[:, max(0, row - 1):row + 2] = 0
        else:
            return found
        found.append(line)
        x = np.arange(w)
        middle, half = line.slope * x + line.height, line.thick / 2 + 1.5
        rest &= np.abs(np.arange(len(rest))[:, None] - middle) > half
    return found


def _hough(mask, rows, most):
    """Inked columns along straight lines: [2 * most + 1 drops from end to end, `rows` rows in the middle]."""
    tall = np.pad(mask, ((most, most), (0, 0)))
    tall[1:] |= tall[:-1]                                                                  # a pixel lower is as good
    tall[:-1] |= tall[1:]
    starts, index = _line_index(mask.shape[1], rows, most)
    pieces = np.add.reduceat(tall, starts, 1, dtype=np.int16)                              # [H, pieces]
    return pieces.ravel()[index].sum(-1) - 0.01 * np.abs(np.arange(-most, most + 1))[:, None]


@functools.lru_cache(256)
def _line_index(width, rows, most):
    """Where _hough's pieces of columns start; the places of each line's in [H, pieces]: [drops, rows, pieces]."""
    starts = np.unique(np.linspace(0, width, 41).astype(int)[:-1])
    middles = (starts + np.append(starts[1:], width)) / 2
    offsets = most + np.rint(np.arange(-most, most + 1)[:, None] * (middles / width - 0.5)).astype(np.int32)
    return starts, (offsets[:, None] + np.arange(rows)[:, None]) * len(starts) + np.arange(len(starts))


def _fit_line(x, y):
    """Slope and height at 0 by least squares, floats."""
    dx = x - x.mean()
    slope = float(dx @ y / max(float(dx @ dx), 1e-9))
    return slope, float(y.mean() - slope * x.mean())


def _runs(mask, above, below, y):
    """Of each column the ink at or beside row y [W]: (is there any? its first row, the row after it), each [W]."""
    h, w = mask.shape
    x, at = np.arange(w), np.rint(y).astype(int)
    inside = (at >= 0) & (at < h)
    at = np.clip(at, 0, h - 1)
    for step in (-1, 1, -2, 2):
        other = np.clip(at + step, 0, h - 1)
        at = np.where(~mask[at, x] & mask[other, x], other, at)
    return inside & mask[at, x], above[at, x], below[at, x]


def _check(mask, above, below, y, side):
    """The straight thin ink along y [W] as a Line, or None."""
    h, w = mask.shape
    for last_round in (False, True):                  # the second time along what the first found
        inked, top, end = _runs(mask, above, below, y)
        if inked.sum() < 0.2 * w:
            return None
        thick = float(np.percentile((end - top)[inked], 35))
        if thick > max(5, 0.09 * max(h, w)):
            return None
        thin = inked & (end - top <= thick + max(2, 0.6 * thick))
        columns = np.flatnonzero(thin)
        groups = np.split(columns, np.flatnonzero(np.diff(columns) > max(6, 0.25 * w)) + 1)
        columns = max(groups, key=len)
        if len(columns) < max(8, 0.15 * w):
            return None
        middle = (top + end - 1)[columns] / 2
        good = np.ones(len(columns), bool)
        for _ in range(3):
            slope, height = _fit_line(columns[good], middle[good])
            rest = np.abs(middle - slope * columns - height)
            good = rest <= max(0.75, 2 * np.median(rest))
        y = slope * np.arange(w) + height
    first, last = columns[good][0], columns[good][-1]
    covered = inked[first:last + 1].mean()
    if covered < 0.55 or good.mean() < 0.7 or len(columns) < 0.5 * inked[first:last + 1].sum():
        return None
    if np.percentile(rest, 75) > 0.75 + 0.003 * w or abs(slope) > SLOPE * 1.1:
        return None
    while first > 0 and inked[max(0, first - 3):first].any():     # on through what crosses it
        first -= 1
    while last < w - 1 and inked[last + 1:last + 4].any():
        last += 1
    edges = [0, w - 1]
    ends = [bool(abs(column - edge) <= 2 or y[column] - thick / 2 <= 1) for column, edge in zip((first, last), edges)]
    depth = float(np.clip(y[first:last + 1].mean() / h, 0, 1))
    return Line(side, slope, height, thick, int(first), int(last), ends, depth)


def _erase(f, mask, lines):
    """The pixels of the lines, bool [H,W], not where a stroke touches or crosses one, nor what is darker than it; and
    all the pixels along them, bool [H,W]."""
    erase, strips = np.zeros_like(mask), [np.zeros_like(mask), np.zeros_like(mask)]
    for line in lines:
        grey, view, target, strip = (_views(a)[line.side] for a in (f, mask, erase, strips[line.side // 2]))
        h, w = view.shape
        rows, x = np.arange(h)[:, None], np.arange(w)
        y = line.slope * x + line.height
        upper, lower = np.floor(y - line.thick / 2 - 0.5), np.ceil(y + line.thick / 2 + 0.5) + 1
        above = np.maximum.accumulate(np.where(view, -1, rows), 0) + 1
        below = np.minimum.accumulate(np.where(view, h, rows)[::-1], 0)[::-1]
        inked, top, end = _runs(view, above, below, y)
        along = (x >= line.first - 1) & (x <= line.last + 1)
        alone = inked & (end - lower <= 1) & (upper - top <= 1)
        stroke = _close(inked & ~alone, round(4 * line.thick))
        on_line = (rows >= upper) & (rows < lower)
        core = np.where(on_line, grey, 0).max(0)[along & alone]
        darkness = np.median(core) if len(core) else 255
        begin = np.where(inked, np.minimum(top - 1, upper), upper)
        stop = np.where(inked, np.maximum(end + 1, lower), lower)
        target |= (rows >= begin) & (rows < stop) & along & ~stroke & (grey < 1.5 * darkness + 25)
        strip |= (rows >= upper - 1) & (rows < lower + 1) & along
    return erase | strips[0] & strips[1], strips[0] | strips[1]


def _close(flags, gap):
    """bool [W] with gaps of at most `gap` between two that are set filled."""
    at = np.flatnonzero(flags)
    flags = flags.copy()
    for k in np.flatnonzero((np.diff(at) > 1) & (np.diff(at) <= gap + 1)):
        flags[at[k]:at[k + 1]] = True
    return flags


# ---- specks --------------------------------------------------------------------------------------

def components(mask):
    """Connected ink (by sides and corners): (labels int64 [H,W], 0 is paper, 1 .. n; boxes int64 [n,4] of top, left,
    bottom, right, the last two exclusive; areas int64 [n])."""
    h, w = mask.shape
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    wide = w + 2
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start, end = edges[::2], edges[1::2]              # the runs of all rows
    low = np.searchsorted(end, start + wide, "left")  # those in the next row that touch
    count = np.searchsorted(start, end + wide, "right") - low
    one = np.repeat(np.arange(len(start)), count)
    two = np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count)
    root = np.arange(len(start))
    while (root[one] != root[two]).any():
        a, b = root[one], root[two]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root != root[root]).any():
            root = root[root]
    names, number = np.unique(root, return_inverse=True)
    change = np.zeros(len(flat) + 1, np.int64)
    change[start] = number + 1
    change[end] -= number + 1
    labels = np.cumsum(change)[:-1].reshape(h, wide)[:, 1:-1]
    n = len(names)
    boxes = np.tile([h, w, 0, 0], (n, 1))
    row = start // wide
    for k, (best, value) in enumerate([(np.minimum, row), (np.minimum, start % wide - 1), (np.maximum, row + 1),
                                       (np.maximum, end - 1 - row * wide)]):
        best.at(boxes[:, k], number, value)
    return labels, boxes, np.bincount(number, end - start, n).astype(np.int64)


def _pen_width(mask):
    """Pixels: twice the area over the length of the edge, which pixels make longer by 4 / pi."""
    padded = np.pad(mask, 1)
    edge = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return 2 * np.count_nonzero(mask) * 4 / math.pi / max(edge, 1)


def _keep(f, level, strip, lines):
    """(bool [H,W], the ink that belongs to the glyph with a soft edge around it; was anything dropped?)"""
    mask = f > level
    h, w = mask.shape
    labels, boxes, areas = components(mask)
    if not len(areas):
        return np.ones_like(mask), False
    darkest = np.zeros(len(areas) + 1)
    np.maximum.at(darkest, labels.ravel(), np.clip(f, 0, 255).ravel())
    near_lines = np.bincount(labels[grow(strip, 1)], minlength=len(areas) + 1)[1:] / areas if lines else 0 * areas
    darkest = darkest[1:]
    main = int(np.where(near_lines < 0.8, areas * darkest ** 2, 0).argmax())
    pen, box = _pen_width(labels == main + 1), boxes[main]
    reach = max(pen, 0.4 * max(box[2] - box[0], box[3] - box[1]))
    far = ((boxes[:, 2] < box[0] - reach) | (boxes[:, 0] > box[2] + reach)
           | (boxes[:, 3] < box[1] - reach) | (boxes[:, 1] > box[3] + reach))
    speck = (areas < np.where(far, 1.3, 0.5) * pen ** 2) & (areas < 0.06 * areas[main])
    drop = speck | (near_lines >= 0.8) | (darkest < 0.4 * darkest[main])   # the last: rests of a shadow
    for line in lines:                                # what lies beyond a line belongs to the neighbour
        size = mask.shape[line.side // 2]
        middle = (boxes[:, line.side // 2] + boxes[:, line.side // 2 + 2]) / 2
        beyond = (size - middle if line.side % 2 else middle) < line.depth * size
        drop |= beyond & (line.extent > 0.8 * _size(mask.shape, line.side)[1])
    at_edge = (boxes[:, 0] <= 1, boxes[:, 2] >= h - 1, boxes[:, 1] <= 1, boxes[:, 3] >= w - 1)
    depths = (boxes[:, 2] / h, 1 - boxes[:, 0] / h, boxes[:, 3] / w, 1 - boxes[:, 1] / w)
    if lines or not any(edge[main] for edge in at_edge):           # else the picture may be cut to its ink
        for edge, depth in zip(at_edge, depths):                   # stubs of lines, dirt
            drop |= edge & (depth <= 0.12) & (areas < 0.2 * areas[main])
    drop[main] = False
    outside = ((boxes[:, 2] <= box[0]) | (boxes[:, 0] >= box[2]) | (boxes[:, 3] <= box[1]) | (boxes[:, 1] >= box[3]))
    if not (drop & outside).any():
        drop = np.zeros_like(drop)                    # they harm nothing
    return grow(np.append(False, ~drop)[labels], max(1, round(pen / 3))), bool(drop.any())


def grow(mask, n):
    """`mask` with n more pixels on every side of its ink."""
    for _ in range(n):
        mask = mask.copy()
        before = mask.copy()
        mask[1:] |= before[:-1]
        mask[:-1] |= before[1:]
        before = mask.copy()
        mask[:, 1:] |= before[:, :-1]
        mask[:, :-1] |= before[:, 1:]
    return mask
