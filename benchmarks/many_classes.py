"""What grows with the number of classes and of images: seconds, memory, bytes; and what becomes of quality.

    python benchmarks/many_classes.py --out scale                                         # speed and memory, all sizes
    python benchmarks/many_classes.py --out scale --sizes 5000x1000000 --models cvae      # one of them
    python benchmarks/many_classes.py --out scale --quality 10,100,1000 --per-class 100 --steps 1000     # short trainings

Classes are those of a random script (datasets/random_script.py), drawn once into <out>/<classes>x<images>.npz. Every part
runs in a process of its own, in one thread, whose peak memory is what the system says at its end; seconds are those of
the processor, so that other programs do not count: reading the file with
its splits, quantiles and hash; --steps steps of train.py's loop in the middle of a run, with its checks, a refit of the
prior, and all that it writes at the end; generating --generate images into an .npz from the ONNX file. Validation and
test images are cut to 2,000 for that: what is measured on them is the quality, and it takes as long as there are images.

With --quality: of as many images of each class, equally many steps of every model. FID is that of 10,000 samples (or as
many as there are training images) to the test images in the features of a tiny classifier of the same data and steps,
the floor that of as many training images; label: share that this classifier reads as the class asked for; read: its own
accuracy on test.
"""
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from repository import ROOT

import data
from datasets import strokes
from generate_digits import open_generator, sample_all, write_npz
from utils.cli import Parser, number, run_command
from utils.files import UserError

SIZES = "10x10000,100x10000,1000x100000,5000x100000,5000x1000000"
MODELS = ("cgan", "cvae", "classifier")
READER = "classifier-tiny"     # which judges where quality is measured
BLOCK = 10_000             # images that are drawn at once
HELD_OUT = 2000            # validation and test images, where speed is measured
SAMPLES = 10_000           # of which FID is measured
WARM = 5                   # steps before the clock starts
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def measured(*words):
    """Run a command in a process of its own: (what it printed, seconds of the processor, peak MB)."""
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE,
                               text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise UserError(f"{' '.join(map(str, words))} ended with status {status}: {said[-300:]}")
    return said, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


# ---- the parts -----------------------------------------------------------------------------------

def draw(path, classes, images):
    """Write a data set, block by block."""
    kind = f"random-{classes}"
    blocks = (strokes.generate(min(BLOCK, images - i), seed=i // BLOCK, kind=kind) for i in range(0, images, BLOCK))
    blocks = ((x, y, data.thickness(x, y, np.zeros((classes, data.LEVELS), np.int16))) for x, y in blocks)
    write_npz(path, blocks, images, strokes.classes_of(kind))


def read(path):
    """All that a run does before its first step."""
    glyphs = data.load(path)
    table = data.width_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
    data.thickness(glyphs.x_train, glyphs.y_train, table)
    print(glyphs.sha256)


def start_run(path, model, out, steps, held_out=None):
    """A Run of train.py on a data set, `steps` long."""
    import torch  # here: the memory of whoever starts a process counts as that process's own

    import train
    from training.run import Run
    args = train.parse_args(["--model", model, "--dataset", str(path), "--out", str(out), "--epochs", "1"])
    args.bf16 = False
    torch.set_flush_denormal(True)
    glyphs = data.load(path)
    cut = {f"{name}_{split}": getattr(glyphs, f"{name}_{split}")[:held_out] for name in "xy" for split in ("val", "test")}
    glyphs = replace(glyphs, **cut)
    train.resolve(args, glyphs)
    run = Run(args, glyphs, torch.device("cpu"), time.perf_counter())
    run.plan(max(1, -(-steps // run.batches.per_epoch)))
    run.begin()
    return run


def train_some(path, model, out, steps):
    """Some steps in the middle of a run, and its end: seconds, as JSON."""
    import train
    began, laps = time.process_time(), {}
    run = start_run(path, model, out, steps, HELD_OUT)

    def lap(name, since):
        laps[name] = time.process_time() - since
        return time.process_time()
    clock = lap("start", began)
    if run.trainer.makes_images:
        train.Health(run).check_samples()
        clock = lap("look", clock)
    run.trainer.refit_prior(*(a[run.batches.refit_subset] for a in run.batches.all()))
    clock = lap("refit", clock)
    for step in range(WARM + steps):
        if step == WARM:
            clock = time.process_time()
        losses = train.train_step(run.trainer, run.batches.batch(step + steps, 3 * steps), 1e-4)
    clock = lap("steps", clock)
    run.save_state()
    clock = lap("state", clock)
    end(run, losses, steps)
    lap("end", clock)
    speed = steps * run.batches.size / laps["steps"]
    print(json.dumps({**laps, "speed": speed, "onnx": run.path(".onnx").stat().st_size}))


def end(run, losses, steps):
    """What train.py does after the last step."""
    import train
    from training.run import LossLog
    log = LossLog(run)
    log.add(losses)
    run.step, run.seconds = steps, 1.0
    log.write()
    if run.trainer.makes_images:
        train.Preview(run).draw()
    with contextlib.redirect_stdout(io.StringIO()):
        train.finish(run, lambda *words: None)


def quality(path, out, steps, models):
    """Short trainings of the tiny classifier and of generators, measured: a dict, as JSON."""
    import train
    from metrics.features import Extractor
    from metrics.frechet_distance import fid
    figures = {}
    for model in (READER, *models):
        run = start_run(path, model, out, steps)
        settings = run.trainer.settings
        for step in range(steps):
            run.batches.refit_prior(run.trainer, step)
            lr = train.learning_rate(step, steps, settings.lr, settings.warm_up, settings.final_lr)
            losses = train.train_step(run.trainer, run.batches.batch(step, steps), lr)
        end(run, losses, steps)
        if model == READER:
            g, extractor = run.glyphs, Extractor(run.path(".onnx"))
            test = extractor.measure(g.x_test, g.y_test)
            some = np.random.default_rng(0).permutation(len(g.x_train))[:SAMPLES]
            floor = fid(test.moments, extractor.measure(g.x_train[some]).moments)
            figures["read"] = float(np.mean(test.answers == g.y_test))
        else:
            x, y, _ = sample_all(open_generator(run.path(".onnx")), len(some), seed=1)
            fake = extractor.measure(x, y)
            figures[f"{model} FID / floor"] = fid(test.moments, fake.moments) / floor
            print(json.dumps(figures), flush=True)
            figures[f"{model} label"] = float(np.mean(fake.answers == y))
    print(json.dumps(figures))


# ---- the tables ----------------------------------------------------------------------------------

def data_set(out, classes, images):
    """The path of a data set, drawn where it is not there yet."""
    path = out / f"{classes}x{images}.npz"
    if not path.is_file():
        _, seconds, memory = measured(__file__, "--part", "draw", "--out", path, "--sizes", f"{classes}x{images}")
        print(f"drew {path.name}: {seconds:.0f} s, {memory:,.0f} MB", flush=True)
    return path


def speed_row(args, classes, images):
    """The cells of a row."""
    path = data_set(args.out, classes, images)
    _, seconds, memory = measured(__file__, "--part", "read", "--out", path)
    row = {"classes": f"{classes:,}", "images": f"{images:,}", "read s": f"{seconds:.1f}", "read MB": f"{memory:,.0f}"}
    for model in args.models:
        out = args.out / f"run-{classes}x{images}-{model}"
        said, _, memory = measured(__file__, "--part", f"train-{model}", "--out", path, "--run", out, "--steps", args.steps)
        laps = json.loads(said.splitlines()[-1])
        print(f"{path.stem} {model}: {json.dumps(laps)}, {memory:,.0f} MB", flush=True)
        row |= {f"{model} images/s": f"{laps['speed']:,.0f}", f"{model} MB": f"{memory:,.0f}",
                f"{model} ONNX kB": f"{laps['onnx'] / 1000:,.0f}"}
        if model == "classifier":
            continue
        onnx = next(p for p in out.glob("*.onnx"))
        _, seconds, memory = measured("generate_digits.py", "--generator", onnx, "--format", "npz", "--num_digits",
                                      args.generate, "--out", args.out / "generated.npz")
        row |= {f"{model} drawn/s": f"{args.generate / seconds:,.0f}", f"{model} draw MB": f"{memory:,.0f}"}
    return row


def print_table(rows):
    """Rows of cells as Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---:|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |", flush=True)


def main():
    parser = Parser(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("scale"), help="a folder for data sets and runs")
    add("--sizes", default=SIZES, help="CLASSESxIMAGES with commas between")
    add("--models", default=",".join(MODELS), help=f"some of {','.join(MODELS)}")
    add("--steps", type=number(int, above=0), default=100, help="of each training")
    add("--generate", type=number(int, above=0), default=20_000, help="images that are generated")
    add("--quality", help="numbers of classes with commas between: measure quality, not speed")
    add("--per-class", type=number(int, above=0), default=100, help="with --quality: training images of each class, about")
    add("--part", help="what a process of its own does: called by this script")
    add("--run", type=Path)
    args = parser.parse_args()
    if not re.fullmatch(r"\d+x\d+(,\d+x\d+)*", args.sizes) or not set(args.models.split(",")) <= set(MODELS):
        raise UserError("--sizes: as 10x10000,100x10000; --models: as cgan,cvae")
    sizes, args.models = [tuple(map(int, size.split("x"))) for size in args.sizes.split(",")], args.models.split(",")
    if args.part == "draw":
        draw(args.out, *sizes[0])
    elif args.part == "read":
        read(args.out)
    elif args.part == "quality":
        quality(args.out, args.run, args.steps, [m for m in args.models if m != "classifier"])
    elif args.part:
        train_some(args.out, args.part.removeprefix("train-"), args.run, args.steps)
    elif args.quality:
        rows = []
        for classes in map(int, args.quality.split(",")):
            path = data_set(args.out, classes, round(args.per_class * classes * 1.31))     # a quarter is held out
            said, seconds, _ = measured(__file__, "--part", "quality", "--out", path, "--steps", args.steps, "--models",
                                        ",".join(args.models), "--run", args.out / f"quality-{classes}")
            figures = json.loads(said.splitlines()[-1])
            rows.append({"classes": f"{classes:,}", "seconds": f"{seconds:.0f}", **{
                k: f"{v:.2f}" if "FID" in k else f"{100 * v:.1f} %" for k, v in figures.items()}})
            print(rows[-1], flush=True)
        print_table(rows)
    else:
        print_table([speed_row(args, *size) for size in sizes])


if __name__ == "__main__":
    run_command(main)
