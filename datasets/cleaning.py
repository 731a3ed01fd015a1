"""What a scanned glyph has beside its ink, found and taken out: uneven light, printed cell lines, specks.

    ink, removed = clean(255 - grey_scan)      # dark ink on paper -> ink on 0; {"cell lines", "specks"}, or unchanged

Everything works on ink that is bright on dark. A picture in which nothing is found comes back as the same array, so
that clean crops stay as they are, bit for bit.
"""
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from datasets.cell_lines import SLOPE, across_along, find_lines, without_strokes
from datasets.components import components, grow

WORK = 200            # pixels of the longest side at which lines and specks are looked for
INK = 64              # of 255: a quarter of full ink is ink
MUCH_GRAIN = 5        # of 255, standard deviation


def clean(a, lines="clear"):
    """A picture of one glyph uint8 [H,W], ink brighter than the paper -> (the same, ink 255 on 0, or `a` itself where
    nothing is to be done; set of what was removed: "uneven light", "cell lines", "specks", "grain").

    `lines`, what is taken for a cell line: "clear" ones alone, "frames" around the glyph, too, "all" that may be one
    (right where most pictures of a set have some), or "none"."""
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
    found = [] if lines == "none" else find_lines(f, level, lines in ("frames", "all"))
    if found:
        found, erase, strip = without_strokes(f, level, found, lines == "all")
    if found:
        removed.add("cell lines")
        f = np.where(erase, 0, f)
        gain = 255 / _usual_ink(f)
        f, grain = f * gain, grain * gain
    keep, dropped = _keep(f, min(max(INK, 4 * grain), 2 * INK), strip, found, lines == "all")
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
    """The grey level of a pen's ink, not of its darkest pixel: a faint pen is full ink then. Pixels count by the cube
    of their ink, so that a pen outweighs a wide remnant of a shadow."""
    ink = np.sort(f[f > INK / 2])
    return float(ink[np.searchsorted(np.cumsum(ink ** 3), 0.75 * (ink ** 3).sum())]) if len(ink) else 255.0


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


# ---- specks --------------------------------------------------------------------------------------

def _pen_width(mask):
    """Pixels: twice the area over the length of the edge, which pixels make longer by 4 / pi."""
    padded = np.pad(mask, 1)
    edge = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return 2 * np.count_nonzero(mask) * 4 / math.pi / max(edge, 1)


def _pieces_of_lines(boxes, shape, lines):
    """Which boxes int64 [n,4] hold ink that is flat, along a side of the picture and near it: bool [n]."""
    thick = max([line.thick for line in lines], default=0.02 * max(shape))
    pieces = np.zeros(len(boxes), bool)
    for axis in (0, 1):
        start, end = boxes[:, axis], boxes[:, axis + 2]
        across, along = end - start, boxes[:, 3 - axis] - boxes[:, 1 - axis]
        middle = (start + end) / 2 / shape[axis]
        pieces |= (across <= thick + 2 + SLOPE * along) & (along >= 2 * across) & (np.abs(middle - 0.5) > 0.35)
    return pieces


def _keep(f, level, strip, lines, is_form):
    """(bool [H,W], the ink that belongs to the glyph with a soft edge around it; was anything dropped?)"""
    mask = f > level
    h, w = mask.shape
    labels, boxes, areas = components(mask)
    if not len(areas):
        return np.ones_like(mask), False
    ink = np.clip(f, 0, 255).ravel()
    darkest = np.zeros(len(areas) + 1)
    np.maximum.at(darkest, labels.ravel(), ink)
    mean, cubes = (np.bincount(labels.ravel(), ink ** power, len(areas) + 1)[1:] for power in (1, 3))
    darkest, mean = darkest[1:], mean / areas
    near_lines = np.bincount(labels[grow(strip, 1)], minlength=len(areas) + 1)[1:] / areas if lines else 0 * areas
    weight = np.where(near_lines < 0.8, cubes, 0)
    pieces = _pieces_of_lines(boxes, mask.shape, lines) if is_form else np.zeros(len(areas), bool)
    main = int((np.where(pieces, 0.1, 1) * weight).argmax())
    pen, box = _pen_width(labels == main + 1), boxes[main]
    reach = max(pen, 0.4 * max(box[2] - box[0], box[3] - box[1]))
    far = ((boxes[:, 2] < box[0] - reach) | (boxes[:, 0] > box[2] + reach)
           | (boxes[:, 3] < box[1] - reach) | (boxes[:, 1] > box[3] + reach))
    speck = (areas < np.where(far, 1.3, 0.8 if is_form else 0.5) * pen ** 2) & (areas < 0.06 * areas[main])
    if is_form:
        longest = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        share = 0.5 if longest[main] < 3 * pen else 0.15                # beside a dot dirt is as large as its half
        speck |= far & (areas < share * areas[main]) & (longest < 2 * share * longest[main]) | pieces
    drop = speck | (near_lines >= 0.8) | (darkest < 0.4 * darkest[main]) | (mean < 0.5 * mean[main])   # rests of shadows
    for line in lines:                                # what lies beyond a line belongs to the neighbour
        size = mask.shape[line.side // 2]
        middle = (boxes[:, line.side // 2] + boxes[:, line.side // 2 + 2]) / 2
        beyond = (size - middle if line.side % 2 else middle) < line.depth * size
        drop |= beyond & (line.extent > 0.8 * across_along(mask.shape, line.side)[1])
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
