"""Pre-trains the backbones that come along, on random scripts of the simulator alone: no image of a real character.

    python benchmarks/backbone.py --network classifier --out saved_models/backbones/classifier.pth

`train.py` starts from them where images are few, and the arms "pretrained" of the study of a new script do.
"""
import hashlib
import time
from pathlib import Path

import numpy as np
import repository  # noqa: F401, its place makes the modules importable

import models
from datasets import strokes
from training.pretraining import BACKBONES, note_variation, pretrain
from utils.cli import Parser, Progress, new_file, number, run_command

POOL = 20                  # images of a class in a pool, half of them as rough scans look
UNSEEN = "random-1000-9"   # another script, on which is measured how features vary within a class


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--network", choices=BACKBONES, default="classifier", help="whose layers")
    add("--classes", type=number(int, above=1, at_most=strokes.MAX_CLASSES), default=strokes.MAX_CLASSES,
        help="characters of the random script to learn")
    add("--steps", type=number(int, above=0), default=3000, help="of 256 images")
    add("--seed", type=number(int, at_least=0), default=0)
    add("--out", type=new_file(".pth"), default="backbone.pth", help="the .pth to write")
    args = parser.parse_args(argv)
    started, kind, digest = time.perf_counter(), f"random-{args.classes}", hashlib.sha256()

    def draw(pool):
        labels = np.tile(np.arange(args.classes), POOL // 2)
        parts = [strokes.generate(len(labels), 1000 * args.seed + 2 * pool + scanned, kind, labels, scanned=bool(scanned))[0]
                 for scanned in (0, 1)]
        images = np.concatenate(parts)
        digest.update(images)
        return images, np.tile(labels, 2)
    backbone = pretrain(BACKBONES[args.network], draw, args.classes, args.steps, args.seed, say=Progress())
    others = np.tile(np.arange(1000), 10)
    unseen = [strokes.generate(len(others), args.seed, UNSEEN, others, scanned=scanned)[0] for scanned in (False, True)]
    note_variation(backbone, np.concatenate(unseen), np.tile(others, 2), args.seed)
    figures = {"steps": args.steps, "seed": args.seed, "seconds": round(time.perf_counter() - started, 1)}
    info = {"model": "backbone", "dataset": kind, "license": "MIT", "sources": {kind: digest.hexdigest()}, "figures": figures}
    models.save(args.out, models.Checkpoint("backbone", backbone, [kind], np.zeros((1, 0)), info))
    print(f"{figures['seconds']:.0f} s. Wrote {args.out}, {Path(args.out).stat().st_size:,} bytes")


if __name__ == "__main__":
    run_command(main)
