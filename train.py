"""One training run: a data set -> a model -> saved_models/.

    python train.py                                   # conditional GAN on MNIST: about 5 minutes on 2 CPU cores
    python train.py --model classifier                # the recogniser, also the feature extractor of fid.py
    python train.py --dataset strokes --epochs 2 --out try

Beside the weights and the ONNX file a run leaves its record (.json), its log (.log.jsonl), a sheet of samples, a GIF of
the training and the loss curves. A run that was stopped goes on with --resume, on a CPU to the same weights bit for bit
where --epochs is given; without it the clock decides how many epochs fit (the record tells how many, and when).
"""
import argparse
import json
import math
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch

import data
import export_onnx
import models
from generate_digits import sample_all
from metrics import statistics
from metrics.distances import spearman
from training.classifier import AdversarialRecogniser, predict
from training.objectives import OBJECTIVES
from training.run import FRAMES, PRESETS, SETTINGS, SHOWN, Run, say
from training.steps import has_bf16
from utils import charts, figures
from utils.cli import Parser, choose_device, run_command
from utils.files import UserError

SCARCE = 20_000            # training images below which the discriminator would learn them by heart
WARM_STEPS, PLAN_STEPS = 50, 250     # the speed between them decides how many epochs fit
LOG_SECONDS = 1.0          # between two updates of the live line


def parse_args(argv=None):
    parser = Parser("Train one model on one data set.")
    add, weight = parser.add_argument, positive(float, or_zero=True)
    add("--model", choices=OBJECTIVES, default="cgan", help="what to train")
    add("--adversarial", action="store_true", help="with --model classifier: make it robust to small changes of its "
        "images, by training on attacked ones; short for --model classifier-adversarial")
    add("--dataset", help="mnist, kmnist, k49, arabic, strokes, strokes-arabic, or a path to your own "
        "(default: mnist where it can be had, else strokes, said loudly)")
    add("--data-dir", help="where data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--no-center", action="store_true", help="keep the frame of your own images; they are cropped and centred else")
    add("--out", help="folder to write to (default: saved_models for mnist, else saved_models/<dataset>)")
    add("--epochs", type=positive(int), help="passes over the training images (default: as many as fit into --minutes, "
        "up to 1.4 million images, for a classifier 550,000, tiny 1.1 million, adversarial 330,000)")
    add("--minutes", type=positive(float), help="training time that decides the epochs where --epochs is not given "
        "(default: 4.8, so that the files are there within 6; classifier 9, tiny 5.5, adversarial 7.5)")
    add("--per-class", type=positive(int), help="train on so many images of each class, chosen by --seed")
    add("--seed", type=positive(int, or_zero=True, below=2 ** 32), default=0, help="of weights, noise, order of images")
    add("--batch", type=positive(int), help="images per step; 64 was no better and slower")
    add("--lr", type=positive(float), help="top learning rate (default: 2e-3, classifier 3e-3, tiny 6e-3)")
    add("--label-weight", type=weight, help="of the discriminator's label loss (default: 0.3, acgan 0.5)")
    add("--g-label-weight", type=weight, help="of that of the generator; more makes samples alike (default: 0.1, "
        "acgan and cvae 0.5)")
    add("--ink-weight", type=weight, help="of the loss that makes a sample as thick as asked")
    add("--gan-weight", type=weight, help="of the cvae's adversarial loss, which sharpens; 0: a plain one")
    add("--diffaugment", type=positive(int, or_zero=True, below=14), help="pixels by which the discriminator's images "
        "are shifted, real and fake alike (default: 2 below 20,000 training images, else 0)")
    add("--balance", type=positive(float, or_zero=True, below=1.001), help="0: every image as often as the "
        "others, 1: every class, between: classes as often as size ** (1 - balance) (default: 0.5 where one class is "
        "twice as large as another, else 0)")
    add("--warp", type=weight, help="strength of the distortion of a classifier's images, 1: rotations of 15 degrees and "
        "the like; less where they turn one class into another; 0: shifts alone")
    add("--r1", type=weight, help="gradient penalty at real images (pixels in [-1, 1]) at the start")
    add("--r1-end", type=weight, help="and at the end")
    add("--ema", type=positive(float, or_zero=True, below=1), help="memory of the averaged generator, per step")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda where there is one")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto: bf16 where the chip has it")
    add("--snapshots", action="store_true", help="keep the network after every epoch, in <out>/<name>_epochs/")
    add("--save-every", type=positive(float), default=20, help="seconds between two saves of what --resume needs")
    add("--resume", action="store_true", help="go on with the run that was stopped, with its settings")
    add("--dry-run", action="store_true", help="print the resolved settings, take one step, write nothing")
    parser.set_defaults(**SETTINGS)
    args = parser.parse_args(argv)
    if args.adversarial and args.model not in ("classifier", AdversarialRecogniser.name):
        parser.error(f"--adversarial goes with --model classifier, not with {args.model}")
    if args.adversarial:
        args.model = AdversarialRecogniser.name
    del args.adversarial
    return args


def positive(kind, or_zero=False, below=math.inf):
    """An argparse type: a finite number above 0, or 0 too."""
    def number(text):
        value = kind(text)
        if not 0 <= value < below or value == 0 and not or_zero:
            raise argparse.ArgumentTypeError(f"{text} is not {'0 or more' if or_zero else 'above 0'}" +
                                             (f" and below {below}" if below < math.inf else ""))
        return value
    number.__name__ = kind.__name__
    return number


def live_line(r, losses, speed):
    left = (r.steps - r.i) / speed
    line = (f"epoch {min(r.epochs, r.i // r.steps_per_epoch + 1)}/{r.epochs}  step {r.i:,}/{r.steps:,}  "
            f"{speed * r.batch:,.0f} images/s  " + "  ".join(f"{k} {v:.3f}" for k, v in losses.items()) +
            f"  ETA {int(left // 60)}:{int(left % 60):02d}")
    if sys.stdout.isatty():
        print(f"\r\033[K{line[:shutil.get_terminal_size().columns - 1]}", end="", flush=True)
    else:
        print(line, flush=True)


def train(r):
    """The loop: step, log, pictures, save, until all epochs are done."""
    sums, count, since_log, since_save, since_line = {}, 0, r.seconds, r.seconds, -math.inf
    mark = (r.i, r.seconds)
    clock = time.perf_counter() - r.seconds
    with open(r.log, "a", encoding="utf-8") as log:
        while r.i < r.steps:
            losses = r.step()
            for k, v in losses.items():           # a loss may set in later in the run
                total, n = sums.get(k, (0.0, 0))
                sums[k] = total + v, n + 1
            count += 1
            r.seconds = time.perf_counter() - clock
            at_end_of_epoch = r.i % r.steps_per_epoch == 0
            if r.i == WARM_STEPS:
                mark = (r.i, r.seconds)
            if not r.args.epochs and (r.i == PLAN_STEPS or at_end_of_epoch and r.i > PLAN_STEPS):
                r.plan((r.i - mark[0]) / (r.seconds - mark[1]))
                mark = (r.i, r.seconds)
            if r.seconds - since_log > LOG_SECONDS or r.i == r.steps:
                means = {k: float(total / n) for k, (total, n) in sums.items()}
                speed = count / (r.seconds - since_log)
                if not all(math.isfinite(v) for v in means.values()):
                    stop_at_nan(r)
                row = {"step": r.i, "epoch": round(r.i / r.steps_per_epoch, 3), "seconds": round(r.seconds, 2),
                       "images_per_second": round(speed * r.batch), **{k: round(v, 5) for k, v in means.items()}}
                log.write(json.dumps(row) + "\n")
                log.flush()
                sums, count, since_log = {}, 0, r.seconds
                if sys.stdout.isatty() or r.seconds - since_line > 10 or r.i == r.steps:
                    live_line(r, means, speed)
                    since_line = r.seconds
            # the first pictures come quickly, when most changes, later ones more slowly
            if r.makes_images and r.i >= r.steps * ((len(r.frames) + 1) / FRAMES) ** 1.5:
                r.draw_frame()
            if r.args.snapshots and at_end_of_epoch:
                r.save_snapshot()
            if r.seconds - since_save > r.args.save_every and count == 0:      # the losses have just been looked at
                if not r.is_finite():
                    stop_at_nan(r)
                r.save_state()
                since_save = r.seconds
    if sys.stdout.isatty():
        print()


def stop_at_nan(r):
    """Losses are not finite: leave the last good weights as files, and say what to do."""
    at = r.i
    if not r.state.is_file():
        raise UserError(f"the loss is not a number at step {at}, before anything was saved: try a lower --lr")
    r.load_state(models.read_archive(r.state))
    r.settle()
    for name in r.objective.products:
        models.save(r.out / f"{name}.pth", r.checkpoint(name))
    raise UserError(f"the loss is not a number at step {at}; the weights of step {r.i} are in {r.path('.pth')}: "
                    "start anew with a lower --lr")


def measure_generator(r):
    """How well 10,000 samples of the averaged generator keep to the thickness asked for, and how much samples of one
    class differ (variance of a pixel, over that of training images), as a dict of JSON types. (fid.py and benchmarks/
    measure the rest: it needs a classifier.)"""
    g, n = r.glyphs, 10_000
    images, labels, t = sample_all(r.sampler(), n, seed=1)
    drawn = data.thickness(images, labels, r.ink_table)
    rho = [spearman(t[labels == k], drawn[labels == k]) for k in np.unique(labels)]
    known = data.place_in_class(g.y_train, 0) < max(2, n // len(g.classes))              # as many of each class
    real = variance_in_class(g.x_train[known], g.y_train[known])
    diversity = {"diversity": round(variance_in_class(images, labels) / real, 4)} if real > 1 else {}
    return {"samples": n, "style_accuracy": round(float(np.mean(data.style(t) == data.style(drawn))), 4),
            "thickness_correlation": round(float(np.mean(rho)), 4), **diversity}


def variance_in_class(images, labels):
    """Variance of a pixel among the images of one class, mean over pixels and images; uint8 [N, 28, 28], int64 [N]."""
    return float(np.mean([np.var(images[labels == k].astype(np.float32), axis=0).mean() for k in np.unique(labels)]))


def measure_classifier(r):
    """Accuracy on val and test, plain and balanced (the mean over the classes), as a dict of JSON types; draws the
    confusion matrix of test."""
    g, found, network = r.glyphs, {}, r.objective.products[r.name][1]
    for split, images, labels in (("val", g.x_val, g.y_val), ("test", g.x_test, g.y_test)):
        if not len(images):               # one's own classes of one image each leave nothing to hold out
            continue
        table = statistics.confusion(labels, predict(network.eval(), images), len(g.classes))
        measured = statistics.scores(table)
        found |= {f"{split}_{k}": round(measured[k], 4) for k in ("accuracy", "balanced_accuracy")}
    if len(g.x_test) and len(g.classes) <= SHOWN:
        figures.save(charts.heatmap(table, g.classes, g.classes, title=f"{r.title}: test images by class and answer"),
                     r.path("_confusion.png"))
    return found


def finish(r):
    """Measure, then write weights, ONNX, pictures and the record."""
    found = r.settle() | (measure_generator(r) if r.makes_images else measure_classifier(r))
    for name in r.objective.products:
        models.save(r.out / f"{name}.pth", r.checkpoint(name, found if name == r.name else None))
    proof = export_onnx.export(models.load(r.path(".pth")), r.path(".onnx"))
    if "test_accuracy" in found:
        proof["test_accuracy"] = round(export_onnx.accuracy(r.path(".onnx"), r.glyphs.x_test, r.glyphs.y_test), 4)
    r.save_curves()
    if r.makes_images:
        r.save_gif()
    r.write_record(seconds=round(r.wall_seconds, 1), metrics=found, onnx=proof)
    r.end()
    say("  ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in found.items()))
    files = [r.out / f"{name}.pth" for name in r.objective.products] + [r.path(".onnx")]
    say(f"{r.wall_seconds:.0f} s in all. Wrote {', '.join(map(str, files))} and {r.name}.json, {r.name}_* beside them")


def settle(args):
    """Fill in what depends on other settings; with --resume, take the settings of the stopped run. -> (args, state)"""
    state = None
    if args.resume:
        folders = [args.out] if args.out else [out_folder(args.dataset or name) for name in ("mnist", "strokes")]
        paths = [Path(folder) / f"{OBJECTIVES[args.model].name}.resume.pth" for folder in folders]
        path = next((p for p in paths if p.is_file()), None)
        if path is None:
            raise UserError(f"nothing to resume: there is no {paths[0]}; start a run without --resume")
        state = models.read_archive(path)
        if not isinstance(state, dict) or state.get("version") != models.VERSION or "settings" not in state:
            raise UserError(f"{path} is not the state of a run of this version: start the run anew")
        usual, before = vars(parse_args([])), state["settings"]
        new = {"resume": True, "dry_run": args.dry_run, "device": args.device, "out": str(path.parent),
               "data_dir": args.data_dir or before["data_dir"]}
        for name, value in vars(args).items():
            if name not in new and value not in (usual[name], before.get(name)):
                raise UserError(f"--{name.replace('_', '-')} {value}: {path} was started with {before.get(name)}; "
                                "leave it out, or start anew without --resume")
        args = argparse.Namespace(**{**usual, **before, **new})
    preset = PRESETS[args.model]
    for name in ("lr", "minutes", "label_weight", "g_label_weight"):
        if getattr(args, name) is None:
            setattr(args, name, preset.get(name))
    return args, state


def adapt(args, glyphs):
    """Fill in the settings that depend on the data."""
    sizes = np.bincount(glyphs.y_train, minlength=len(glyphs.classes))
    if args.diffaugment is None:
        args.diffaugment = 2 if len(glyphs.x_train) < SCARCE else 0
    if args.balance is None:
        args.balance = 0.5 if sizes.max() >= 2 * sizes[sizes > 0].min() else 0.0


def out_folder(dataset):
    """Where a data set's models go by default."""
    return "saved_models" if dataset == "mnist" else f"saved_models/{Path(dataset).stem}"


def main(argv=None):
    started = time.perf_counter()
    args, state = settle(parse_args(argv))
    device = choose_device(args.device)
    args.bf16 = has_bf16(device) if args.precision == "auto" else args.precision == "bf16"
    torch.set_flush_denormal(True)             # as Adam's moments fade they would slow the CPU down
    torch.backends.cudnn.benchmark = True
    glyphs = data.load(args.dataset, args.data_dir, center=not args.no_center)
    args.dataset = args.dataset or glyphs.name       # if this run is resumed, on the same data
    if args.per_class:
        glyphs = glyphs.subset(args.per_class, args.seed)
    if state:
        glyphs.notice = state["notice"]
    args.out = args.out or out_folder(args.dataset)
    adapt(args, glyphs)
    r = Run(args, glyphs, device, started)
    say(f"{args.model} on {glyphs.name}: {len(glyphs.x_train):,} training images, {len(glyphs.classes)} classes, "
        f"{device.type}, {torch.get_num_threads()} threads, {'bf16' if args.bf16 else 'fp32'} -> {args.out}/")
    say("settings: " + json.dumps(r.record()["settings"]))
    for text in [glyphs.notice.upper()] * bool(glyphs.notice) + glyphs.warnings:
        say(f"NOTE: {text}")
    if args.dry_run:
        losses = r.step()
        say("dry run, nothing written; one step: " + ", ".join(f"{k} {float(v):.3f}" for k, v in losses.items()))
        return
    if state:
        r.load_state(state)
        say(f"goes on from step {r.i:,} of {r.steps:,}")
    else:
        r.begin()
    try:
        train(r)
    except KeyboardInterrupt:
        say(f"stopped at step {r.i:,}" + ("; go on with the same command and --resume" if r.state.is_file() else ""))
        raise
    finish(r)


if __name__ == "__main__":
    run_command(main)
