"""The default run under the microscope: `python train.py` for several seeds, its speed, the quality of what it makes.

    python benchmarks/default_run.py --out runs               # trains seeds 0, 1, 2 (6 minutes each), then measures
    python benchmarks/default_run.py --out runs --measure-only

FID is measured on 10,000 samples against the test set, in the features of --features, in two compositions: "as test"
(the labels of the test set, thickness uniform) and "balanced" (every class and style as often). The floor of the first
is the FID of 10,000 training images drawn at random, mean of 5 draws. With classes balanced even real images are
further from the test set, whose classes are not: the second stands beside the FID of training images balanced alike.
Label, style, correlation and the worst class's own FID are those of the balanced samples. "60 s" is the last epoch
that ended within 60 seconds of training. `--features pixels` and other ONNX models serve as second opinions.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import data  # noqa: E402
import fid  # noqa: E402
import models  # noqa: E402
import sampling  # noqa: E402
from features import DEFAULT_MODEL, Extractor  # noqa: E402
from files import Parser, UserError, run  # noqa: E402

N = 10_000


def train(seed, out, args):
    """One default run with snapshots, unless it lies there already."""
    if (out / "generator.json").is_file():
        print(f"{out}: taken as it lies there")
        return
    place = ["--data-dir", args.data_dir] if args.data_dir else []
    done = subprocess.run([sys.executable, ROOT / "train.py", "--seed", str(seed), "--out", out, "--snapshots",
                           "--dataset", args.dataset, *place])
    if done.returncode:
        raise UserError(f"train.py ended with status {done.returncode}")


def early(out):
    """The snapshot of the last epoch that ended within 60 seconds of training; (path, seconds) or None."""
    shots = []
    for path in sorted((out / "generator_epochs").glob("*.pth")):
        seconds = models.load(path).info["figures"]["training_seconds"]
        if seconds <= 60:
            shots.append((path, seconds))
    return shots[-1] if shots else None


class Bench:
    """The test set, the floors and the extractor, measured once."""

    def __init__(self, args):
        self.glyphs = g = data.load(args.dataset, args.data_dir)
        self.table = data.ink_table(g.x_train, g.y_train, len(g.classes))
        self.extractor = Extractor(args.features)
        self.test = self.extractor.measure(g.x_test, g.y_test, classes=g.classes)
        self.balanced, self.as_test = list(range(len(g.classes))), list(g.y_test[:N])
        draws = [self.real(np.random.default_rng(seed).permutation(len(g.x_train))[:N]) for seed in range(5)]
        self.floor, self.floor_spread = np.mean(draws), np.std(draws, ddof=1)
        self.floor_balanced = self.real(data.place_in_class(g.y_train, 0) < N // len(g.classes))

    def real(self, chosen):
        """FID of some training images."""
        return fid.distance(self.test.moments, self.extractor.measure(self.glyphs.x_train[chosen]).moments)

    def score(self, path):
        """Figures of one generator file, a dict."""
        source = sampling.open_generator(path)
        made = {}
        for name, digits in (("as test", self.as_test), ("balanced", self.balanced)):
            samples = sampling.sample_all(source, N, seed=1, digits=digits)
            made[name] = self.extractor.measure(*samples, self.glyphs.classes)
        values = {name: fid.distance(self.test.moments, m.moments) for name, m in made.items()}
        return values | fid.conditional(self.test, made["balanced"], self.extractor, self.table)


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs"), help="a folder for the runs, <out>/<seed>/")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--features", default=str(DEFAULT_MODEL), help="classifier.onnx, another model, or pixels")
    parser.add_argument("--measure-only", action="store_true")
    args = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", args.seeds):
        raise UserError(f"--seeds {args.seeds}: give whole numbers, as 0,1,2")
    seeds = [int(s) for s in args.seeds.split(",")]
    bench = Bench(args)                    # first: what is missing shows before the training, not after
    for seed in seeds:
        if not args.measure_only:
            train(seed, args.out / str(seed), args)
        elif not (args.out / str(seed) / "generator.json").is_file():
            raise UserError(f"no run in {args.out / str(seed)}: leave out --measure-only")
    print(f"{bench.extractor.name} ({bench.extractor.sha256}), {len(bench.test.moments.mean)} features; floor "
          f"{bench.floor:.3f} +- {bench.floor_spread:.3f}, balanced {bench.floor_balanced:.3f}")
    columns = ("seconds", "images/s", "60 s: FID", "/ floor", "FID", "/ floor", "balanced", "/ its floor",
               "label %", "style %", "spearman", "worst class FID")
    rows = []
    for seed in seeds:
        out = args.out / str(seed)
        record = json.loads((out / "generator.json").read_text())
        end, first = bench.score(out / "generator.pth"), early(out)
        start = bench.score(first[0])["as test"] if first else np.nan
        rows.append([record["seconds"], record["images_per_second"], start, start / bench.floor,
                     end["as test"], end["as test"] / bench.floor, end["balanced"],
                     end["balanced"] / bench.floor_balanced, 100 * end.get("label_accuracy", np.nan),
                     100 * end["style_accuracy"], end["spearman"]["mean"], end["intra_fid"]["worst"]])
    rows = np.array(rows)
    width = [max(len(c), 9) for c in columns]
    print("seed   " + "  ".join(c.rjust(w) for c, w in zip(columns, width)))
    spread = rows.std(0, ddof=min(1, len(rows) - 1))
    for name, row in [*zip(map(str, seeds), rows), ("mean", rows.mean(0)), ("std", spread)]:
        print(name.ljust(7) + "  ".join(f"{v:,.{0 if abs(v) >= 1000 else 3}f}".rjust(w) for v, w in zip(row, width)))


if __name__ == "__main__":
    run(main)
