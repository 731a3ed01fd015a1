"""The printed lines of a form's cells in a scan of one glyph: found, told from strokes, and which pixels are theirs.

    lines = find_lines(ink, level)                       # float [H, W], bright on dark
    lines, erase, strip = without_strokes(ink, level, lines, is_form=False)

A cell line is straight, thin, within 4 degrees of the side that it lies along, near it, and runs out of the picture. A
stroke may be all this, too: what remains decides (`without_strokes`), and where that leaves a doubt, the data set.
"""
import functools
import math
from dataclasses import dataclass

import numpy as np

from datasets.components import components, grow

SLOPE = math.tan(math.radians(4))


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
    in_frame: bool = False  # one of those that close a frame without a gap

    @property
    def extent(self):
        return self.last - self.first + 1


def _views(a):
    """Views of [H,W] in which the top, bottom, left, right side lies at the top."""
    return a, a[::-1], a.T, a.T[::-1]


def find_lines(f, level, frames=False):
    """The straight lines around the glyph in float [H,W], ink above `level`: a list of Line. With `frames` also those
    that run out of the picture nowhere, but into each other, around a cell that lies within it."""
    mask = f > level
    if not frames and not any(view[:2].any() for view in _views(mask)):
        return []                                     # no ink runs out of the picture
    found = [line for side, view in enumerate(_views(mask)) for line in _candidates(view, side)]
    lines = [line for line in found if _is_line(line, mask.shape)]
    frame = _frame(found, mask.shape) if frames else []
    for line in frame:
        line.in_frame = all(all(_ends(other, frame, mask.shape)) for other in frame)
    lines += [line for line in frame if line not in lines]
    for line in found if lines else []:               # a line may also end at another one, at a corner of the cell
        if line not in lines:
            line.ends = _ends(line, lines, mask.shape)
            is_missing = frame and any(line.ends) and line.side not in [other.side for other in lines]
            if (all(line.ends) or is_missing) and _is_line(line, mask.shape):
                lines.append(line)
    return lines


def _ends(line, others, shape):
    """[bool, bool], does it run out of the picture or into one of the others at its first column, at its last?"""
    return [end or any(_meet(line, k, other, shape) for other in others) for k, end in enumerate(line.ends)]


def _frame(found, shape):
    """Those of the lines that make a frame: on all four sides but for two gaps, or on three but for one."""
    frame = [line for line in found if line.depth < 0.25]
    while not all(tied := [any(_ends(line, frame, shape)) for line in frame]):
        frame = [line for line, is_tied in zip(frame, tied) if is_tied]
    loose = sum(2 - sum(_ends(line, frame, shape)) for line in frame)
    return frame if loose <= {3: 2, 4: 4}.get(len({line.side for line in frame}), -1) else []


def without_strokes(f, level, lines, is_form):
    """(those of the lines that are none of the glyph's strokes; see _erase for the rest)

    A long 1, a dash or the bar of a 7 that is cut to its ink look like lines. What remains without them decides: if it
    is nothing, or if it spans the picture from the line to the opposite side, they are strokes. In the pictures
    of a form only the innermost line is one, where nothing else remains, or a whole frame."""
    mask = f > level
    lines = sorted(lines, key=lambda line: line.depth)
    while lines:
        erase, strip = _erase(f, mask, lines)
        labels, boxes, areas = components(mask & ~grow(erase, 1))
        thick = max(line.thick for line in lines)
        if is_form and all(line.in_frame for line in lines):
            thick /= 2                                # a dot within a frame
        least = thick ** 2 if is_form else max(thick ** 2, 0.15 * np.count_nonzero(erase & mask))
        if len(areas) and areas.max() >= max(least, 4):
            main = labels == areas.argmax() + 1
            if is_form or not any(_is_stroke(line, lines, main, boxes[areas.argmax()]) for line in lines):
                return lines, erase, strip
        if any(line.in_frame for line in lines):      # 口, or an empty cell
            lines = [line for line in lines if not line.in_frame]
        else:
            lines = lines[:-1] if is_form else []
    return [], np.zeros_like(mask), np.zeros_like(mask)


def _is_stroke(line, lines, main, box):
    """Does the ink `main` (its box: top, left, bottom, right) reach the opposite edge of the picture, which is then cut
    to its ink, or hang on a line that is short or has another one opposite, on which it hangs, too?"""
    across, along = across_along(main.shape, line.side)
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


def across_along(shape, side):
    """(across, along) a side."""
    return shape if side < 2 else shape[::-1]


def _is_line(line, shape):
    """Is it long enough for how deep it lies and for where it ends?"""
    extent, ends = line.extent / across_along(shape, line.side)[1], sum(line.ends)
    return ends == 2 and (extent > 0.8 or line.depth < 0.2) or ends == 1 and extent > 0.4 and line.depth < 0.2


def _meet(line, k, other, shape):
    """Does the first (k = 0) or last (k = 1) column of the line lie on the other one?"""
    if other.side != (2 + k if line.side < 2 else k):
        return False
    across, along = across_along(shape, line.side)
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
        over, under = upper - top, end - lower        # a stroke that ends at the line is as good without its last bit
        touching = stroke & (np.maximum(over, under) >= max(2, line.thick)) & (np.minimum(over, under) <= 1)
        on_line = (rows >= upper) & (rows < lower)
        core = np.where(on_line, grey, 0).max(0)[along & alone]
        darkness = np.median(core) if len(core) else 255
        begin = np.where(inked, np.minimum(top - 1, upper), upper)
        stop = np.where(inked, np.maximum(end + 1, lower), lower)
        begin, stop = np.where(touching, upper, begin), np.where(touching, lower, stop)
        target |= (rows >= begin) & (rows < stop) & along & (touching | ~stroke) & (grey < 1.5 * darkness + 25)
        strip |= (rows >= upper - 1) & (rows < lower + 1) & along
    return erase | strips[0] & strips[1], strips[0] | strips[1]


def _close(flags, gap):
    """bool [W] with gaps of at most `gap` between two that are set filled."""
    at = np.flatnonzero(flags)
    flags = flags.copy()
    for k in np.flatnonzero((np.diff(at) > 1) & (np.diff(at) <= gap + 1)):
        flags[at[k]:at[k + 1]] = True
    return flags
