"""Would another epoch than the last have been better? FID by epoch of runs with --snapshots.

    python train.py --dataset arabic_by_writer.npz --epochs 120 --snapshots --out run
    python benchmarks/selection.py run/generator_epochs --dataset arabic_by_writer.npz --select a.onnx,b.onnx

Epochs are chosen by the sum over the networks of --select of FID / floor against the validation split, and judged against
the test split in the features of --features, which must be another network. The floor is the FID of as many training images.
Prints the course over --every'th epochs, and what the chosen epoch and the last one are worth: where choosing pays the first
is clearly the smaller one.
"""
from pathlib import Path

import numpy as np
from runs import in_random_order  # makes the modules of the root importable, too

import data
from generate_digits import open_generator, sample_all
from metrics.features import DEFAULT_MODEL, Extractor
from metrics.frechet_distance import fid
from utils.cli import Parser, add_data_options, non_empty_path, number, run_command
from utils.files import UserError


class Judge:
    """FID / floor of samples against one split in the features of one network."""

    def __init__(self, path, glyphs, x, n):
        self.extractor = Extractor(path)
        self.real = self.extractor.measure(x).moments
        some = np.random.default_rng(0).permutation(len(glyphs.x_train))[:n]
        self.floor = fid(self.real, self.extractor.measure(glyphs.x_train[some]).moments)

    def __call__(self, images):
        return fid(self.real, self.extractor.measure(images).moments) / self.floor


def main():
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("folders", nargs="+", type=non_empty_path, metavar="FOLDER", help="<name>_epochs of runs of one data set")
    add("--select", type=lambda text: text.split(","), required=True, metavar="A.onnx,B.onnx", help="networks that choose")
    add("--features", type=non_empty_path, default=str(DEFAULT_MODEL), help="the network that judges")
    add("--dataset", type=non_empty_path, default="mnist")
    add("--every", type=number(int, above=0, at_most=1_000_000), default=5, help="epochs between two that are measured")
    add("--n", type=number(int, above=1, at_most=100_000), default=5000, help="samples of each, classes as in the split")
    add_data_options(parser)
    args = parser.parse_args()
    g = data.load(args.dataset, args.data_dir, center=not args.no_center)
    n = min(args.n, len(g.x_train))
    choose = [Judge(path, g, g.x_val, n) for path in args.select]
    judge = Judge(args.features, g, g.x_test, n)
    for folder in args.folders:
        paths = sorted(Path(folder).glob("*.pth"))
        if not paths:
            raise UserError(f"no snapshots in {folder}: train with --snapshots")
        chosen = paths[::-1][::args.every][::-1]                          # the last among them
        print(f"{folder}\n{'epoch':>8}  {'on val':>8}  {'on test':>8}")
        scores = []
        for path in chosen:
            source = open_generator(path)
            images, _, _ = sample_all(source, n, seed=1, digits=in_random_order(g.y_val))
            others, _, _ = sample_all(source, n, seed=2, digits=in_random_order(g.y_test))
            scores.append((np.mean([score(images) for score in choose]), judge(others)))
            print(f"{int(path.stem):8}  {scores[-1][0]:8.3f}  {scores[-1][1]:8.3f}", flush=True)
        best = int(np.argmin([on_val for on_val, _ in scores]))
        print(f"chosen on val: epoch {int(chosen[best].stem)}, on test {scores[best][1]:.3f}; the last: {scores[-1][1]:.3f}; "
              f"best on test: {min(on_test for _, on_test in scores):.3f}")


if __name__ == "__main__":
    run_command(main)
