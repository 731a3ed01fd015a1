"""How much could a generator that knows hands add to a few images of a new script? What the head in closed form
(training/discriminant.py) takes from elsewhere is how features vary within a class; here that comes from four places.

    cd $GLYPHS_DATA        # or name the paths of your own sets
    python .../benchmarks/whose_hands.py --scripts mnist arabic_by_writer.npz kmnist_part.npz kkanji49.npz

"views": from distorted views of the few images alone; "random": half of it from the simulator's random script, as the file
of the backbone has it; "others": that half from real hands instead, of the other scripts named; "its own": from the hands
of the script itself, thousands of its training images, which nobody with a new script has: the most that a generator could
give by drawing all hands as they are. Balanced accuracy on validation images.
"""
import copy
from pathlib import Path

import numpy as np
import repository  # noqa: F401, its place makes the modules importable

import data
from metrics.statistics import classification_scores, confusion_matrix, t_interval
from training.classifier import predict
from training.discriminant import discriminant_classifier
from training.pretraining import load_backbone, note_variation
from utils.cli import Parser, Progress, add_data_options, image_counts, non_empty_path, number, run_command

IMAGES = 4000              # of a script, from which its variation is taken
VIEWS = 600                # of the few images, as in the studies


def with_variation_of(backbone, scripts, seed=0):
    """The backbone with the covariance within a class of these scripts (data.Glyphs), as many images of each."""
    backbone, images, labels, classes = copy.deepcopy(backbone), [], [], 0
    for g in scripts:
        chosen = np.random.default_rng(seed).permutation(len(g.x_train))[:IMAGES]
        images.append(g.x_train[chosen])
        labels.append(g.y_train[chosen] + classes)
        classes += len(g.classes)
    note_variation(backbone, np.concatenate(images), np.concatenate(labels), seed)
    return backbone


def balanced_accuracy(network, g, n):
    """Mean over the classes, in %, on n validation images."""
    table = confusion_matrix(g.y_val[:n], predict(network, g.x_val[:n]), len(g.classes))
    return 100 * classification_scores(table)["balanced_accuracy"]


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--scripts", nargs="+", required=True, type=non_empty_path, help="data sets, two or more, each in turn the new one")
    add("--per-class", type=image_counts, default=[1, 3, 10], help="images of each character")
    add("--draws", type=number(int, above=1, at_most=100), default=5, help="of the few images")
    add("--n", type=number(int, above=0), default=1000, help="validation images")
    add_data_options(parser)
    args = parser.parse_args(argv)
    scripts = {Path(name).stem: data.load(name, args.data_dir, center=not args.no_center) for name in args.scripts}
    backbone, say = load_backbone("small-classifier"), Progress()
    nobody = copy.deepcopy(backbone)
    nobody.within.zero_()
    for name, g in scripts.items():
        sources = {"views": nobody, "random": backbone, "others": with_variation_of(backbone, [s for s in scripts.values() if s is not g]),
                   "its own": with_variation_of(backbone, [g])}
        for n in args.per_class:
            found = {source: [] for source in sources}
            for draw in range(args.draws):
                few = g.subset(n, draw)
                for source, network in sources.items():
                    made = discriminant_classifier(few.x_train, few.y_train, network, VIEWS, draw, len(g.classes))
                    found[source].append(balanced_accuracy(made, g, args.n))
                say(f"{name}, {n} of each", draw + 1, args.draws)
            gains = {source: t_interval(np.subtract(values, found["random"])) for source, values in found.items()}
            print(f"{name}, {n} of each: " + ", ".join(f"{source} {np.mean(values):.1f} ({gains[source][0]:+.1f} ± {gains[source][1]:.1f})"
                                                       for source, values in found.items()), flush=True)


if __name__ == "__main__":
    run_command(main)
