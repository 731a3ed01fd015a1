"""Fifteen ways in which a scan or a photo of a glyph goes wrong, in numpy alone.

    damaged = corrupt(images, "fog", severity=3, seed=0)       # uint8 [N, 28, 28] -> uint8 [N, 28, 28]

The kinds are those of MNIST-C (Mu and Gilmer 2019, arXiv:1906.02337), written anew from what they are meant to do, with
Gaussian noise and Gaussian blur in place of its glass blur and Canny edges: call figures "MNIST-C-like".
Severity 1 to 5 is the place in the list of each kind; 3 is the usual one, at which people still read nearly all digits.
Image i of a call depends on (images[i], kind, severity, seed, i) alone: the same in a longer or shorter array.
"""
import numpy as np

from generate_digits import random_numbers
from utils.files import UserError

SIDE = 28
CENTRE = (SIDE - 1) / 2
RANDOM = 2 * SIDE * SIDE         # random numbers of one image: as many as the kind needs that needs most
BLOCK = 500                      # images at a time: a block's random numbers take 6 MB
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)[:, None]           # of every pixel, [1, 28, 28] each


# ---- helpers: x float64 [N, 28, 28] in [0, 1], u float64 [N, k] ~ U[0, 1) ------------------------

def normals(u):
    """Uniform numbers [N, 2 * 784] -> standard normals [N, 28, 28] (Box and Muller 1958)."""
    a, b = np.split(u.reshape(-1, 2 * SIDE, SIDE), 2, axis=1)
    return np.sqrt(-2 * np.log1p(-a)) * np.cos(2 * np.pi * b)


def resample(x, rows, columns):
    """The images at fractional places [N or 1, 28, 28], bilinear; outside the frame there is background."""
    rows, columns = np.clip(rows, -2, SIDE + 1), np.clip(columns, -2, SIDE + 1)
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3)))
    r, c = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    a, b = rows - r, columns - c
    n, r, c = np.arange(len(x))[:, None, None], r + 3, c + 3
    return ((1 - a) * ((1 - b) * padded[n, r, c] + b * padded[n, r, c + 1]) +
            a * ((1 - b) * padded[n, r + 1, c] + b * padded[n, r + 1, c + 1]))


def affine(x, a, b, c, d):
    """The images with the pixel at (row, column) from the centre taken from (a row + b column, c row + d column);
    a ... d are numbers or float64 [N, 1, 1]."""
    row, column = ROWS - CENTRE, COLUMNS - CENTRE
    return resample(x, a * row + b * column + CENTRE, c * row + d * column + CENTRE)


def blur(x, sigma):
    """The images under a Gaussian of `sigma` pixels; outside the frame there is background."""
    weight = np.exp(-(ROWS - COLUMNS)[0] ** 2 / (2 * sigma ** 2))
    weight /= weight[SIDE // 2].sum()
    return weight @ x @ weight


def segment_distance(ends):
    """ends float64 [N, 4] (row, column, row, column) -> the distance of every pixel from the segment, and where along
    it the nearest point lies, 0 to 1: float64 [N, 28, 28] each."""
    r0, c0, r1, c1 = (v[:, None, None] for v in ends.T)
    dr, dc = r1 - r0, c1 - c0
    t = np.clip(((ROWS - r0) * dr + (COLUMNS - c0) * dc) / np.maximum(dr ** 2 + dc ** 2, 1e-9), 0, 1)
    return np.hypot(ROWS - r0 - t * dr, COLUMNS - c0 - t * dc), t


def line_ends(u):
    """Ends of a line from rim to rim through the middle half of the frame: float64 [N, 4], u [N, 2]."""
    angle, offset = np.pi * u[:, 0], (u[:, 1] - 0.5) * SIDE / 2
    r, c = CENTRE + offset * np.cos(angle), CENTRE - offset * np.sin(angle)
    return np.stack([r - 20 * np.sin(angle), c - 20 * np.cos(angle), r + 20 * np.sin(angle), c + 20 * np.cos(angle)], 1)


def cloud_field(u, roughness):
    """Smooth random fields float64 [N, 28, 28] in [0, 1]: noise u [N, >= 404] on grids of 3, 5, 9 and 17 points a side,
    each finer one weaker by `roughness`, interpolated to 28 x 28."""
    field = 0.0
    for octave, (size, start) in enumerate(((3, 0), (5, 9), (9, 34), (17, 115))):
        grid = u[:, start:start + size * size].reshape(-1, size, size)
        position = np.linspace(0, size - 1 - 1e-9, SIDE)
        low, fraction = position.astype(np.int64), position % 1
        fraction = fraction * fraction * (3 - 2 * fraction)                      # no creases at the grid's lines
        weight = np.zeros((SIDE, size))
        weight[np.arange(SIDE), low] += 1 - fraction
        weight[np.arange(SIDE), low + 1] += fraction
        field = field + roughness ** octave * (weight @ grid @ weight.T)
    low, high = field.min((1, 2), keepdims=True), field.max((1, 2), keepdims=True)
    return (field - low) / (high - low)


# ---- the kinds: f(x, u, v) with v the value of the severity --------------------------------------

def shot_noise(x, u, v):
    """Few photons: each pixel is a Poisson count of mean v x, divided by v; background counts as 0.02, not as none."""
    mean = v * np.maximum(x, 0.02)
    # the inverse of Poisson's distribution at u, by adding up its terms: counts above 4 v + 20 never happen
    count, term, u = np.zeros_like(mean), np.exp(-mean), u[:, :SIDE * SIDE].reshape(x.shape)
    total = term.copy()
    for k in range(1, int(4 * v) + 20):
        count += u >= total
        term = term * mean / k
        total += term
    return count / v


def impulse_noise(x, u, v):
    """Salt and pepper: a fraction v of the pixels is black or white."""
    hit, value = np.split(u.reshape(-1, 2 * SIDE, SIDE), 2, axis=1)
    return np.where(hit < v, value < 0.5, x)


def motion_blur(x, u, v):
    """The mean along a path of v pixels, for each image in its own direction."""
    angle = np.pi * u[:, :1, None]
    steps = np.linspace(-v / 2, v / 2, round(1.5 * v) + 1)
    return sum(resample(x, ROWS + s * np.sin(angle), COLUMNS + s * np.cos(angle)) for s in steps) / len(steps)


def shear(x, u, v):
    """Slant by v pixels a pixel, to the left or to the right."""
    return affine(x, 1, 0, np.where(u[:, :1, None] < 0.5, -v, v), 1)


def scale(x, u, v):
    """Smaller, to v times the size; blurred before as much as that takes to lose no thin stroke."""
    return affine(blur(x, 0.4 * (1 / v - 1)), 1 / v, 0, 0, 1 / v)


def rotate(x, u, v):
    """By v degrees, either way."""
    angle = np.radians(np.where(u[:, :1, None] < 0.5, -v, v))
    return affine(x, np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle))


def translate(x, u, v):
    """By v pixels in any direction; what leaves the frame is lost."""
    angle = 2 * np.pi * u[:, :1, None]
    return resample(x, ROWS - v * np.sin(angle), COLUMNS - v * np.cos(angle))


def stripe(x, u, v):
    """A band of v columns in the middle third, inverted: a fold of the paper, a fault of the scanner."""
    start = np.floor(9 + u[:, :1] * (11 - v))[:, :, None]
    return np.where((COLUMNS >= start) & (COLUMNS < start + v), 1 - x, x)


def dotted_line(x, u, v):
    """v dotted lines across, as of a form."""
    for i in range(v):
        distance, t = segment_distance(line_ends(u[:, 3 * i:]))
        dots = (40 * t / 2.5 + u[:, 3 * i + 2, None, None]) % 1 < 0.5                        # 2.5 pixels a dot
        x = np.maximum(x, np.clip(1.3 - distance, 0, 1) * dots)
    return x


def zigzag(x, u, v):
    """A zigzag line across, its teeth v pixels high."""
    ends = line_ends(u)
    t = np.linspace(0, 1, 15)[:, None]
    along = ends[:, None, :2] + t * (ends[:, None, 2:] - ends[:, None, :2])                  # [N, 15, 2]
    normal = (ends[:, 2:] - ends[:, :2])[:, None, ::-1] * (1, -1) / 40
    points = along + normal * (v * np.where(np.arange(15) % 2, -0.5, 0.5))[None, :, None]
    distance = np.min([segment_distance(points[:, i:i + 2].reshape(-1, 4))[0] for i in range(14)], 0)
    return np.maximum(x, np.clip(1.3 - distance, 0, 1))


def fog(x, u, v):
    """Clouds up to v times as bright as ink before it; the sum is scaled down to fit, which fades the ink."""
    return (x + v * cloud_field(u, 0.6)) / (1 + v)


def spatter(x, u, v):
    """Drops of ink: where a cloud of the finest kind exceeds a level, on a fraction v of the frame."""
    field = blur(normals(u), 1.2)
    level = np.quantile(field, 1 - v, axis=(1, 2), keepdims=True)
    return np.maximum(x, np.clip((field - level) * 12, 0, 1))


# name -> (function, its value at severity 1, 2, 3, 4, 5)
CORRUPTIONS = {
    "shot noise": (shot_noise, (20, 10, 5, 3, 2)), "impulse noise": (impulse_noise, (0.04, 0.08, 0.14, 0.22, 0.32)),
    "Gaussian noise": (lambda x, u, v: x + v * normals(u), (0.1, 0.2, 0.3, 0.4, 0.5)),        # of deviation v
    "Gaussian blur": (lambda x, u, v: blur(x, v), (0.6, 0.9, 1.2, 1.6, 2.0)),       # out of focus, by v pixels
    "motion blur": (motion_blur, (2, 3.5, 5, 6.5, 8)),
    "shear": (shear, (0.2, 0.3, 0.4, 0.5, 0.6)), "scale": (scale, (0.85, 0.75, 0.65, 0.55, 0.45)),
    "rotate": (rotate, (10, 20, 30, 38, 45)), "translate": (translate, (2, 3, 4, 5, 6)),
    "brightness": (lambda x, u, v: x + v, (0.15, 0.3, 0.45, 0.6, 0.75)),                      # a light veil
    "stripe": (stripe, (1, 2, 3, 5, 7)),
    "dotted line": (dotted_line, (1, 2, 3, 4, 5)), "zigzag": (zigzag, (2, 3.5, 5, 7, 9)),
    "fog": (fog, (0.3, 0.5, 0.75, 1.0, 1.4)), "spatter": (spatter, (0.03, 0.06, 0.1, 0.15, 0.2))}


def corrupt(images, kind, severity=3, seed=0):
    """Damage images uint8 [N, 28, 28], ink 255 on 0 -> the same, a new array.

    kind: a name in CORRUPTIONS; severity: 1 to 5; seed: a whole number from 0 on, the same places and directions at
    every severity. Raises UserError for anything else."""
    images = np.asarray(images)
    if kind not in CORRUPTIONS:
        raise UserError(f"no corruption {kind!r}: choose of {', '.join(CORRUPTIONS)}")
    if severity not in range(1, 6):
        raise UserError(f"severity {severity}: from 1 to 5 is possible")
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
        raise UserError(f"corruptions need uint8 images [N, 28, 28], not {images.dtype} {list(images.shape)}")
    damage, values = CORRUPTIONS[kind]
    # every kind has a random stream of its own, in which image i has its fixed place
    key = int(np.random.SeedSequence([seed, list(CORRUPTIONS).index(kind)]).generate_state(1, np.uint64)[0])
    out = np.empty_like(images)
    for start in range(0, len(images), BLOCK):
        block = images[start:start + BLOCK]
        u = random_numbers(key, start, len(block), RANDOM)
        out[start:start + BLOCK] = np.clip(damage(block / 255, u, values[severity - 1]) * 255 + 0.5, 0, 255)
    return out
