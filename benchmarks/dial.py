"""Does the dial turn the pen and nothing else? Generators under other measures than those that they were trained with.

    python benchmarks/dial.py saved_models/generator.onnx saved_models/cvae.onnx
    python benchmarks/dial.py saved_models/kkanji49/generator.onnx --dataset kkanji49.npz

Of --n samples of each file, every class as often and thickness t uniform, and of as many training images with their rank as
t: style accuracy and rank correlation of t with the pen's width within a class (metrics/conditional.py); the same with the
width on the skeleton, twice the mean distance of the skeleton from the edge of the ink (Morpho-MNIST, Castro et al. 2019,
arXiv:1809.10780); and with the area of the box around the ink. Real hands write larger with thicker pens by so much; a dial
that turns the pen alone shows no more. Last the dial itself: of 200 noises, t in 101 steps, how far the image moves (root
mean square of grey levels) in the step across 0.5 and in the largest, over the median step; means.
"""
import numpy as np
import torch
import torch.nn.functional as F
from repository import ROOT  # noqa: F401  (makes the modules of the root importable)

import data
import models
from generate_digits import draw_noise, open_generator, sample_all
from metrics.conditional import dial_metrics
from metrics.statistics import rank_correlation
from utils.cli import Parser, add_data_options, non_empty_path, number, run_command

FINE = 4           # cells a pixel, along each axis, on which skeletons and distances are taken
REACH = 24         # cells: half of the widest stroke that is measured in full
AT_ONCE = 500      # images, which bounds the memory
NOISES, STEPS = 200, 101


def neighbours(ink):
    """The eight neighbours of every cell as bits, uint8 [N, H, W]: north is bit 0, then clockwise. ink bool [N, H, W]."""
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    height, width = ink.shape[1:]
    places = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    return sum(padded[:, y:y + height, x:x + width] << bit for bit, (y, x) in enumerate(places))


def removable():
    """For each of the two half steps of Zhang and Suen 1984, which of the 256 neighbourhoods let a cell go: bool [2, 256]."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    north, _, east, _, south, _, west, _ = bits.T
    starts = ((bits == 0) & (np.roll(bits, -1, 1) == 1)).sum(1)           # pieces of ink around the cell
    both = (bits.sum(1) >= 2) & (bits.sum(1) <= 6) & (starts == 1)
    return np.stack([both & (north * east * south == 0) & (east * south * west == 0),
                     both & (north * east * west == 0) & (north * south * west == 0)])


def skeletons(ink):
    """Thin bool [N, H, W] to lines of one cell (Zhang and Suen 1984)."""
    ink, tables, todo = ink.copy(), removable(), np.arange(len(ink))
    while len(todo):
        part = ink[todo]
        before = part.sum((1, 2))
        for table in tables:
            part &= ~table[neighbours(part)]
        ink[todo] = part
        todo = todo[part.sum((1, 2)) < before]
    return ink


def distances(ink):
    """How far each cell of bool [N, H, W] lies from the ground, in cells, at most REACH: float32, 0 on the ground."""
    squared = np.where(ink, np.uint16(REACH ** 2), np.uint16(0))
    for axis in (1, 2):                                # exact, one axis after the other (Felzenszwalb and Huttenlocher 2012)
        nearest, length = squared.copy(), squared.shape[axis]
        for step in range(1, REACH):
            low, high = (tuple(slice(*ends) if a == axis else slice(None) for a in range(3))
                         for ends in ((0, length - step), (step, length)))
            nearest[low] = np.minimum(nearest[low], squared[high] + np.uint16(step ** 2))
            nearest[high] = np.minimum(nearest[high], squared[low] + np.uint16(step ** 2))
        squared = nearest
    return np.sqrt(squared, dtype=np.float32)


def skeleton_width(images):
    """Mean width of the strokes on their skeletons in pixels, float [N], of uint8 [N, 28, 28]; 0 for a blank image."""
    widths = []
    for part in torch.from_numpy(images).split(AT_ONCE):
        large = F.interpolate(models.from_uint8(part), scale_factor=FINE, mode="bicubic", align_corners=False)
        ink = (large[:, 0] > 0.5).numpy()
        lines = skeletons(ink)
        half = np.where(lines, distances(ink) - 0.5, 0).sum((1, 2)) / np.maximum(lines.sum((1, 2)), 1)
        widths.append(2 * half / FINE)
    return np.concatenate(widths)


def box_area(images):
    """Area of the box around the ink (pixels above 127) in pixels, int64 [N]."""
    ink = images > 127
    sides = [np.where((along := ink.any(axis)).any(1), 28 - along.argmax(1) - along[:, ::-1].argmax(1), 0) for axis in (1, 2)]
    return sides[0] * sides[1]


def within_class(t, values, labels):
    """Rank correlation of t with the values within each class: (mean, worst)."""
    rho = [rank_correlation(t[labels == k], values[labels == k]) for k in np.unique(labels)]
    return np.mean(rho), np.min(rho)


def steps_of_the_dial(source, n_classes):
    """(the step across 0.5, the largest) over the median step, means over NOISES."""
    t = np.linspace(0, 1, STEPS + 1, dtype=np.float32)                    # an even number of values: one step crosses 0.5
    noise, _ = draw_noise(0, 0, NOISES, source.latent)
    middle, largest = [], []
    for i, one in enumerate(noise):
        images = source(np.tile(one, (len(t), 1)), np.full(len(t), i % n_classes), t).astype(np.float32)
        steps = np.sqrt(np.square(np.diff(images, axis=0)).mean((1, 2)))
        usual = max(np.median(steps), 1e-6)
        middle.append(steps[STEPS // 2] / usual)
        largest.append(steps.max() / usual)
    return np.mean(middle), np.mean(largest)


def row(images, labels, t, table, classes):
    """The measures of one set of images."""
    dial = dial_metrics(images, labels, t, table, classes)
    skeleton, box = (within_class(t, values, labels) for values in (skeleton_width(images), box_area(images)))
    return [100 * dial["style_accuracy"], dial["spearman"]["mean"], dial["spearman"]["worst"], dial["width_error"],
            *skeleton, box[0]]


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("generators", nargs="+", type=non_empty_path, metavar="FILE", help="generators, .onnx or .pth")
    parser.add_argument("--dataset", type=non_empty_path, default="mnist")
    parser.add_argument("--n", type=number(int, above=0, at_most=1_000_000), default=10_000, help="samples of each")
    add_data_options(parser)
    args = parser.parse_args()
    g = data.load(args.dataset, args.data_dir, center=not args.no_center)
    table = data.width_table(g.x_train, g.y_train, len(g.classes))
    some = np.flatnonzero(data.rank_in_class(g.y_train, 0) < args.n // len(g.classes))
    x, y = g.x_train[some], g.y_train[some]
    heads = ("style %", "pen: mean", "worst", "error, px", "skeleton: mean", "worst", "box", "step at 0.5", "largest")
    print(f"{'':40}  " + "  ".join(heads))
    rows = {"real images": row(x, y, data.thickness(x, y, table), table, g.classes)}
    for path in args.generators:
        source = open_generator(path)
        rows[path] = [*row(*sample_all(source, args.n, seed=1), table, g.classes), *steps_of_the_dial(source, len(g.classes))]
    for name, values in rows.items():
        print(f"{name[-40:]:40}  " + "  ".join(f"{v:{len(head)}.3f}" for head, v in zip(heads, values)), flush=True)


if __name__ == "__main__":
    run_command(main)
