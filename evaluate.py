"""Compares the models of a folder, runs the studies, and writes results/: a JSON file each, report.html, the figures.

    python evaluate.py                                  # every study, the quick form: minutes on 2 CPU cores
    python evaluate.py --only robustness --full         # one of them, the full form; the others stay
    python evaluate.py --only ocr --full --jobs 8       # its trainings in 8 processes; more machines may join in
    python evaluate.py --only ocr --protocols rare --per-class 10,20 --arms tuned,cgan+tuned,cvae      # resumable
    python evaluate.py --dataset kmnist                 # models of saved_models/kmnist, results in results/kmnist
    python evaluate.py --report                         # report.html and docs/results.md anew from what is stored

Results are written after every study. A full study is replaced by its quick form only where --only names it.
Real images are shown only with --show-real: not every licence allows to pass them on.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import contextlib
import hashlib
import time
from pathlib import Path

import torch

import data
from datasets.download import SOURCES
from study import classifier, epochs, generators, ocr, report, robustness, saliency_checks
from study.context import Context, read_record
from training.deformation import load_deformer
from training.run import describe_machine
from utils import cli
from utils.files import UserError, exclusive

STUDIES = {"quality": generators.measure, "classifier": classifier.measure, "ocr": ocr.measure,
           "epochs": epochs.measure, "runtime": epochs.measure_runtime, "robustness": robustness.measure,
           "saliency": saliency_checks.measure}
# the model files that a study's figures depend on
ALL_GENERATORS, COMPARED = ["generator.*", "acgan.*", "cvae.*"], ["generator.*", "cvae.*", "classifier*.pth"]
MODEL_FILES = {"quality": [*ALL_GENERATORS, "classifier.onnx"], "classifier": ["classifier.pth"], "ocr": [],
               "epochs": ["*_epochs/*.pth", "classifier.onnx"], "runtime": ALL_GENERATORS, "robustness": COMPARED,
               "saliency": [*COMPARED, "*_epochs/*.pth"]}
PARALLEL = ("ocr", "robustness")       # studies of many trainings: --jobs
RESULTS, DOCUMENT = Path("results"), Path("docs/results.md")


def deformer_file(text):
    """An argparse type: the path of a deformer, which is opened to see that it is one."""
    load_deformer(cli.non_empty_path(text))
    return text


def parse_args(argv=None):
    parser = cli.Parser("Compare the models of a folder, run the studies, write results and a report.")
    add = parser.add_argument
    add("--models", type=cli.non_empty_path, help="folder of trained models (default: saved_models[/<dataset>])")
    add("--dataset", type=cli.non_empty_path, help="a name or a path (default: what the models were trained on)")
    cli.add_data_options(parser)
    cli.add_font_option(parser)
    add("--out", type=cli.new_folder, help="folder to write to (default: results for mnist, else results/<dataset>)")
    add("--only", type=cli.names_from(STUDIES), help=f"comma-separated, of {','.join(STUDIES)} (default: all)")
    add("--seeds", type=cli.number(int, above=0, at_most=1000),
        help="repetitions of whatever is trained (default: 3, with --full 5; the quick robustness and saliency take at most 2, "
        "epochs 1)")
    add("--full", action="store_true", help="the full study, which takes up to hours, instead of the quick one")
    add("--jobs", type=cli.number(int, above=0, at_most=1000), help=f"share the trainings of {' and '.join(PARALLEL)} "
        "among so many processes of one thread each, and with those of other machines that are given the same --out "
        "(default: one training after the other, on as many threads as are fastest)")
    add("--show-real", action="store_true", help="show real images, too; leave them out of what you pass on")
    cli.add_device_option(parser)
    add("--report", action="store_true", help="only write report.html and docs/results.md anew from what is stored")
    group = parser.add_argument_group("OCR study", "with --only ocr; finished runs are kept in ocr.jsonl")
    add, steps = group.add_argument, cli.number(int, above=0, at_most=1_000_000)
    add("--per-class", type=cli.image_counts, help="real images of each (rare) class, as 10,100,all (default: 10; with "
        "--full 10,50,100,500,all, of rare classes 5,10,20,50, of a new script 1,3,5,10)")
    options = [
        add("--protocols", type=cli.names_from(ocr.ARMS), help=f"some of {','.join(ocr.ARMS)} (default: few,rare; with "
            "--full few,predecessors, and rare or, for a data set that is itself imbalanced, tail)"),
        add("--arms", type=cli.names_from(ocr.ARM_NAMES), help=f"some of {', '.join(ocr.ARM_NAMES)} (default: a few; "
            "with --full all but strokes)"),
        add("--steps", type=steps, help="optimiser steps of a classifier (default: 400, full 2000)"),
        add("--generator-steps", type=steps, help="and of a generator (default: 400, full 2000)"),
        add("--tries", type=int, choices=range(1, 5), help="settings of an arm to choose from (default: 1, full 3)"),
        add("--deformer", type=deformer_file, help="of the protocol script: what has learned on other scripts how "
            "hands vary (default: saved_models/deformer.pth)")]
    args = parser.parse_args(argv)
    args.models, args.out = (Path(path) if path else None for path in (args.models, args.out))
    args.seeds = args.seeds or (5 if args.full else 3)
    args.ocr = {o.dest: getattr(args, o.dest) for o in options if getattr(args, o.dest) is not None}
    if args.ocr and "ocr" not in (args.only or ()):
        option = "--" + next(iter(args.ocr)).replace("_", "-")
        raise UserError(f"{option} is an option of the OCR study: add --only ocr, or leave it out")
    if args.jobs and not set(PARALLEL) & set(args.only or STUDIES):
        raise UserError(f"--jobs is for {' and '.join(PARALLEL)}: name one of them with --only, or leave it out")
    if args.report and (args.only or args.full or args.show_real or args.jobs):
        raise UserError("--report measures nothing: leave --only, --full, --jobs and --show-real out")
    return args


def load_data(args):
    """Choose the folder of models, args.models, and the data set: (Glyphs, sentences about them)."""
    args.models = args.models or cli.default_folder("saved_models", args.dataset or "mnist")
    if not args.models.is_dir() and any(MODEL_FILES[name] for name in args.only or STUDIES):
        raise UserError(f"no folder {args.models}: train first (python train.py), or name another with --models")
    records = {}                                     # of the runs: {name: (data set, its sha256)}
    for path in sorted(args.models.glob("*.json")):
        record = read_record(path)
        records[path.stem] = record["dataset"], record.get("dataset_sha256")
    if not args.dataset:
        names = sorted({name for name, _ in records.values()})
        if len(names) != 1 or names[0] not in SOURCES:
            what = f"runs on {', '.join(names)}" if names else "no record of a run"
            raise UserError(f"{args.models} holds {what}: say with --dataset on what to compare (your own: its path)")
        args.dataset = names[0]
    glyphs = data.load(args.dataset, args.data_dir, center=not args.no_center)
    if not len(glyphs.x_test):
        raise UserError(f"{glyphs.name} has no test images, which every figure here needs")
    notes = [glyphs.notice] if glyphs.notice else []
    others = [name for name, (_, sha256) in records.items() if sha256 != glyphs.sha256]
    if others:
        notes.append(f"Not trained on this very data set: {', '.join(others)}.")
    return glyphs, notes


def hash_models(folder, key):
    """{file name: sha256, 12 digits} of the model files that a study depends on."""
    paths = sorted({path for pattern in MODEL_FILES[key] for path in folder.glob(pattern)
                    if path.suffix in (".pth", ".onnx", ".json") and not path.name.endswith(".resume.pth")})
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()[:12] for p in paths}


def check_stored(args, glyphs):
    """Mark the sections in the folder that are stale, which their page then says, and remove those that show real
    images where --show-real is not given; returns a line for each."""
    lines = []
    for key, section in report.read_all(args.out).items():
        protocol, now = section["protocol"], hash_models(args.models, key)
        # snapshots of training may have been removed since, as they are not passed on with the models
        before = {name: digest for name, digest in protocol["models"].items() if name in now or "_epochs/" not in name}
        stale = "measured with other model files" if before != now else ""
        if protocol["dataset_sha256"] != glyphs.sha256:
            stale = "measured on other data"
        if protocol["real_images"] and not args.show_real:
            report.remove(key, args.out)
            lines.append(f"removed the earlier section {key}: it shows real images, which --show-real would keep")
        elif stale != protocol.get("stale", ""):
            report.write(key, {**section, "protocol": {**protocol, "stale": stale}}, args.out)
            lines.append(f"the earlier section {key} is {'stale: ' + stale if stale else 'no longer stale'}")
    return lines


def protocol_of(key, context, seconds):
    """How a section was measured, beside its numbers; real_images: whether its figures may show some."""
    g, form = context.glyphs, "quick" if context.quick else "full"
    machine, jobs = describe_machine(context.device), f" --jobs {context.jobs}" if context.jobs else ""
    if context.jobs:
        machine["machine"] |= {"threads": 1, "jobs": context.jobs}
    return {"dataset": g.name, "dataset_sha256": g.sha256, "test_images": len(g.x_test),
            "models": hash_models(context.models, key), "form": form, "seeds": context.seeds,
            "per_class": context.per_class, "seconds": round(seconds, 1), "real_images": context.show_real,
            **machine,
            "command": f"{context.command}{jobs} --only {key} {'' if context.quick else '--full '}--seeds {context.seeds}"}


def main(argv=None):
    with contextlib.ExitStack() as locks:              # of the studies that are written
        evaluate(parse_args(argv), locks)


def evaluate(args, locks):
    """The command; `locks`: an ExitStack for what is held until its end."""
    started, is_usual_place = time.monotonic(), not args.out

    def write_pages():
        report.write_page(args.out)
        if is_usual_place:
            report.write_markdown(RESULTS, DOCUMENT)

    if args.report:
        args.out = args.out or cli.default_folder(RESULTS, args.dataset or "mnist")
        write_pages()
        print(f"wrote {args.out / 'report.html'}")
        return
    device = cli.choose_device(args.device)
    torch.set_flush_denormal(True)
    glyphs, notes = load_data(args)
    args.out = args.out or cli.default_folder(RESULTS, glyphs.name)
    print(f"{glyphs.name}: {len(glyphs.x_train):,} training, {len(glyphs.x_test):,} test images, models of "
          f"{args.models}, {'full study' if args.full else 'quick form'}, {args.seeds} seeds -> {args.out}")
    for line in notes + check_stored(args, glyphs):
        print(f"NOTE: {line}")
    stored, failures, names = report.read_all(args.out), {}, args.only or list(STUDIES)
    if not (args.only or args.full):
        names = [name for name in names if name not in stored or stored[name]["protocol"]["form"] == "quick"]
        for name in [name for name in stored if name not in names]:
            print(f"NOTE: keeps the full study of {name}; --only {name} replaces it by the quick form")
    jobs, is_alone = {name: args.jobs or 0 for name in PARALLEL}, {}
    for name in names:                                 # a second process may write other studies into the folder
        is_alone[name] = locks.enter_context(exclusive(args.out / f"{name}.lock", shared=jobs.get(name, 0) > 0))
    command = "python evaluate.py" + (f" --dataset {Path(args.dataset).name}" if glyphs.name != "mnist" else "")
    for i, name in enumerate(names, 1):
        say = cli.Progress(prefix=f"[{i}/{len(names)} {name}] ")
        context = Context(glyphs, args.models, args.out, args.seeds, args.per_class or [], not args.full, device,
                          args.show_real, say, args.ocr, command, jobs.get(name, 0), is_alone[name])
        begun = time.monotonic()
        try:
            section = STUDIES[name](context)
        except UserError as e:
            failures[name] = str(e)
            if name in stored:
                say(f"{e}; the earlier figures are kept")
                continue
            section = report.Section(name, name.capitalize(), [], answer=f"Not measured: {e}")
        if args.models.is_absolute():                # no local paths
            section.answer = section.answer.replace(str(args.models), args.models.name)
            section.paragraphs = [text.replace(str(args.models), args.models.name) for text in section.paragraphs]
        report.save(section, protocol_of(name, context, time.monotonic() - begun), glyphs, notes, args.out)
        write_pages()
        say(section.answer)
    if names and len(failures) == len(names):
        raise UserError("; ".join(f"{name}: {text}" for name, text in failures.items()))
    print(f"{cli.format_duration(time.monotonic() - started)}. Wrote {args.out / 'report.html'}")


if __name__ == "__main__":
    cli.run_command(main)
