"""Sections of evaluate.py: how a generator grows from epoch to epoch, and how long training and drawing take.

    part = epochs.section(context)     # the snapshots in <models>/<name>_epochs/, written by train.py --snapshots
    part = epochs.runtime(context)     # seconds of training from the records, images per second measured now
"""
import json
import time

import numpy as np
import torch

import fid
import models
from generate_digits import BLOCK, TorchGenerator, open_generator, sample_all
from study.context import GENERATORS, Reference, open_generators
from study.generators import percent, steps_for
from study.sections import Figure, Section, Table
from training.classifier import predict, train_classifier
from utils import charts, figures
from utils.figures import evenly_spaced
from utils.files import UserError

EPOCHS = {True: 6, False: 100}           # snapshots of a generator that are looked at, in the quick form and not
STEPS = {True: 300, False: 2000}         # optimiser steps of a classifier on one epoch's samples
TIMED = 4096                             # images that are drawn for a measured speed
TITLE = "How do the images grow with training?"


def measure(context):
    """FID of every epoch's samples, and what a classifier learns from them alone, CGAN and CVAE in one figure. Raises
    UserError where there is no snapshot, or one of other classes."""
    shots = {stem: sorted((context.models / f"{stem}_epochs").glob("*.pth")) for stem in GENERATORS}
    shots = {stem: [p[i] for i in evenly_spaced(len(p), EPOCHS[context.quick])] for stem, p in shots.items() if p}
    if not shots:
        raise UserError(f"there are no snapshots in {context.models}: train with `python train.py --snapshots` (and "
                        "`--model cvae --snapshots`), then evaluate again")
    g, total, found = context.glyphs, sum(map(len, shots.values())), {}
    context.say("features of the test images", 0, total)
    reference = Reference(context)
    floor = fid.distance(reference.test.moments, reference.floor_set(0).moments)
    seeds, steps = 1 if context.quick else context.seeds, steps_for(reference.n, STEPS[context.quick])
    for stem, paths in shots.items():
        found[stem] = []
        for path in paths:
            checkpoint = models.load(path, models.MAKES_IMAGES)
            if checkpoint.classes != g.classes:
                raise UserError(f"{path} draws other classes than those of {g.name}: train again with --snapshots")
            images, labels, t = reference.sample(TorchGenerator(checkpoint.model, checkpoint.classes))
            right = [np.mean(predict(train_classifier(
                images, labels, steps=steps, seed=seed, n_classes=len(g.classes),
                device=context.device), g.x_test) == g.y_test) for seed in range(seeds)]
            found[stem].append({"epoch": checkpoint.info["figures"]["epoch"],
                                "training_seconds": checkpoint.info["figures"]["training_seconds"],
                                "fid": fid.distance(reference.test.moments, reference.measure(images, labels).moments),
                                "accuracy": float(np.mean(right))})
            context.say(f"{GENERATORS[stem]}, epoch {found[stem][-1]['epoch']}", sum(map(len, found.values())), total)
    return describe(found, floor, reference.n, steps, seeds)


def describe(found, floor, n, steps, seeds):
    """The Part of the figures by stem and epoch."""
    def change(key, write):
        return ", ".join(f"from {write(rows[0][key])} to {write(rows[-1][key])} ({GENERATORS[stem]}, epochs "
                         f"{rows[0]['epoch']} to {rows[-1]['epoch']})" for stem, rows in found.items())

    words = [f"With training, the distance to real images (FID) goes {change('fid', '{:.3g}'.format)}.",
             "The share of the test images that a classifier reads which has learned from an epoch's samples alone "
             f"goes {change('accuracy', lambda v: percent(v, 1))}.",
             f"N = {n:,}; the floor, real training images, is FID {floor:.3g}. Each classifier took {steps:,} steps, "
             f"{'one seed' if seeds == 1 else f'{seeds} seeds'}, so single points differ by chance."]
    rows = [[f"{GENERATORS[stem]}, epoch {r['epoch']}", f"{r['training_seconds']:.0f}", f"{r['fid']:.3f}",
             f"{r['fid'] / floor:.2f}", percent(r["accuracy"])] for stem, rows in found.items() for r in rows]
    table = Table("By epoch", ["", "Seconds of training", "FID", "FID / floor", "Accuracy from its samples"], rows)

    def lines(key, scale=1):
        return {GENERATORS[s]: ([r["epoch"] for r in rows], [scale * r[key] for r in rows])
                for s, rows in found.items()}
    last = max(r["epoch"] for rows in found.values() for r in rows)
    ground = {"real images (floor)": ([1, last], [floor, floor])}
    small = dict(x_title="epoch of the generator", size=(860, 360))
    picture = figures.page([
        charts.curves({**lines("fid"), **ground}, "Distance to real images", y_title="FID", log_y=True, **small),
        charts.curves(lines("accuracy", 100), "Read by a classifier that saw generated images alone",
                      y_title="test images read right, %", **small)], gap=0)
    alt = f"Two plots against the generator's epoch, for {' and '.join(lines('fid'))}: FID falling, accuracy rising."
    return Section("epochs", TITLE, words, [table], [Figure("epochs", picture, alt)],
                {"n": n, "floor_fid": floor, "classifier_steps": steps, "classifier_seeds": seeds, "models": found},
                protocol={"seeds": seeds})


# ---- runtime ---------------------------------------------------------------------------------------------------------

def images_per_second(source):
    """Samples per second of an open generator, drawn as generate_digits.py does, after a warm-up."""
    sample_all(source, 2 * BLOCK)
    started = time.perf_counter()
    sample_all(source, TIMED)
    return TIMED / (time.perf_counter() - started)


def measure_runtime(context):
    """Seconds of training from the records of the runs, speed of drawing as measured now."""
    found = {}
    opened, notes = open_generators(context)
    sources = {stem: (GENERATORS[stem], source) for stem, source in opened.items()}
    if not sources:
        raise UserError(f"no generator in {context.models}: {' '.join(notes)}")
    for i, (stem, (name, _)) in enumerate(sources.items()):
        context.say(f"{name}: draws {TIMED:,} images", i, len(sources))
        record = context.models / f"{stem}.json"
        try:
            run = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
            found[stem] = {"training_seconds": run.get("training_seconds"), "epochs": run.get("epochs"),
                           "training_images_per_second": run.get("images_per_second"),
                           "trained_on": run.get("machine", {}).get("processor"),
                           "parameters": run.get("parameters", {}).get(stem)}
        except (ValueError, AttributeError) as e:
            raise UserError(f"{record} is no record of train.py: train again, or remove it") from e
        for ending in (".onnx", ".pth"):
            path = context.models / (stem + ending)
            if path.is_file():
                found[stem][ending[1:]] = {"images_per_second": images_per_second(open_generator(path)),
                                           "bytes": path.stat().st_size}
    context.say("speed measured", len(sources), len(sources))
    names = {s: name for s, (name, _) in sources.items()}

    def speed(s, kind):
        return found[s].get(kind, {}).get("images_per_second")

    def whole(value):
        return "-" if value is None else f"{value:,.0f}"
    fastest = max(names, key=lambda s: speed(s, "onnx") or speed(s, "pth"))
    kind = "onnx" if speed(fastest, "onnx") else "pth"
    trained = [f"the {names[s]} {found[s]['training_seconds']:.0f} s" for s in names if found[s]["training_seconds"]]
    words = [(f"Training took {', '.join(trained)}; " if trained else "") + f"drawing 10,000 images takes "
             f"{10_000 / speed(fastest, kind):.2g} s with the {names[fastest]} ({speed(fastest, kind):,.0f} images/s "
             f"from the `.{kind}`).",
             f"Speed of drawing is measured now, {TIMED:,} images in blocks of {BLOCK} as "
             f"`generate_digits.py` makes them, with {torch.get_num_threads()} torch threads and onnxruntime's own "
             "default; seconds of training are those of the records, on the machine that trained."]
    rows = [["Training, seconds", *(whole(found[s]["training_seconds"]) for s in names)],
            ["Training, epochs", *(whole(found[s]["epochs"]) for s in names)],
            ["Training, images/s", *(whole(found[s]["training_images_per_second"]) for s in names)],
            ["Drawing from .onnx, images/s", *(whole(speed(s, "onnx")) for s in names)],
            ["Drawing from .pth, images/s", *(whole(speed(s, "pth")) for s in names)],
            ["Parameters of the generator", *(whole(found[s]["parameters"]) for s in names)],
            ["Bytes of the .onnx", *(whole(found[s].get("onnx", {}).get("bytes")) for s in names)]]
    bars = {names[s]: {f".{k}": speed(s, k) for k in ("onnx", "pth") if speed(s, k)} for s in names}
    alt = "; ".join(f"{n} {', '.join(f'{v:,.0f} from the {k}' for k, v in row.items())}" for n, row in bars.items())
    picture = Figure("speed", charts.bars(bars, "Images drawn per second", y_title="images/s", size=(640, 360)),
                      f"Bars of images drawn per second: {alt}.")
    return Section("runtime", "How long does it take?", words, [Table("Time", ["", *names.values()], rows)], [picture],
                {"drawn": TIMED, "models": found})
