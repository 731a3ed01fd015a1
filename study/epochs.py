"""Two sections of evaluate.py: how a generator improves from epoch to epoch, and how long training and drawing take.

    measure(context), measure_runtime(context)       # the snapshots of train.py --snapshots; its records, and speed
    describe(numbers), describe_runtime(numbers)     # the same Sections from stored numbers
"""
import time

import models
from generate_digits import BLOCK, TorchGenerator, open_generator, sample_all
from metrics.frechet_distance import fid
from metrics.statistics import format_number, format_percent
from study.context import GENERATORS, Reference, accuracy_from_samples, join_names, open_generators, read_record
from study.report import Figure, Section, Table
from utils import charts, figures
from utils.checked_json import matches
from utils.files import UserError

EPOCHS = {True: 6, False: 100}           # at most: snapshots of a generator, in the quick form and not
STEPS = {True: 300, False: 2000}         # at most: of a classifier on one epoch's samples
TIMED = 4096                             # images that are drawn for a measured speed


def measure(context):
    """FID of every epoch's samples, and what a classifier learns from them alone. Raises UserError where there is no
    snapshot, or one of other classes."""
    snapshots, by_stem = [], {}
    for stem in GENERATORS:
        paths = sorted((context.models / f"{stem}_epochs").glob("*.pth"))
        snapshots += [(stem, paths[i]) for i in figures.evenly_spaced(len(paths), EPOCHS[context.quick])]
    if not snapshots:
        raise UserError(f"there are no snapshots in {context.models}: train with `python train.py --snapshots` (and "
                        "`--model cvae --snapshots`), then evaluate again")
    context.say("features of the test images", 0, len(snapshots))
    reference, seeds = Reference(context), 1 if context.quick else context.seeds
    for i, (stem, path) in enumerate(snapshots, 1):
        checkpoint = models.load(path, models.MAKES_IMAGES)
        if checkpoint.classes != context.glyphs.classes:
            raise UserError(f"{path} draws other classes than those of {context.glyphs.name}: "
                            "train again with --snapshots")
        images, labels, _ = reference.sample(TorchGenerator(checkpoint.model, checkpoint.classes))
        cas = accuracy_from_samples(context, images, labels, STEPS[context.quick], seeds)
        distance = fid(reference.test.moments, reference.measure(images, labels).moments)
        if not matches(checkpoint.info, {"figures": {"epoch": int, "training_seconds": float}}):
            raise UserError(f"{path} does not say of which epoch it is: train again with --snapshots")
        when = {key: checkpoint.info["figures"][key] for key in ("epoch", "training_seconds")}
        by_stem.setdefault(stem, []).append({**when, "fid": distance, "accuracy": cas["mean"]})
        context.say(f"{GENERATORS[stem]}, epoch {when['epoch']}", i, len(snapshots))
    floor = fid(reference.test.moments, reference.floor_set(0).moments)
    return describe({"n": reference.n, "floor_fid": floor, "classifier_steps": cas["steps"],
                     "classifier_seeds": seeds, "models": by_stem})


def describe(numbers):
    """The Section of numbers, measured now or stored."""
    floor, seeds = numbers["floor_fid"], numbers["classifier_seeds"]
    by_name = {GENERATORS[stem]: rows for stem, rows in numbers["models"].items()}

    def curves(key, scale=1):
        return {name: ([r["epoch"] for r in rows], [scale * r[key] for r in rows]) for name, rows in by_name.items()}

    table = Table("By epoch", ["", "Seconds of training", "FID", "FID / floor", "Accuracy from its samples"], [
        [f"{name}, epoch {r['epoch']}", f"{r['training_seconds']:.0f}", f"{r['fid']:.3f}", f"{r['fid'] / floor:.2f}",
         format_percent(r["accuracy"])] for name, rows in by_name.items() for r in rows],
        f"N = {numbers['n']:,}; the floor, real training images, is FID {format_number(floor)}. Accuracy: on test images, of a "
        f"classifier that has learned from the epoch's samples alone, {numbers['classifier_steps']:,} steps, number of "
        f"seeds: {seeds}; single points differ by chance.")
    changes = "; ".join(f"{name} from {format_number(rows[0]['fid'])} at epoch {rows[0]['epoch']} to {format_number(rows[-1]['fid'])} at "
                        f"epoch {rows[-1]['epoch']}" for name, rows in by_name.items())
    last = max(r["epoch"] for rows in by_name.values() for r in rows)
    shared = {"x_title": "epoch of the generator", "size": (860, 360)}
    distances = {**curves("fid"), "real images (floor)": ([1, last], [floor, floor])}
    page = figures.page([
        charts.curves(distances, "Distance to real images", y_title="FID", log_y=True, **shared),
        charts.curves(curves("accuracy", 100), "Accuracy of a classifier that saw generated images alone",
                      y_title="test images read correctly, %", **shared)], gap=0)
    alt = f"Two plots against the generator's epoch, for {join_names(by_name)}: FID, and accuracy of a classifier."
    return Section("epochs", "How do the images improve with training?", [], [table], [Figure("epochs", page, alt)],
                   numbers, f"Their distance to real images (FID) changes: {changes}.", {"seeds": seeds})


# ---- runtime -------------------------------------------------------------------------------------

def measure_runtime(context):
    """Seconds of training from the records of the runs, speed of drawing as measured now."""
    sources, notes = open_generators(context)
    if not sources:
        raise UserError(f"no generator in {context.models}: {' '.join(notes)}")
    by_stem = {}
    for i, stem in enumerate(sources):
        context.say(f"{GENERATORS[stem]}: draws {TIMED:,} images", i, len(sources))
        record = context.models / f"{stem}.json"
        run = read_record(record) if record.is_file() else {}
        by_stem[stem] = {"training_seconds": run.get("training_seconds"), "epochs": run.get("epochs"),
                         "training_images_per_second": run.get("images_per_second"),
                         "trained_on": run.get("machine", {}).get("processor"),
                         "parameters": run.get("parameters", {}).get(stem)}
        for kind in ("onnx", "pth"):
            path = context.models / f"{stem}.{kind}"
            if path.is_file():
                source = open_generator(path)
                sample_all(source, 2 * BLOCK)                                # to warm up
                started = time.perf_counter()
                sample_all(source, TIMED)
                speed = TIMED / (time.perf_counter() - started)
                by_stem[stem][kind] = {"images_per_second": speed, "bytes": path.stat().st_size}
    context.say("speed measured", len(sources), len(sources))
    return describe_runtime({"drawn": TIMED, "models": by_stem})


def describe_runtime(numbers):
    """The Section of numbers, measured now or stored."""
    by_name = {GENERATORS[stem]: row for stem, row in numbers["models"].items()}
    speeds = {name: {f".{kind}": row[kind]["images_per_second"] for kind in ("onnx", "pth") if kind in row}
              for name, row in by_name.items()}
    speed, kind, fastest = max((v, kind, name) for name, row in speeds.items() for kind, v in row.items())
    answer = f"Drawing 10,000 images takes {format_number(10_000 / speed, 2)} s with the {fastest} from its `{kind}`"
    trained = [f"the {name} {r['training_seconds']:.0f} s" for name, r in by_name.items() if r["training_seconds"]]
    answer += f"; training took {join_names(trained)}." if trained else "."
    note = (f"Drawing: {numbers['drawn']:,} images in blocks of {BLOCK}, as `generate_digits.py` makes them, on the "
            "machine of this evaluation. Training: by the records, on the machine that trained.")

    def cells(values):
        return ["-" if v is None else f"{v:,.0f}" for v in values]
    rows = [[title, *cells(r[key] for r in by_name.values())] for title, key in (
        ("Training, seconds", "training_seconds"), ("Training, epochs", "epochs"),
        ("Training, images/s", "training_images_per_second"), ("Parameters of the generator", "parameters"))]
    rows += [[f"Drawing from {k}, images/s", *cells(r.get(k) for r in speeds.values())] for k in (".onnx", ".pth")]
    rows.append(["Bytes of the .onnx", *cells(r.get("onnx", {}).get("bytes") for r in by_name.values())])
    alt = "; ".join(f"{n} {', '.join(f'{v:,.0f} from the {k}' for k, v in row.items())}" for n, row in speeds.items())
    figure = Figure("speed", charts.bars(speeds, "Images drawn per second", y_title="images/s", size=(640, 360)),
                    f"Bars of images drawn per second: {alt}.")
    return Section("runtime", "How long does it take?", [], [Table("Time", ["", *by_name], rows, note)], [figure],
                   numbers, answer)
