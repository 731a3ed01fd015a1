"""Broken, odd and hostile files for everything that reads a file: each must be read or refused with one line.

    python benchmarks/fuzz.py                                 # 10,000 inputs: a table, exit status 1 where one is bad
    python benchmarks/fuzz.py --inputs 500 --seed 7 --kinds generator.onnx,resume.pth
    python benchmarks/fuzz.py --replay fuzz-hits/table.csv-0-1234.csv --kinds table.csv      # one file once more

Real files of every kind (drawn by the strokes simulator, small untrained networks, those of saved_models/ and
results/) are mutated (mutations.py) and given to the functions that the commands read them with. Input i of a seed is
always the same file. Bad is what ends in a traceback, takes more than 5 s of processor time, takes the process over
1 GB of memory, or kills it; the file and what was said are then kept in --out for --replay.
"""
import contextlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mutations import mutate, pack
from PIL import Image
from repository import ROOT

import data
import evaluate
import export_onnx
import models
import train
from datasets import readers, strokes
from generate_digits import open_generator, sample_all
from metrics import frechet_distance
from metrics.features import Extractor, FeatureSet
from study import context, ocr, report, robustness, run_cache
from training.run import Run
from utils.cli import Parser, Progress, names_from, non_empty_path, number, run_command
from utils.files import UserError

SECONDS, MEMORY = 5, 1 << 30           # that an input may take of the processor; of the whole process
TOGETHER = 400                         # inputs of a process, as what they leave in memory adds up
OUTCOMES = ("read", "refused", "traceback", "hang", "memory", "crash")
NO_MEMORY = ("MemoryError", "bad_alloc", "not enough memory", "Cannot allocate", "std::length_error")


# ---- real files ----------------------------------------------------------------------------------

def make_files(folder):
    """Write real files of every kind: <folder>/<kind>/<number>."""
    def put(kind, content):
        place = folder / kind
        place.mkdir(exist_ok=True)
        (place / f"{len(list(place.iterdir())):03d}").write_bytes(content)

    def saved(write, *args, **more):
        stream = io.BytesIO()
        write(stream, *args, **more)
        return stream.getvalue()
    x, y = strokes.generate(60, seed=1)
    classes = np.array(list("0123456789"))
    put("images.npz", saved(np.savez, images=x, labels=y, thickness=np.linspace(0, 1, 60, dtype=np.float32),
                            classes=classes))
    put("images.npz", saved(np.savez_compressed, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:],
                            chars=classes))
    put("images.npy", saved(np.save, x))
    rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(x[:30], y)]
    put("table.csv", "\n".join(["label," + ",".join(f"p{i}" for i in range(784)), *rows, ""]).encode())
    names = [f"{i:05d}.png" for i in range(10)]
    put("labels.csv", "\n".join(["file,label,class,thickness",
                                 *(f"{n},{k},{k},0.5" for n, k in zip(names, y.tolist())), ""]).encode())
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        put(f"picture.{kind.lower()}", saved(Image.fromarray(x[0]).save, format=kind))
        put(f"picture.{kind.lower()}", saved(Image.fromarray(x[1]).convert("RGB").resize((90, 60)).save, format=kind))
    put("images-idx3-ubyte", b"\0\0\x08\x03" + np.array(x.shape, ">u4").tobytes() + x.tobytes())
    put("pictures.zip", make_zip(x, y))
    put("statistics.npz", saved(np.savez, mu=np.arange(9.0), sigma=np.eye(9), n=50, extractor="abc:features"))
    for kind, (config, network) in models.MODELS.items():
        torch.manual_seed(0)
        checkpoint = models.Checkpoint(kind, network(config()), classes.tolist(), np.zeros((10, 256)),
                                       {"dataset": "strokes", "license": "MIT",
                                        "figures": {"epoch": 1, "training_seconds": 1.5}})
        models.save(folder / "network", checkpoint)
        put(f"{kind}.pth", (folder / "network").read_bytes())
    (folder / "network").unlink()
    for stem in ("generator", "cvae", "classifier-tiny"):
        put("classifier.onnx" if "class" in stem else "generator.onnx",
            (ROOT / f"saved_models/{stem}.onnx").read_bytes())
        put("record.json", (ROOT / f"saved_models/{stem}.json").read_bytes())
    for path in sorted((ROOT / "results").glob("*.json")):
        put("results.json", path.read_bytes())
    for stem in ("ocr", "robustness"):
        put(f"{stem}.jsonl", b"".join((ROOT / f"results/{stem}.jsonl").read_bytes().splitlines(True)[-40:]))
    run = make_run(folder)
    run.begin()
    for optimizer, loss, _ in run.trainer.losses(run.batches.batch(0, 3)):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.step, run.frames = 1, [(x[:40], "epoch 1")]
    run.save_state()
    put("resume.pth", run.state.read_bytes())
    run.state.unlink()
    run.log.unlink()
    put("log.jsonl", b"".join((ROOT / "saved_models/generator.log.jsonl").read_bytes().splitlines(True)[:20]))


def make_zip(x, y):
    stream, out = io.BytesIO(), []
    for i, (image, label) in enumerate(zip(x[:8], y)):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        out.append((f"set/id_{i}_label_{label}.png", stream.getvalue()))
    return pack(out)


def make_run(folder, args=None):
    """A small training of a GAN on a few strokes, as train.py begins it."""
    x, y = strokes.generate(24, seed=2)
    glyphs = data.Glyphs("strokes", list("0123456789"), x, y, x[:2], y[:2], x[:2], y[:2], "drawn", "MIT", True)
    if args is None:
        args = train.parse_args(["--dataset", "strokes", "--out", str(folder), "--epochs", "3", "--batch", "8"])
        args.bf16 = False
    train.resolve(args, glyphs)
    args.out = str(folder)
    run = Run(args, glyphs, torch.device("cpu"), time.perf_counter())
    run.plan(args.epochs or 1)
    return run


# ---- readers: what the commands do with a file of each kind, as far as it goes without waiting -----------------------

def read_data(path):
    with contextlib.suppress(UserError):
        data.load(path)
    data.read_images(path)


def read_labels(path):
    folder = path.parent / "folder"
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        for i, image in enumerate(strokes.generate(10, seed=1)[0]):
            Image.fromarray(image).save(folder / f"{i:05d}.png")
    (folder / "labels.csv").write_bytes(path.read_bytes())
    data.read_images(folder)


def read_statistics(path):
    if stats := frechet_distance.load_moments(path):
        frechet_distance.fid(stats, stats)
        FeatureSet(stats)


def read_generator(path):
    source = open_generator(path)
    sample_all(source, 4)
    if path.suffix == ".pth":
        export_onnx.metadata(models.load(path))


def read_classifier(path):
    images = strokes.generate(3, seed=1)[0]
    if path.suffix == ".pth":
        checkpoint = models.load(path, "classifier")
        checkpoint.model(models.from_uint8(torch.from_numpy(images)))
        export_onnx.metadata(checkpoint)
    else:
        with contextlib.suppress(UserError):           # of a file that breaks the contract, which fid.py may still take
            export_onnx.check(path)
        Extractor(path, depths=True).measure(images)


def read_resume(path):
    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    (folder / "generator.resume.pth").write_bytes(path.read_bytes())
    args, state = train.stopped_run(train.parse_args(["--resume", "--out", str(folder)]), given=set())
    args.dataset, args.batch = "strokes", min(args.batch, 8)
    args.bf16 = False
    run = make_run(folder, args)
    if len(run.trainer.networks) and args.model == "cgan":
        state["data"] = run.glyphs.sha256
    run.load_state(state)
    with contextlib.suppress(StopIteration):
        train.train_step(run.trainer, run.batches.batch(0, 3), 1e-3)


def read_log(path):
    run = make_run(path.parent)
    run.log.write_bytes(path.read_bytes())
    train.save_loss_curves(run) if run.log_rows() else None


def read_record(path):
    folder = path.parent / "models"
    folder.mkdir(exist_ok=True)
    (folder / "generator.json").write_bytes(path.read_bytes())
    own = path.parent / "own.npz"
    if not own.exists():
        x, y = strokes.generate(60, seed=1)
        np.savez(own, x_train=x, y_train=y, x_test=x, y_test=y)
    evaluate.load_data(Namespace(models=folder, dataset=str(own), data_dir=None, no_center=False, only=["runtime"]))


def read_results(path):
    """As the page and docs/results.md are written; the figures of results/ are there, those of saved_models/ too."""
    section = report.read(path)
    report.section_lines(section, ROOT / "results", ROOT / "docs" / "results.md")
    report.page({"ocr": section}, ROOT / "results")


def study_context(path, rows):
    """The Context whose rows these are, in so far as one can tell."""
    folder = path.parent / "study"
    folder.mkdir(exist_ok=True)
    (folder / rows).write_bytes(path.read_bytes())
    x, y = strokes.generate(60, seed=1)
    glyphs = data.Glyphs("mnist", list("0123456789"), x, y, x, y, np.zeros((10_000, 28, 28), np.uint8),
                         np.arange(10_000) % 10, "drawn", "MIT")
    glyphs.sha256 = json.loads((ROOT / "results/ocr.jsonl").open().readline())["key"]["sha256"]
    return context.Context(glyphs, folder, folder, say=lambda *_: None)


def read_ocr(path):
    known = study_context(path, "ocr.jsonl")
    rows = [r for r in ocr.open_cache(known).index.values() if r.get("version") == ocr.VERSION]
    if shown := ocr.rows_to_show(rows):
        ocr.ocr_report.describe(known, shown, ocr.ARMS)


def read_robustness(path):
    known = study_context(path, "robustness.jsonl")
    for row in run_cache.RunCache(known.out / "robustness.jsonl", robustness.is_row).index.values():
        if row.get("version") == robustness.VERSION:
            dict(zip(row["eps"], row["curve"],
                     strict=True)), [row["corruptions"][k] + row["clean"] for k in robustness.CORRUPTIONS]


PICTURES = {f"picture.{kind}": read_data for kind in ("png", "jpeg", "bmp", "gif", "tiff", "webp")}
READERS = {"images.npz": read_data, "images.npy": data.read_images, "table.csv": data.load, "labels.csv": read_labels,
           **PICTURES,
           "images-idx3-ubyte": data.read_images, "pictures.zip": readers.read_labelled_zip,
           "statistics.npz": read_statistics,
           "generator.pth": read_generator, "cvae.pth": read_generator, "classifier.pth": read_classifier,
           "discriminator.pth": models.load, "backbone.pth": models.load, "deformer.pth": models.load, "resume.pth": read_resume,
           "log.jsonl": read_log,
           "generator.onnx": read_generator,
           "classifier.onnx": read_classifier, "record.json": read_record, "results.json": read_results,
           "ocr.jsonl": read_ocr,
           "robustness.jsonl": read_robustness}


# ---- one input -----------------------------------------------------------------------------------

class Hang(BaseException):
    """Not an Exception: a reader that turns those into one line must not swallow it."""


def raise_hang(*_):
    raise Hang


class Caught:
    """A block whose exception, if any, is kept as `error`."""
    error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.error = error
        return isinstance(error, (Exception, Hang))


def outcome(read, path):
    """(one of OUTCOMES, what was said) of read(path), in this process."""
    signal.signal(signal.SIGPROF, raise_hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    reset_peak()
    with warnings.catch_warnings(), Caught() as caught:
        warnings.simplefilter("ignore")
        read(path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    error, text = caught.error, "".join(traceback.format_exception(caught.error))
    if isinstance(error, Hang):
        return "hang", text
    if peak_memory() > MEMORY or any(word in text for word in NO_MEMORY):
        return "memory", f"{peak_memory() >> 20} MB\n{text}"
    if isinstance(error, (UserError, OSError)) and "\n" not in str(error):   # an OSError ends as a line in run_command
        return "refused", str(error)
    return ("traceback", text) if error else ("read", "")


def reset_peak():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory():
    """Bytes that this process has held at most since reset_peak(); where there is no /proc, since its start."""
    with contextlib.suppress(OSError):
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make_input(base, kind, seed, i):
    """The bytes of input i of a kind."""
    rng = random.Random(f"{seed} {kind} {i}")
    contents = [path.read_bytes() for path in sorted((base / kind).iterdir())]
    content = rng.choice(contents)
    for _ in range(9):                                 # a mutation may find nothing to change, or fail
        with contextlib.suppress(Exception):
            if (changed := mutate(content, Path(kind).suffix, rng, contents)) != content:
                return changed
    return content[:-1]


def work(base, kinds, seed, start, end, stride):
    """Run inputs start, start + stride, ... and print (i, outcome, text) as JSON, a line each: what a process of
    its own does, which a hostile file may kill."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(OSError, ValueError, IndexError):
        size = 1024 * int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (size + 3 * MEMORY, soft))
    out = os.fdopen(os.dup(1), "w")                    # what readers print must not get between
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(start, min(end, start + TOGETHER * stride), stride):
            kind = kinds[i % len(kinds)]
            path = Path(folder) / kind
            path.write_bytes(make_input(base, kind, seed, i))
            print(json.dumps([i, *outcome(READERS[kind], path)]), file=out, flush=True)
            for cache in Path(folder).glob(".*"):      # of readers
                cache.unlink()


# ---- many inputs ---------------------------------------------------------------------------------

def collect(base, kinds, args, job, done):
    """Have the inputs of one job run, by a new process where one has died; done(i, outcome, text) for each."""
    i = job
    while i < args.inputs:
        words = ["--worker", base, i, "--inputs", args.inputs, "--seed", args.seed, "--jobs", args.jobs, "--kinds",
                 ",".join(kinds)]
        process = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "OMP_NUM_THREADS": "1"})
        with process:
            for line in process.stdout:
                done(*json.loads(line))
                i = json.loads(line)[0] + args.jobs
        if process.returncode:
            done(i, "crash", f"the process ended with status {process.returncode}")
            i += args.jobs


def fuzz(args, kinds):
    """Run all inputs; returns {kind: Counter of outcomes}."""
    table, progress, started = {kind: Counter() for kind in kinds}, Progress(sys.stderr), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        make_files(base)

        def done(i, result, text):
            kind = kinds[i % len(kinds)]
            table[kind][result] += 1
            if result not in ("read", "refused"):
                args.out.mkdir(parents=True, exist_ok=True)
                path = args.out / f"{kind}-{args.seed}-{i}{Path(kind).suffix}"
                path.write_bytes(make_input(base, kind, args.seed, i))
                path.with_suffix(".txt").write_text(f"{result}\n{text}\n", encoding="utf-8", errors="backslashreplace")
            progress("inputs", sum(c.total() for c in table.values()), args.inputs)
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: collect(base, kinds, args, job, done), range(args.jobs)))
    progress.close()
    print(f"{'':20}" + "".join(f"{name:>10}" for name in OUTCOMES))
    for kind, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        print(f"{kind:20}" + "".join(f"{counts[name]:>10,}" for name in OUTCOMES))
    print(f"seed {args.seed}, {time.monotonic() - started:.0f} s")
    return table


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    add, count = parser.add_argument, number(int, at_least=0)
    add("--inputs", type=count, default=10_000, help="how many")
    add("--seed", type=count, default=0, help="of the mutations")
    add("--kinds", type=names_from(READERS), default=list(READERS), help=f"some of {','.join(READERS)}")
    add("--jobs", type=number(int, at_least=1), default=os.cpu_count(), help="processes")
    add("--out", type=non_empty_path, default="fuzz-hits", help="folder of inputs that ended badly")
    add("--replay", type=non_empty_path, metavar="FILE",
        help="give this file to the reader of --kinds and show what it says")
    add("--worker", nargs=2, metavar=("BASE", "START"), help="(used by itself)")
    args = parser.parse_args(argv)
    args.out = Path(args.out)
    if args.replay:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / args.kinds[0]
            path.write_bytes(Path(args.replay).read_bytes())
            print(*outcome(READERS[args.kinds[0]], path), f"({peak_memory() >> 20} MB)")
    elif args.worker:
        work(Path(args.worker[0]), args.kinds, args.seed, int(args.worker[1]), args.inputs, args.jobs)
    elif any(set(counts) - {"read", "refused"} for counts in fuzz(args, args.kinds).values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
