"""Trains the deformer that comes along: what hands do to a character, learned on some scripts, to be used on others.

    cd $GLYPHS_DATA        # or name the paths of your own sets
    python .../benchmarks/deformer.py --scripts kkanji49.npz kmnist_part.npz arabic_by_writer.npz random-400 --out deformer.pth
    python .../benchmarks/deformer.py --scripts mnist kkanji49.npz kmnist_part.npz random-400 --out without-arabic.pth

Writes FILE.pth, FILE.onnx, and FILE.png: of glyphs that it has not learned on, drawn by the simulator, the support and ten
others. random-K is K classes of the simulator's random script, 40 images of each; of other sets at most 2,000 images of a
class count. An evaluation on a script needs a deformer that was trained without it.
"""
import hashlib
import time
from pathlib import Path

import numpy as np
import repository  # noqa: F401, its place makes the modules importable
import torch

import data
import export_onnx
import models
from datasets import strokes
from training.augment import to_fields
from training.deformation import other_hands, train_deformer
from utils import figures
from utils.cli import Parser, Progress, new_file, non_empty_path, number, run_command
from utils.distance_field import render

OF_RANDOM, MOST = 40, 2000         # images of a class
SHEET_KINDS = ("digits", "random-1000-7")          # five classes of each


def load_script(name, data_dir):
    """(images uint8 [N, 28, 28], labels int64 [N], sha256 of the data set, licence) to learn on."""
    if random := strokes.random_kind(name):
        labels = np.repeat(np.arange(random[0]), OF_RANDOM)
        images, labels = strokes.generate(len(labels), seed=5, kind=name, labels=labels)
        return images, labels, hashlib.sha256(images).hexdigest(), "MIT"
    g = data.load(name, data_dir)
    some = g.subset(MOST, 0)
    return some.x_train, some.y_train, g.sha256, g.license


def sheet(deformer):
    """Ten glyphs, each with ten others that the deformer makes of it: a PIL image."""
    rows = []
    for kind in SHEET_KINDS:
        for support in strokes.generate(5, seed=12, kind=kind, labels=np.arange(5) * 2)[0]:
            fields = to_fields(support[None]).float().repeat(10, 1, 1, 1)
            drawn = models.to_uint8(render(other_hands(deformer, fields, 1.0, torch.Generator().manual_seed(1)))).numpy()
            rows.append([support, None, *drawn])
    return figures.grid(rows, scale=2)


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--scripts", nargs="+", required=True, type=non_empty_path, help="data sets, as --dataset of train.py, or random-K")
    add("--data-dir", type=non_empty_path, help="where named ones lie (default: $GLYPHS_DATA, else data/)")
    add("--steps", type=number(int, above=0), default=6000, help="of 128 pairs")
    add("--seed", type=number(int, at_least=0), default=0)
    add("--out", type=new_file(".pth"), default="deformer.pth", help="the .pth to write")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    scripts = {Path(name).stem: load_script(name, args.data_dir) for name in args.scripts}
    deformer = train_deformer([script[:2] for script in scripts.values()], args.steps, args.seed, say=Progress())
    figures_of_run = {"steps": args.steps, "seed": args.seed, "seconds": round(time.perf_counter() - started, 1),
                      "images": sum(len(script[0]) for script in scripts.values())}
    info = {"model": "deformer", "dataset": "other scripts", "license": "; ".join({s[3]: 0 for s in scripts.values()}),
            "sources": {name: script[2] for name, script in scripts.items()}, "figures": figures_of_run}
    checkpoint = models.Checkpoint("deformer", deformer, list(scripts), np.zeros((len(scripts), 0)), info)
    out = Path(args.out)
    models.save(out, checkpoint)
    proof = export_onnx.export(models.load(out), out.with_suffix(".onnx"))
    figures.save(sheet(deformer), out.with_suffix(".png"))
    print(f"{figures_of_run['seconds']:.0f} s. Wrote {out}, .onnx ({proof['bytes']:,} bytes) and .png")


if __name__ == "__main__":
    run_command(main)
