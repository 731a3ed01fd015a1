"""Which part of classical augmentation costs robustness to corruptions? Networks of the studies, each part of the distortion alone.

    python benchmarks/augmentation.py --seeds 3

Accuracy on validation images, clean and under each corruption of the robustness study, of networks that were trained for equally
many steps on the same images; arms of one seed have the same initial weights.
"""
import numpy as np
import repository  # noqa: F401, its place makes the modules importable

import data
from metrics.statistics import t_interval
from study.corruptions import CORRUPTIONS, corrupt
from study.robustness import SEVERITY
from training.classifier import accuracy, train_classifier
from utils.cli import Parser, Progress, add_data_options, non_empty_path, number, run_command

PARTS = {"nothing": {}, "moves": {"affine": 0.0, "elastic": 0.0}, "affine": {"affine": 1.0, "elastic": 0.0},
         "elastic": {"affine": 0.0, "elastic": 8.0}, "all": {}, "all, other pens": {"pen": 1.0},
         "all, noise 0.1": {"noise": 0.1}, "all, noise 0.3": {"noise": 0.3}}


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--dataset", type=non_empty_path, default="mnist")
    add("--steps", type=number(int, above=0), default=600, help="of 64 images")
    add("--seeds", type=number(int, above=1, at_most=100), default=3)
    add("--n", type=number(int, above=0), default=1000, help="validation images")
    add_data_options(parser)
    args = parser.parse_args(argv)
    g, say = data.load(args.dataset, args.data_dir, center=not args.no_center), Progress()
    x, y = g.x_val[:args.n], g.y_val[:args.n]
    sets = {"clean": x, **{kind: corrupt(x, kind, SEVERITY) for kind in CORRUPTIONS}}
    found = {}                                                         # part -> [seeds, kinds]
    for i, (part, settings) in enumerate(PARTS.items()):
        found[part] = []
        for seed in range(args.seeds):
            augment = "none" if part == "nothing" else "classical"
            network = train_classifier(g.x_train, g.y_train, args.steps, seed, augment, n_classes=len(g.classes), **settings)
            found[part].append([100 * accuracy(network, images, y) for images in sets.values()])
            say(f"{part}, seed {seed}: clean {found[part][-1][0]:.2f} %, corrupted {np.mean(found[part][-1][1:]):.1f} %",
                i * args.seeds + seed + 1, len(PARTS) * args.seeds)
    scores = {part: np.array(rows) for part, rows in found.items()}
    print(f"{'':16}" + "".join(f"{part:>18}" for part in PARTS))
    for k, kind in enumerate(sets):
        print(f"{kind:16}" + "".join(f"{rows[:, k].mean():18.1f}" for rows in scores.values()))
    spread = [t_interval(rows[:, 1:].mean(1)) for rows in scores.values()]
    print(f"{'all corruptions':16}" + "".join(f"{mean:11.1f} ± {half:4.1f}" for mean, half in spread))


if __name__ == "__main__":
    run_command(main)
