"""Does the dial turn the pen and nothing else? Generators under other measures than those that they were trained with.

    python benchmarks/dial.py saved_models/generator.onnx saved_models/cvae.onnx
    python benchmarks/dial.py saved_models/kkanji49/generator.onnx --dataset kkanji49.npz

Of --n samples of each file, every class as often and thickness t uniform, and of as many training images with their rank as
t: style accuracy and rank correlation of t with the pen's width within a class (metrics/conditional.py); the same with the
width on the skeleton, twice the mean distance of the skeleton from the edge of the ink (Morpho-MNIST, Castro et al. 2019,
arXiv:1809.10780), of which real images show how far the two widths agree; and with the area of the box around the ink, the
mean of all classes, and by how much the class that is furthest above real images is above them (by chance, of 1,000 samples
of a class: 0.05 to 0.1). Real hands write larger with thicker pens by so much; a dial that turns the pen alone shows no more.

Last the dial itself, of 200 noises, t in 102 values from 0 to 1. Growth: pixels that the sides of the box (their mean) gain
for a pixel of the pen's width from t = 0 to 1; 1 where strokes widen in their place; for real images the slope of the
side on the width within a class. Steps: how far the image moves (root mean square of grey levels), in the step across 0.5, mean
and largest, and in the largest step, mean and largest, over the noise's median step.
"""
import numpy as np
from PIL import Image
from repository import ROOT  # noqa: F401  (makes the modules of the root importable)

import data
from datasets.normalize import SIDE
from generate_digits import draw_noise, open_generator, sample_all
from metrics.conditional import dial_metrics
from metrics.statistics import rank_correlation
from utils.cli import Parser, add_data_options, non_empty_path, number, run_command
from utils.files import UserError

FINE = 4           # cells a pixel, along each axis, on which skeletons and distances are taken
REACH = 24         # cells: half of the widest stroke that is measured in full
AT_ONCE = 500      # images, which bounds the memory
NOISES, STEPS = 200, 101
ENLARGE = np.asarray(Image.fromarray(np.eye(SIDE, dtype=np.float32)).resize((SIDE, FINE * SIDE), Image.Resampling.BICUBIC))


def neighbours(ink):
    """The eight neighbours of every cell as bits, uint8 [N, H, W]: north is bit 0, then clockwise. ink bool [N, H, W]."""
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    height, width = ink.shape[1:]
    places = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    return sum(padded[:, y:y + height, x:x + width] << bit for bit, (y, x) in enumerate(places))


FIRST_OF_FOUR, LAST_OF_FOUR = 0b00011100, 0b11000001     # neighbourhoods of the corners of a lone square, as bits


def removable():
    """For each of the two half steps of Zhang and Suen 1984, which of the 256 neighbourhoods let a cell go: bool [2, 256]."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    north, _, east, _, south, _, west, _ = bits.T
    starts = ((bits == 0) & (np.roll(bits, -1, 1) == 1)).sum(1)           # pieces of ink around the cell
    both = (bits.sum(1) >= 2) & (bits.sum(1) <= 6) & (starts == 1)
    return np.stack([both & (north * east * south == 0) & (east * south * west == 0),
                     both & (north * east * west == 0) & (north * south * west == 0)])


def skeletons(ink):
    """Thin bool [N, H, W] to lines of one cell (Zhang and Suen 1984); of a round dot, which they let go as a square of four
    cells, one stays."""
    ink, tables, todo = ink.copy(), removable(), np.arange(len(ink))
    while len(todo):
        part = ink[todo]
        before = part.sum((1, 2))
        for table in tables:
            around = neighbours(part)
            goes = table[around]
            goes[:, :-1, :-1] &= ~((around[:, :-1, :-1] == FIRST_OF_FOUR) & (around[:, 1:, 1:] == LAST_OF_FOUR))
            part &= ~goes
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
    for part in np.array_split(images, 1 + len(images) // AT_ONCE):
        ink = ENLARGE @ (part / np.float32(255)) @ ENLARGE.T > 0.5
        lines = skeletons(ink)
        half = np.where(lines, distances(ink) - 0.5, 0).sum((1, 2)) / np.maximum(lines.sum((1, 2)), 1)
        widths.append(2 * half / FINE)
    return np.concatenate(widths)


def box(images):
    """Height and width of the box around the ink (pixels above 127) in pixels, int64 [2, N]; 0 of a blank image."""
    ink = images > 127
    return np.stack([np.where((along := ink.any(axis)).any(1), SIDE - along.argmax(1) - along[:, ::-1].argmax(1), 0)
                     for axis in (2, 1)])


def within_class(t, values, labels):
    """Rank correlation of t with the values within each class that has three images: float [classes]."""
    return np.array([rank_correlation(t[labels == k], values[labels == k])
                     for k in np.unique(labels) if (labels == k).sum() > 2])


def turned(source, n_classes):
    """(growth; the step across 0.5, mean and largest; the largest step, mean and largest) of a dial, see above."""
    t = np.linspace(0, 1, STEPS + 1, dtype=np.float32)                    # an even number of values: one step crosses 0.5
    steps, ends = [], []
    for i, one in enumerate(draw_noise(0, 0, NOISES, source.latent)[0]):
        images = source(np.tile(one, (len(t), 1)), np.full(len(t), i % n_classes), t)
        moved = np.sqrt(np.square(np.diff(images.astype(np.float32), axis=0)).mean((1, 2)))
        steps.append(moved / max(np.median(moved), 1e-6))
        ends.append(images[[0, -1]])
    thin, thick = np.stack(ends, 1)
    wider = (data.pen_width(thick) - data.pen_width(thin)).sum()
    growth = (box(thick) - box(thin)).mean(0).sum() / wider if wider else np.nan
    middle, largest = np.array(steps)[:, STEPS // 2], np.max(steps, 1)
    return growth, middle.mean(), middle.max(), largest.mean(), largest.max()


def growth_of_real(images, labels):
    """Slope of the mean side of the box on the pen's width, pooled within the classes of images uint8 [N, 28, 28]: a float."""
    counts = np.bincount(labels).clip(1)
    width, side = (v - (np.bincount(labels, v) / counts)[labels] for v in (data.pen_width(images), box(images).mean(0)))
    return width @ side / (width @ width)


def measures(images, labels, t, table, classes):
    """(style accuracy in %, correlation with the pen's width: mean, worst, its error; with the skeleton's: mean, worst) of
    a set of images, and the correlations of t with the area of the box, float [classes]."""
    dial = dial_metrics(images, labels, t, table, classes)
    skeleton = within_class(t, skeleton_width(images), labels)
    return ([100 * dial["style_accuracy"], dial["spearman"]["mean"], dial["spearman"]["worst"], dial["width_error"],
             skeleton.mean(), skeleton.min()], within_class(t, box(images).prod(0), labels))


HEADS = ("style %", "pen: mean", "worst", "error, px", "skeleton: mean", "worst", "box: mean", "above real", "growth",
         "at 0.5: mean", "largest", "largest: mean", "largest")


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("generators", nargs="*", type=non_empty_path, metavar="FILE", help="generators, .onnx or .pth")
    parser.add_argument("--dataset", type=non_empty_path, default="mnist")
    parser.add_argument("--n", type=number(int, at_least=1000, at_most=1_000_000), default=10_000, help="samples of each")
    add_data_options(parser)
    args = parser.parse_args()
    g = data.load(args.dataset, args.data_dir, center=not args.no_center)
    table = data.width_table(g.x_train, g.y_train, len(g.classes))
    some = np.flatnonzero(data.rank_in_class(g.y_train, 0) < max(3, args.n // len(g.classes)))
    x, y = g.x_train[some], g.y_train[some]

    def show(name, values):
        print(f"{name[-40:]:40}  " + "  ".join(f"{v:{len(head)}.3f}" for head, v in zip(HEADS, values)), flush=True)
    print(f"{'':40}  " + "  ".join(HEADS))
    values, real_box = measures(x, y, data.thickness(x, y, table), table, g.classes)
    show("real images", [*values, real_box.mean(), 0, growth_of_real(x, y)])
    for path in args.generators:
        source = open_generator(path)
        if source.classes != g.classes:
            raise UserError(f"{path} draws other classes than those of {g.name}: name its data set with --dataset")
        values, its_box = measures(*sample_all(source, args.n, seed=1), table, g.classes)
        above = (its_box - real_box).max() if len(its_box) == len(real_box) else np.nan
        show(path, [*values, its_box.mean(), above, *turned(source, len(g.classes))])


if __name__ == "__main__":
    run_command(main)
