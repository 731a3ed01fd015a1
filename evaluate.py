"""Compares the models of a folder, runs the studies, and writes results/: results.json, report.html, the figures.

    python evaluate.py                                  # every section, the quick form: minutes on 2 CPU cores
    python evaluate.py --only quality,runtime           # some sections; the others are kept where they still hold
    python evaluate.py --only ocr --full                                               # the full study; resumable
    python evaluate.py --dataset kmnist                 # models of saved_models/kmnist, results in results/kmnist
    python evaluate.py --tables                         # README.md's tables anew from results.json
    python evaluate.py --report                         # report.html anew from results.json

Results are written after every section, so that a stop loses nothing. A section whose data set or model files have
changed since is dropped when others are measured anew. Real images are shown only with --show-real: the results of a
data set whose licence does not allow it can then still be passed on.
"""
import importlib
import json
import math
import sys
import time
from pathlib import Path

import torch

import data
from datasets.download import SOURCES
from study import report
from study.context import Context
from study.results_file import SECTIONS, fill_tables, fresh, keep, protocol_of, read_results, store, write
from study.sections import Section
from utils.cli import Parser, choose_device, default_folder, image_counts, names_from, number, run_command
from utils.files import UserError, atomic

TALK_SECONDS = 10                           # between two lines of progress where the output is no terminal


# ---- settings --------------------------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = Parser("Compare the models of a folder, run the studies, write results and a report.")
    add = parser.add_argument
    add("--models", type=Path, help="folder of trained models (default: saved_models, or saved_models/<dataset>)")
    add("--dataset", help="a name or the path of your own (default: what the models were trained on)")
    add("--data-dir", help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    add("--no-center", action="store_true", help="keep the frame of your own images, as in training")
    add("--out", type=Path, help="folder to write to (default: results for mnist, else results/<dataset>)")
    add("--only", type=names_from(SECTIONS), default=list(SECTIONS), help=f"comma-separated, of {','.join(SECTIONS)}")
    add("--per-class", type=image_counts, default=[], help="real images per class in the OCR study, as 10,100,all (default: "
        "10; with --full 10,50,100,500,all, and of rare classes 5,10,20,50)")
    add("--seeds", type=number(int, above=0), help="repetitions of whatever is trained (default: 3, with --full 5)")
    add("--full", action="store_true", help="the full study, hours, instead of the quick one, minutes")
    add("--show-real", action="store_true", help="show real images, too; leave them out of what you pass on")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda where there is one")
    add("--report", action="store_true", help="only write report.html anew from results.json")
    add("--tables", nargs="?", const="README.md", type=Path, metavar="FILE",
        help="only fill the tables of FILE (default: README.md) between <!-- table SECTION/NUMBER --> and <!-- end -->")
    args = parser.parse_args(argv)
    args.seeds = args.seeds or (5 if args.full else 3)
    return args


def records(models):
    """The records of the runs in a folder: {name: dict}. Raises UserError for a broken one."""
    found = {}
    for path in sorted(models.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = record if isinstance(record["dataset"], str) else {}["dataset"]
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{path} is no record of train.py: train again, or remove it") from e
    return found


def place(args):
    """Settle the folder of models and the data set: Glyphs, and what is to be said about them."""
    own = args.dataset and args.dataset != "mnist"
    args.models = args.models or Path("saved_models") / (Path(args.dataset).stem if own else "")
    if not args.models.is_dir() and any(SECTIONS[name][2] for name in args.only):
        raise UserError(f"no folder {args.models}: train first (python train.py), or name another with --models")
    trained = records(args.models)
    names = sorted({r["dataset"] for r in trained.values()})
    name = args.dataset
    if not name:
        if len(names) != 1:
            raise UserError(f"{args.models} holds {'runs on ' + ', '.join(names) if names else 'no record of a run'}: "
                            "say with --dataset on what to compare")
        name, = names
        if name not in SOURCES:
            raise UserError(f"the models in {args.models} were trained on your own data set {name!r}: give its path "
                            "with --dataset")
    glyphs = data.load(name, args.data_dir, center=not args.no_center)
    if not len(glyphs.x_test):
        raise UserError(f"{name} has no test images, which every figure here needs")
    args.out = args.out or default_folder("results", glyphs.name)
    notes = [glyphs.notice] * bool(glyphs.notice)
    others = [n for n, r in trained.items() if r.get("dataset_sha256") != glyphs.sha256]
    if others:
        notes.append(f"Not trained on this very data set: {', '.join(others)}.")
    return glyphs, notes


# ---- progress --------------------------------------------------------------------------------------------------------

class Progress:
    """say(text): a line; say(text, done, total): a live line with the time left, as guessed from the time so far."""

    def __init__(self, place):
        self.place, self.started = place, time.monotonic()
        self.series, self.since, self.told, self.live = None, self.started, -math.inf, False

    def __call__(self, text, done=None, total=None):
        now, tty = time.monotonic(), sys.stdout.isatty()
        line = f"[{self.place}, {clock(now - self.started)}] {text}"
        if total is None:
            print("\n" * self.live + line, flush=True)
            self.live = False
            return
        if self.series is None or self.series[1] != total or done <= self.series[0]:
            self.since, self.first, self.told = now, done, -math.inf
        self.series = done, total
        steps = done - self.first              # those that were timed
        left = (now - self.since) / steps * (total - done) if steps > 0 else None
        line += f"  {done:,}/{total:,}" + (f"  ETA {clock(left)}" if left is not None and done < total else "")
        if tty:
            print(f"\r\033[K{line}", end="\n" if done == total else "", flush=True)
            self.live = done < total
        elif now - self.told > TALK_SECONDS or done == total:
            print(line, flush=True)
            self.told = now


def clock(seconds):
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


# ---- the command -----------------------------------------------------------------------------------------------------

def measure(name, context):
    """The Part of one section; its module is imported only now."""
    module, function, _ = SECTIONS[name]
    return getattr(importlib.import_module(module), function)(context)


def main(argv=None):
    args = parse_args(argv)
    if args.tables:
        folder = args.out or Path("results")
        if not args.tables.is_file():
            raise UserError(f"no such file: {args.tables}; name the one whose tables are to be filled")
        try:
            before = args.tables.read_text(encoding="utf-8")
        except UnicodeDecodeError as e:
            raise UserError(f"{args.tables} is no text file in UTF-8: name the one whose tables are to be filled") from e
        if "<!-- table " not in before:
            raise UserError(f"{args.tables} has no line <!-- table SECTION/NUMBER --> to put a table after")
        after = fill_tables(before, folder)
        with atomic(args.tables) as tmp:
            tmp.write_text(after, encoding="utf-8")
        print(f"{args.tables}: {'tables written anew' if after != before else 'tables are as in the results'}")
        return
    if args.report:
        out = args.out or default_folder("results", args.dataset or "mnist")
        report.write(read_results(out / "results.json"), out)
        print(f"wrote {out / 'report.html'}")
        return
    started, device = time.monotonic(), choose_device(args.device)
    torch.set_flush_denormal(True)
    glyphs, notes = place(args)
    results = fresh(glyphs, notes, device)
    print(f"{glyphs.name}: {len(glyphs.x_train):,} training, {len(glyphs.x_test):,} test images, models of "
          f"{args.models}, {'full study' if args.full else 'quick form'}, {args.seeds} seeds -> {args.out}")
    for line in notes + keep(results, args.out / "results.json", args.models, args.show_real):
        print(f"NOTE: {line}")
    failures = {}
    for i, name in enumerate(args.only):
        say = Progress(f"{i + 1}/{len(args.only)} {name}")
        context = Context(glyphs, args.models, args.out, args.seeds, args.per_class, not args.full, device,
                          args.show_real, say)
        begun = time.monotonic()
        try:
            part = measure(name, context)
        except UserError as e:
            failures[name] = str(e)
            kept = name in results["sections"]
            say(failures[name] + "; the earlier figures are kept" * kept)
            if kept:
                continue
            part = Section(name, name.capitalize(), [f"Not measured: {failures[name]}"])
        protocol = protocol_of(results, name, context, time.monotonic() - begun, args.show_real) | part.protocol
        if args.models.is_absolute():            # no local paths
            part.paragraphs = [text.replace(str(args.models), args.models.name) for text in part.paragraphs]
        results["sections"][name] = store(part, protocol, args.out)
        write(results, args.out)
        say(part.paragraphs[0])
    if len(failures) == len(args.only):
        raise UserError("; ".join(f"{name}: {text}" for name, text in failures.items()))
    print(f"{clock(time.monotonic() - started)} min. Wrote {args.out / 'report.html'} and {args.out / 'results.json'}")


if __name__ == "__main__":
    run_command(main)
