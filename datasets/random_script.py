"""Characters of scripts that nobody writes: a random pen path for each class, in the notation of strokes.py.

    variants = random_character(chances)         # [(weight, "12,0 14,60! 70,96 / 4,40 66,38"), ...]

A character has one to four strokes, each a few moves of the pen: a straight line, a bow, a loop, a hook at the end.
Its points lie near a coarse grid, and most strokes begin on an earlier one or cross it, as in scripts that people use.
The variants are its ways of writing: points elsewhere, corners rounded, strokes lengthened, the pen not lifted.
No torch, no numpy; whatever is random comes in as numbers, so that a class depends on nothing else.
"""
import math

CHANCES = 512              # uniform numbers in [0, 1) that a character is made of
COLUMNS, ROWS = (0, 34, 68), (0, 25, 50, 75, 100)      # the grid; a glyph's height is 100
NEAR = 7                   # how far a point lies from its place on the grid, at most
STROKES = (0.25, 0.6, 0.88, 1)     # cumulative shares of characters of one, two, three and four strokes
MOVES = {1: (3, 5), 2: (2, 3), 3: (1, 2), 4: (1, 1)}   # strokes -> moves of each, at least and at most
MOST_POINTS = 24           # of a character
WEIGHTS = (4, 2, 1)        # how often its variants are written
TOUCHING = 3               # the distance of points up to which they are one
MOVED = 8                  # how far a point lies elsewhere in another hand, at most
SHORTEST = 32              # of a line or bow


class _Chances:
    """Uniform numbers, taken one after the other."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def uniform(self, low=0.0, high=1.0):
        return low + (high - low) * next(self.numbers)

    def index(self, n):
        return int(self.uniform(0, n))

    def happens(self, share):
        return self.uniform() < share


def random_character(chances):
    """The variants of one class, [(weight, path text)], as in strokes.DIGITS, each of at most MOST_POINTS points.
    chances: CHANCES floats in [0, 1)."""
    chances = _Chances(chances)
    count = 1 + sum(chances.uniform() >= share for share in STROKES)
    strokes = []
    for _ in range(count):
        room = (MOST_POINTS - sum(map(len, strokes))) // (count - len(strokes))
        least, most = MOVES[count]
        strokes.append(_stroke(chances, strokes, least + chances.index(1 + most - least), room))
    hands = [strokes, *(_rewritten(chances, strokes) for _ in WEIGHTS[1:])]
    return list(zip(WEIGHTS, map(_text, map(_framed, hands))))


def _grid_point(chances):
    """A random place near the grid."""
    return tuple(line[chances.index(len(line))] + chances.uniform(-NEAR, NEAR) for line in (COLUMNS, ROWS))


def _far_point(chances, start):
    """A place near the grid that is not too near `start`: the farthest of a few where none is."""
    places = []
    for _ in range(4):
        places.append(_grid_point(chances))
        if math.dist(places[-1], start) >= SHORTEST:
            return places[-1]
    return max(places, key=lambda place: math.dist(place, start))


def _stroke(chances, earlier, moves, room):
    """Points of a stroke, [[x, y, is a sharp corner]]. earlier: strokes drawn before; room: points it may have."""
    start, end = _grid_point(chances), None
    if earlier and chances.happens(0.75):
        stroke = earlier[chances.index(len(earlier))]
        at = chances.index(len(stroke) - 1)
        (x0, y0, _), (x1, y1, _), part = stroke[at], stroke[at + 1], chances.uniform(0.2, 0.8)
        meeting = x0 + part * (x1 - x0), y0 + part * (y1 - y0)
        if chances.happens(0.5):                   # begins there
            start = meeting
        else:                                      # crosses it
            angle = math.atan2(y1 - y0, x1 - x0) + chances.uniform(0.6, 2.5)
            before, after = chances.uniform(18, 40), chances.uniform(18, 40)
            start = meeting[0] - before * math.cos(angle), meeting[1] - before * math.sin(angle)
            end = meeting[0] + after * math.cos(angle), meeting[1] + after * math.sin(angle)
    points = [[*start, False]]
    for number in range(moves):
        if len(points) + 2 > room:
            break
        if number and len(points) + 6 <= room and chances.happens(0.22):
            _loop(chances, points)
        elif number == moves - 1 and moves > 1 and chances.happens(0.3):
            _hook(chances, points)
        else:
            _line(chances, points, end if end and not number else None)
    return points


def _line(chances, points, end):
    """Draw on, straight or bowed, to `end` or to a random place."""
    x, y = points[-1][:2]
    end = end or _far_point(chances, (x, y))
    points[-1][2] = len(points) > 1 and chances.happens(0.5)
    if chances.happens(0.55):
        bow = chances.uniform(0.18, 0.45) * (1 if chances.happens(0.5) else -1)
        points.append([(x + end[0]) / 2 - bow * (end[1] - y), (y + end[1]) / 2 + bow * (end[0] - x), False])
    points.append([*end, False])


def _loop(chances, points):
    """A loop that begins and ends where the pen is, on the side it is heading for."""
    (x0, y0, _), (x, y, _) = points[-2:]
    radius, side = chances.uniform(10, 19), 1 if chances.happens(0.5) else -1
    heading = math.atan2(y - y0, x - x0)
    centre = x - side * radius * math.sin(heading), y + side * radius * math.cos(heading)
    for quarter in (1, 2, 3, 3.9):
        angle = heading - side * math.pi / 2 + side * quarter * math.pi / 2
        points.append([centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle), False])


def _hook(chances, points):
    """Turn back for a short way."""
    (x0, y0, _), (x, y, _) = points[-2:]
    angle = math.atan2(y - y0, x - x0) + chances.uniform(1.6, 2.7) * (1 if chances.happens(0.5) else -1)
    length, points[-1][2] = chances.uniform(14, 26), chances.happens(0.5)
    points.append([x + length * math.cos(angle), y + length * math.sin(angle), False])


def _framed(strokes):
    """The strokes moved and scaled so that their longer side spans 0 to 100."""
    xs, ys = ([point[i] for stroke in strokes for point in stroke] for i in (0, 1))
    scale = 100 / max(max(xs) - min(xs), max(ys) - min(ys))
    return [[[scale * (x - min(xs)), scale * (y - min(ys)), corner] for x, y, corner in stroke] for stroke in strokes]


def _rewritten(chances, strokes):
    """The same character in another hand."""
    changed = []
    for stroke in strokes:
        stroke = [[x + chances.uniform(-MOVED, MOVED), y + chances.uniform(-MOVED, MOVED),
                   corner and chances.happens(0.6)] for x, y, corner in stroke]
        for end, inner in ((0, 1), (-1, -2)):      # longer or shorter
            grow = chances.uniform(-0.1, 0.25)
            for i in (0, 1):
                stroke[end][i] += grow * (stroke[end][i] - stroke[inner][i])
        if changed and chances.happens(0.12):      # the pen is not lifted
            changed[-1][-1][2] = stroke[0][2] = True
            changed[-1] += stroke
        else:
            changed.append(stroke)
    return changed


def _text(strokes):
    """As strokes.py reads it. Points that nearly coincide become one, strokes without a length are left out."""
    written = []
    for stroke in strokes:
        kept = stroke[:1]
        for point in stroke[1:]:
            if math.dist(point[:2], kept[-1][:2]) > TOUCHING:
                kept.append(point)
        if len(kept) > 1:
            corners = [False, *(corner for _, _, corner in kept[1:-1]), False]
            written.append(" ".join(f"{round(x)},{round(y)}{'!' * corner}" for (x, y, _), corner in zip(kept, corners)))
    return " / ".join(written)
