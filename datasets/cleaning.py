"""What a scanned glyph has beside its ink, found and taken out: uneven light, printed cell lines, specks.

    ink, removed = clean(255 - grey_scan)      # dark ink on paper -> ink on 0; {"cell lines", "specks"}, or unchanged

Everything works on ink that is bright on dark. A picture in which nothing is found comes back as the same array, so
that clean crops stay as they are, bit for bit.

A cell line is straight, thin, within 4 degrees of the side that it lies along, near it, and runs out of the picture. A
stroke may be all this, too: what remains decides (`_is_glyph`), and where that does not tell either, the data set does.
"""
import math

import numpy as np
from PIL import Image

WORK = 200            # pixels of the longest side at which lines and specks are looked for
INK = 64              # of 255: a quarter of full ink is ink
SLOPE = math.tan(math.radians(4))


def clean(a, is_form=False):
    """A picture of one glyph uint8 [H,W], ink brighter than the paper -> (the same, ink 255 on 0, or `a` itself where
    nothing is to be done; set of what was removed: "uneven light", "cell lines", "specks"). With `is_form` strokes that
    look like cell lines are taken as lines (most pictures of the set have some)."""
    removed = set()
    flat = even_light(a)
    if flat is not a:
        removed.add("uneven light")
    full = stretch(flat)
    k = -(-max(a.shape) // WORK)
    f = _max_pool(full, k)
    level = min(max(INK / 2, 4 * noise(f)), 2 * INK)
    erase, lines = _lines(f > level, is_form)
    if lines:
        removed.add("cell lines")
        f = stretch_to_ink(np.where(erase, 0, f), level)
    keep, dropped = _keep(f > max(INK, 4 * noise(f)), lines)
    if dropped:
        removed.add("specks")
    if not removed:
        return a, removed
    keep = (keep & ~erase).repeat(k, 0).repeat(k, 1)[:a.shape[0], :a.shape[1]]
    return stretch_to_ink(np.where(keep, full, 0), INK / 4), removed


# ---- light ---------------------------------------------------------------------------------------

def stretch(a):
    """Paper, the median of the darker half of the range, becomes 0, the strongest ink 255: uint8 [H,W]."""
    top = int(a.max())
    paper = int(np.median(a[a <= (int(a.min()) + top) / 2]))
    if paper == 0 and top == 255:
        return a
    return np.rint(np.clip((a.astype(np.float32) - paper) * (255 / (top - paper)), 0, 255)).astype(np.uint8)


def stretch_to_ink(f, level):
    """The usual ink, not its darkest pixel, becomes 255: a faint pen is full ink then."""
    ink = f[f > level]
    top = float(np.percentile(ink, 85)) if len(ink) else 255.0
    return np.rint(np.clip(f * np.float32(255 / top), 0, 255)).astype(np.uint8)


def noise(f):
    """Standard deviation of the paper's grain, robust: of the pixels that are no ink."""
    paper = f[f < INK]
    return 1.4826 * float(np.median(np.abs(paper - np.median(paper)))) if len(paper) else 0.0


def even_light(a):
    """`a` without its slow changes of paper (shadow, vignetting), or `a` itself where the light is even."""
    grid = np.asarray(Image.fromarray(a).resize((min(24, a.shape[1]), min(24, a.shape[0])), Image.Resampling.BOX), float)
    surface, coefficients = _fit_paper(grid)
    contrast = float(a.max()) - np.median(grid)
    if np.ptp(surface) < 0.1 * contrast:
        return a
    y, x = (np.linspace(-1, 1, 2 * n + 1)[1::2] for n in a.shape)
    paper = _basis(y, x) @ coefficients
    light = np.clip(255 - paper, 32, None)   # dark ink takes away a share of the light that is there
    flat = np.clip((a - paper) / light, 0, 1)
    flat = np.rint(flat * (255 / max(float(flat.max()), 1e-6))).astype(np.uint8)
    return flat if _paper_share(flat) > _paper_share(a) + 0.02 else a


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


def _paper_share(a):
    """Share of pixels within a tenth of the range of the paper."""
    low, top = int(a.min()), int(a.max())
    paper = float(np.median(a[a <= (low + top) / 2]))
    return float(np.mean(np.abs(a - paper) < 0.1 * (top - paper)))


def _max_pool(f, k):
    if k == 1:
        return f
    h, w = (-(-n // k) * k for n in f.shape)
    f = np.pad(f, ((0, h - f.shape[0]), (0, w - f.shape[1])))
    return f.reshape(h // k, k, w // k, k).max((1, 3))


# ---- cell lines ----------------------------------------------------------------------------------

def _sides(a):
    """Views of [H,W] in which the top, bottom, left, right side lies at the top."""
    return a, a[::-1], a.T, a.T[::-1]


def _lines(mask, is_form):
    """(pixels to erase, bool [H,W], the lines that they belong to, a list)"""
    erase, lines = np.zeros_like(mask), []
    for side, (view, target) in enumerate(zip(_sides(mask), _sides(erase))):
        lines += [(side, *line) for line in _lines_at_top(view, target)]
    return erase, lines


def _lines_at_top(mask, erase):
    """The lines along the top of `mask` [H,W], at most three: (depth, is it from edge to edge?); marks them in `erase`."""
    h, w = mask.shape
    rows = max(2, math.ceil(h / 3))
    if mask[:rows].any(0).sum() < 0.3 * w:
        return []
    tall = mask.copy()                                # a pixel up and down is as good
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    drops = np.arange(-math.ceil(SLOPE * w), math.ceil(SLOPE * w) + 1)
    starts = np.unique(np.linspace(0, w, 49).astype(int)[:-1])
    widths = np.diff(np.append(starts, w))
    pieces = np.add.reduceat(tall, starts, 1, dtype=np.int32)                               # [H, pieces]
    pad = len(drops)
    pieces = np.pad(pieces, ((pad, pad), (0, 0)))
    offsets = np.rint(drops[:, None] * ((starts + widths / 2) / w - 0.5)).astype(int)     # [drops, pieces]
    index = pad + np.arange(rows)[None, :, None] + offsets[:, None]
    score = pieces[index, np.arange(len(starts))].sum(-1).astype(float)                    # [drops, rows]
    score -= 0.01 * np.abs(drops)[:, None]
    above = np.maximum.accumulate(np.where(mask, -1, np.arange(h)[:, None]), 0) + 1        # first row of the run
    below = np.minimum.accumulate(np.where(mask, h, np.arange(h)[:, None])[::-1], 0)[::-1]  # row after the run
    found = []
    for _ in range(6):
        drop, row = np.unravel_index(score.argmax(), score.shape)
        if score[drop, row] < 0.25 * w or len(found) == 3:
            break
        y = row + drops[drop] * ((np.arange(w) + 0.5) / w - 0.5)
        line = _check(tall, mask, above, below, y)
        thick = 2
        if line:
            found.append(_erase(mask, erase, above, below, *line))
            thick = line[1]
        near = np.abs(np.arange(rows) - row) <= thick + 1
        score[:, near] = 0
    return found


def _check(tall, mask, above, below, y):
    """Is there a cell line along y [W]? (its y [W], thickness, first column, last, both ends run out?) or None."""
    h, w = mask.shape
    x = np.arange(w)
    at = np.rint(y).astype(int)
    inside = (at >= 0) & (at < h)
    at = np.clip(at, 0, h - 1)
    for step in (0, -1, 1):                           # snap to the ink
        other = np.clip(at + step, 0, h - 1)
        at = np.where(mask[at, x], at, other)
    covered = inside & mask[at, x]
    if covered.sum() < 0.2 * w:
        return None
    top, end = above[at, x], below[at, x]
    length = end - top
    thick = float(np.percentile(length[covered], 35))
    if thick > max(4, 0.09 * max(h, w)):
        return None
    thin = covered & (length <= thick + max(2, 0.6 * thick))
    columns = np.flatnonzero(thin)
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > max(5, 0.2 * w)) + 1)
    columns = max(groups, key=len)
    if len(columns) < 8 or len(columns) < 0.15 * w:
        return None
    first, last = columns[0], columns[-1]
    if len(columns) < 0.6 * covered[first:last + 1].sum() or covered[first:last + 1].mean() < 0.6:
        return None
    middle = (top + end - 1)[columns] / 2
    slope, height = np.polyfit(columns, middle, 1)
    rest = middle - (slope * columns + height)
    good = np.abs(rest) <= max(1.0, 2 * np.median(np.abs(rest)))
    if good.sum() > 8:
        slope, height = np.polyfit(columns[good], middle[good], 1)
        rest = middle - (slope * columns + height)
    if np.percentile(np.abs(rest), 80) > 0.8 + 0.003 * w or abs(slope) > SLOPE * 1.1:
        return None
    y = slope * x + height
    out = [y[first] - thick / 2 <= 1.5 or first <= 2, y[last] - thick / 2 <= 1.5 or last >= w - 3]
    depth, extent = y[first:last + 1].mean() / h, (last - first + 1) / w
    if sum(out) == 0 or (depth > 0.16 and (sum(out) < 2 or extent < 0.8)) or (sum(out) == 1 and extent < 0.3):
        return None
    return y, thick, (0 if out[0] else first), (w - 1 if out[1] else last), all(out) and extent > 0.8


def _erase(mask, erase, above, below, y, thick, first, last, is_full):
    """Mark the line in `erase`, but not where a stroke crosses it; where one touches it from within, up to there."""
    h, w = mask.shape
    half = thick / 2 + 0.5
    for x in range(max(0, first - 1), min(w, last + 2)):
        upper, lower = max(0, math.floor(y[x] - half)), min(h, math.ceil(y[x] + half) + 1)
        inked = np.flatnonzero(mask[upper:lower, x])
        if len(inked):
            top, end = above[upper + inked[0], x], below[upper + inked[-1], x]
            within, beyond = end - lower, upper - top
            if within > 1 and beyond > max(2, thick):
                continue                              # a stroke crosses
            upper, lower = top - 1, (lower if within > 1 else end + 1)
        erase[max(0, upper):max(0, lower), x] = True
    return float(y[first:last + 1].mean()) / h, bool(is_full)


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


def _keep(mask, lines):
    """(bool [H,W], the ink that belongs to the glyph with a soft edge around it; was anything dropped?)"""
    h, w = mask.shape
    labels, boxes, areas = components(mask)
    if not len(areas):
        return np.ones_like(mask), False
    main = int(areas.argmax())
    pen = _pen_width(labels == main + 1)
    speck = areas < min(0.35 * pen ** 2, 0.03 * areas.sum())
    box = boxes[main]
    for side, depth, is_full in lines:                # what lies beyond a line belongs to the neighbour
        middle = (boxes[:, side // 2] + boxes[:, side // 2 + 2]) / 2 / mask.shape[side // 2]
        beyond = middle > 1 - depth if side % 2 else middle < depth
        speck |= is_full & beyond
    at_edge = (boxes[:, 0] <= 1, boxes[:, 2] >= h - 1, boxes[:, 1] <= 1, boxes[:, 3] >= w - 1)
    reach = (boxes[:, 2], h - boxes[:, 0], boxes[:, 3], w - boxes[:, 1])
    for side in range(4):                             # stubs of lines along an edge
        size = mask.shape[side // 2]
        clear = lines or not any(edge[main] for edge in at_edge)
        stub = at_edge[side] & (reach[side] <= max(3, 0.12 * size)) & (areas < 0.2 * areas[main])
        if clear:
            speck |= stub
    speck[main] = False
    far = ((boxes[:, 2] < box[0] - pen) | (boxes[:, 0] > box[2] + pen)
           | (boxes[:, 3] < box[1] - pen) | (boxes[:, 1] > box[3] + pen))
    if not (speck & far).any() and not lines:
        return np.ones_like(mask), False
    kept = np.append(False, ~speck)[labels]
    return grow(kept, max(1, round(pen / 3))), bool(speck.any())


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
