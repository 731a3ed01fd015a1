"""Which part of classical augmentation costs robustness to corruptions? Networks of the studies, each part of the distortion alone.

    python benchmarks/augmentation.py --seeds 3 --n 2000
    python benchmarks/augmentation.py --files run/classifier.pth saved_models/classifier.pth --n 2000

Accuracy on validation images, clean and under each corruption of the robustness study, of networks that were trained for equally
many steps on the same images; arms of one seed have the same initial weights.
"""
import numpy as np
import repository  # noqa: F401, its place makes the modules importable

import data
import models
from metrics.statistics import t_interval
from study.corruptions import CORRUPTIONS, corrupt
from study.robustness import SEVERITY
from training.classifier import accuracy, train_classifier
from utils.cli import Parser, Progress, add_data_options, non_empty_path, number, run_command

PARTS = {"nothing": {}, "moves": {"affine": 0.0, "elastic": 0.0}, "affine": {"affine": 1.0, "elastic": 0.0},
         "elastic": {"affine": 0.0, "elastic": 8.0}, "all": {}, "all, other pens": {"pen": 1.0},
         "all, noise 0.1": {"noise": 0.1}, "all, noise 0.3": {"noise": 0.3}}


def measure(network, sets, labels):
    """Accuracy on each of the sets, {kind: images}, in percent: a list."""
    return [100 * accuracy(network, images, labels) for images in sets.values()]


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--files", nargs="+", type=non_empty_path, default=[], help="classifiers of train.py to measure instead, .pth")
    add("--dataset", type=non_empty_path, default="mnist")
    add("--steps", type=number(int, above=0), default=600, help="of 64 images")
    add("--seeds", type=number(int, above=1, at_most=100), default=3)
    add("--n", type=number(int, above=0), default=1000, help="validation images")
    add_data_options(parser)
    args = parser.parse_args(argv)
    g, say = data.load(args.dataset, args.data_dir, center=not args.no_center), Progress()
    x, y = g.x_val[:args.n], g.y_val[:args.n]
    sets = {"clean": x, **{kind: corrupt(x, kind, SEVERITY) for kind in CORRUPTIONS}}
    found = {path: [measure(models.load(path, "classifier").model, sets, y)] for path in args.files}     # name -> [runs, kinds]
    for i, (part, settings) in enumerate([] if args.files else PARTS.items()):
        found[part] = []
        for seed in range(args.seeds):
            augment = "none" if part == "nothing" else "classical"
            network = train_classifier(g.x_train, g.y_train, args.steps, seed, augment, n_classes=len(g.classes), **settings)
            found[part].append(measure(network, sets, y))
            say(f"{part}, seed {seed}: clean {found[part][-1][0]:.2f} %, corrupted {np.mean(found[part][-1][1:]):.1f} %",
                i * args.seeds + seed + 1, len(PARTS) * args.seeds)
    for name, rows in found.items():
        rows = np.array(rows)
        mean, half = t_interval(rows[:, 1:].mean(1))
        print(f"{name}: all corruptions {mean:.1f}{f' ± {half:.1f}' if len(rows) > 1 else ''} %\n   "
              + ", ".join(f"{kind} {value:.1f}" for kind, value in zip(sets, rows.mean(0))))


if __name__ == "__main__":
    run_command(main)
