"""Runs of train.py under the microscope: for several seeds their speed and the quality of what they make.

    python benchmarks/runs.py --out runs                      # the default run, seeds 0, 1, 2 (6 minutes each)
    python benchmarks/runs.py --out runs --measure-only
    python benchmarks/runs.py --model cvae --out runs-cvae
    python benchmarks/runs.py --model cvae --out runs-plain -- --gan-weight 0         # options for train.py after --
    python benchmarks/runs.py --dataset kkanji49.npz --features saved_models/kkanji49/classifier.onnx --out runs-kanji

FID is measured on 10,000 samples against the test set, in the features of --features, in two compositions: "as test"
(the labels of the test set, thickness uniform) and "balanced" (every class and style as often). The floor of the first
is the FID of 10,000 training images drawn at random, mean of 5 draws; where there are fewer, it is that of all of them,
and as few samples are measured. With classes balanced
even real images are further from the test set, whose classes are not: the second stands beside the FID of training
images balanced alike. Label, style, correlation and the worst class's own FID are those of the balanced samples. "60 s"
is the last epoch that ended within 60 seconds of training. Sharpness is the mean squared gradient of the samples as in the test set, over
that of the test set: 1 is as sharp as real, less is blurred. Specks are pieces of fewer than 5 pixels per image of these
samples, beside those of the test set (metrics/appearance.py).
`--features pixels` and other ONNX models serve as second opinions.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from repository import ROOT

import data
import models
from generate_digits import open_generator, sample_all
from metrics.appearance import sharpness, specks
from metrics.conditional import conditional_metrics
from metrics.features import DEFAULT_MODEL, Extractor
from metrics.frechet_distance import fid
from training.run import TRAINERS
from utils.cli import Parser, run_command
from utils.files import UserError

N = 10_000


def train(seed, out, args):
    """One run with snapshots, unless it lies there already."""
    if (out / f"{args.name}.json").is_file():
        print(f"{out}: taken as it lies there")
        return
    place = ["--data-dir", args.data_dir] if args.data_dir else []
    done = subprocess.run([sys.executable, ROOT / "train.py", "--model", args.model, "--seed", str(seed), "--out", out,
                           "--snapshots", "--dataset", args.dataset, *place, *args.options], check=False)
    if done.returncode:
        raise UserError(f"train.py ended with status {done.returncode}")


def early(out, name):
    """The snapshot of the last epoch that ended within 60 seconds of training; (path, seconds) or None."""
    shots = []
    for path in sorted((out / f"{name}_epochs").glob("*.pth")):
        seconds = models.load(path).info["figures"]["training_seconds"]
        if seconds <= 60:
            shots.append((path, seconds))
    return shots[-1] if shots else None


def in_random_order(labels):
    """Labels to draw samples by, as a list: the number of samples is no multiple of theirs, and a file may have them sorted."""
    return np.random.default_rng(0).permutation(labels).tolist()


class Bench:
    """The test set, the floors and the extractor, measured once."""

    def __init__(self, args):
        self.glyphs = g = data.load(args.dataset, args.data_dir)
        self.table = data.width_table(g.x_train, g.y_train, len(g.classes))
        self.extractor = Extractor(args.features)
        self.test = self.extractor.measure(g.x_test, g.y_test, classes=g.classes)
        self.n = min(N, len(g.x_train))        # as many samples as training images for the floor: FID depends on it
        self.balanced, self.as_test = list(range(len(g.classes))), in_random_order(g.y_test)
        draws = [self.real(np.random.default_rng(seed).permutation(len(g.x_train))[:self.n]) for seed in range(5)]
        self.floor, self.floor_spread = np.mean(draws), np.std(draws, ddof=1)
        self.floor_balanced = self.real(data.rank_in_class(g.y_train, 0) < self.n // len(g.classes))

    def real(self, chosen):
        """FID of some training images."""
        return fid(self.test.moments, self.extractor.measure(self.glyphs.x_train[chosen]).moments)

    def score(self, source):
        """Figures of one generator (open_generator), a dict."""
        made = {}
        for name, digits in (("as test", self.as_test), ("balanced", self.balanced)):
            samples = sample_all(source, self.n, seed=1, digits=digits)
            made[name] = self.extractor.measure(*samples, self.glyphs.classes)
        values = {name: fid(self.test.moments, m.moments) for name, m in made.items()}
        values["sharpness"] = sharpness(made["as test"].images) / sharpness(self.glyphs.x_test)
        values["specks"] = specks(made["as test"].images), specks(self.glyphs.x_test)
        return values | conditional_metrics(self.test, made["balanced"], self.extractor, self.table)


def table(rows, columns, names):
    """Print rows of figures under their columns."""
    width = [max(len(c), 9) for c in columns]
    first = max(6, *map(len, names))
    print(" " * first + "  " + "  ".join(c.rjust(w) for c, w in zip(columns, width)))
    for name, row in zip(names, rows):
        print(name.ljust(first) + "  " + "  ".join(f"{v:,.{0 if abs(v) >= 1000 else 3}f}".rjust(w)
                                                   for v, w in zip(row, width)))


QUALITY = ("FID", "/ floor", "balanced", "/ its floor", "label %", "style %", "spearman", "worst class FID", "sharpness",
           "specks", "of real")


def quality(bench, source):
    """The values of QUALITY for one generator."""
    end = bench.score(source)
    return [end["as test"], end["as test"] / bench.floor, end["balanced"], end["balanced"] / bench.floor_balanced,
            100 * end.get("label_accuracy", np.nan), 100 * end["style_accuracy"], end["spearman"]["mean"],
            end["intra_fid"]["worst"], end["sharpness"], *end["specks"]]


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--model", choices=[m for m, trainer in TRAINERS.items() if trainer.makes_images], default="cgan")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="a folder for the runs, <out>/<seed>/")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--features", default=str(DEFAULT_MODEL), help="classifier.onnx, another model, or pixels")
    parser.add_argument("--measure-only", action="store_true")
    parser.add_argument("options", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", args.seeds):
        raise UserError(f"--seeds {args.seeds}: give whole numbers, as 0,1,2")
    seeds, args.name = [int(s) for s in args.seeds.split(",")], TRAINERS[args.model].name
    bench = Bench(args)                    # first: what is missing shows before the training, not after
    for seed in seeds:
        if not args.measure_only:
            train(seed, args.out / str(seed), args)
        elif not (args.out / str(seed) / f"{args.name}.json").is_file():
            raise UserError(f"no run in {args.out / str(seed)}: leave out --measure-only")
    print(f"{bench.extractor.name} ({bench.extractor.sha256}), {len(bench.test.moments.mean)} features; floor "
          f"{bench.floor:.3f} +- {bench.floor_spread:.3f}, balanced {bench.floor_balanced:.3f}")
    rows = []
    for seed in seeds:
        out = args.out / str(seed)
        record = json.loads((out / f"{args.name}.json").read_text())
        first = early(out, args.name)
        start = bench.score(open_generator(first[0]))["as test"] if first else np.nan
        rows.append([record["seconds"], record["images_per_second"], start, start / bench.floor,
                     *quality(bench, open_generator(out / f"{args.name}.pth")),
                     record["metrics"].get("diversity", np.nan), record["metrics"].get("kl", np.nan)])
    spread = np.std(rows, 0, ddof=min(1, len(rows) - 1))
    table([*rows, np.mean(rows, 0), spread],
          ("seconds", "images/s", "60 s: FID", "/ floor", *QUALITY, "diversity", "KL nats"),
          [*map(str, seeds), "mean", "std"])


if __name__ == "__main__":
    run_command(main)
