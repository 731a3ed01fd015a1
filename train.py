"""One training run: a data set -> a model -> saved_models/.

    python train.py                                   # conditional GAN on MNIST: about 5 minutes on 2 CPU cores
    python train.py --model classifier                # reads digits, and is the feature extractor of fid.py
    python train.py --dataset strokes --epochs 2 --out try

Beside the weights and the ONNX file a run leaves its record (.json), its log (.log.jsonl) and the loss curves; a
generator a sheet of samples and a GIF of the training, a classifier its -gradient.onnx and a confusion matrix. A run
that was stopped goes on with --resume, on a CPU to the same weights bit for bit where --epochs is given; without it the
clock decides how many epochs fit (the record tells how many, and when).
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import argparse
import contextlib
import json
import math
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

import data
import export_onnx
import models
from generate_digits import sample_all
from metrics import statistics
from metrics.conditional import dial_metrics
from training import distributed
from training.classifier import AdversarialClassifierTrainer, predict_with_confidence
from training.gan import digits_can_start, digits_have_backbone
from training.health import Health, variance_in_class
from training.pretraining import backbone_file
from training.preview import Preview, save_loss_curves
from training.run import TRAINERS, LossLog, Run, clear_away, has_ended, read_state, train_step
from training.threads import ThreadTuner
from training.trainer import has_bf16, learning_rate
from utils import charts, cli, figures
from utils.checked_json import matches
from utils.files import UserError, exclusive
from utils.limits import MAX_IMAGES

# ---- settings ------------------------------------------------------------------------------------
# How long a model trains by default: `minutes` decide the epochs, so that everything is there within 6 (classifiers: 10)
# on 2 cores; never more `images` in all, to which more of them were seen to gain on MNIST, nor more `passes` over a handful
# of images. Learning rate and weights of the losses stand with the losses, in training/*.py.
DEFAULTS = {
    "cgan": {"minutes": 4.8, "images": 2_000_000},
    "acgan": {"minutes": 4.8, "images": 2_000_000},
    "cvae": {"minutes": 4.8, "images": 2_000_000},
    "classifier": {"minutes": 9.0, "images": 550_000, "passes": 2000},
    "classifier-tiny": {"minutes": 5.5, "images": 1_100_000, "passes": 4000},
    "classifier-adversarial": {"minutes": 7.5, "images": 330_000, "passes": 1000},
}
BATCH = 128                # images per step; 64 was no better and slower
UNEVEN, BALANCE = 2, 0.5   # Where a class is UNEVEN times as large as another, classes are seen as often as size ** (1 - BALANCE).
# Generators: below a mean of SCARCE images of a class the discriminator, which would learn them by heart, sees them shifted by
# SHIFT pixels. A cgan of at most FEW_TO_DRAW starts from the one that comes along, and makes at most STARTED_PASSES over the
# images: with 20 of a class a longer run ends worse (docs/tried.md).
SCARCE, SHIFT, FEW_TO_DRAW, STARTED_PASSES = 2_000, 1, 100, 1000
# Classifiers: with a median of at most FEW images of a class one reads by the features of a backbone (docs/new_script.md), of
# VIEWS views of the images in all, of each image VIEWS_EACH at least, drawn as FEW_SETTINGS say. From TUNED images in all another
# network stands beside it, which starts from the backbone and is trained on TUNED_IMAGES in all.
FEW, FEW_SETTINGS = 10, {"pen": 1.0, "elastic": 20.0}
VIEWS, VIEWS_EACH = 12_800, 10
TUNED, TUNED_IMAGES = 30, 130_000
WARM_STEPS, PLAN_STEPS = 50, 250     # the speed between them decides how many epochs fit
LOG_SECONDS = 1.0          # between two rows of the log
MEASURED = 10_000          # samples by which a generator is measured at the end


def by_model(values):
    """{model: value} as text for --help, as "4.8 for cgan, cvae; 9 for classifier", or the value alone."""
    models_of = {}
    for model, value in values.items():
        models_of.setdefault(f"{value:,}" if isinstance(value, int) else f"{value:g}", []).append(model)
    if len(models_of) == 1:
        return next(iter(models_of))
    return "; ".join(f"{value} for {', '.join(names)}" for value, names in models_of.items())


def make_parser():
    parser = cli.Parser("Train one model on one data set.")
    add, weight = parser.add_argument, cli.number(float, at_least=0, at_most=1e6)
    positive = cli.number(float, above=0, at_most=1e6)

    def add_setting(option, kind, text):                 # of a trainer
        name = option.removeprefix("--").replace("-", "_")
        values = {m: getattr(t.Settings(), name) for m, t in TRAINERS.items() if hasattr(t.Settings, name)}
        add(option, type=kind, help=f"{text} (default: {by_model(values)})")
    add("--model", choices=TRAINERS, default="cgan", help="what to train")
    add("--adversarial", action="store_true", help="with --model classifier: make it robust to small changes of its "
        "images, by training on attacked ones; short for --model classifier-adversarial")
    add("--dataset", type=cli.non_empty_path, help="mnist, kmnist, k49, arabic, strokes, strokes-arabic, or a path "
        "to your own (default: mnist where it can be had, else strokes, said loudly)")
    cli.add_data_options(parser)
    cli.add_font_option(parser)
    add("--out", type=cli.new_folder, help="folder to write to (default: saved_models for mnist, else "
        "saved_models/<dataset>)")
    add("--epochs", type=cli.number(int, above=0, at_most=1_000_000), help="passes over the training images "
        f"(default: as many as fit into --minutes, but no more images in all than "
        f"{by_model({m: v['images'] for m, v in DEFAULTS.items()})}; fewer where images are few)")
    add("--minutes", type=positive, help="training time that decides the epochs where --epochs is not given "
        f"(default: {by_model({m: v['minutes'] for m, v in DEFAULTS.items()})})")
    add("--per-class", type=cli.number(int, above=0, at_most=MAX_IMAGES),
        help="train on so many images of each class, chosen by --seed")
    add("--seed", type=cli.number(int, at_least=0, below=2 ** 32), default=0, help="of weights, noise, order of images")
    add("--batch", type=cli.number(int, above=0, at_most=65_536), default=BATCH, help="images per step")
    add("--balance", type=cli.number(float, at_least=0, at_most=1), help="0: every image as often as the others, 1: every "
        f"class, between: classes as often as size ** (1 - balance) (default: {BALANCE} where one class is {UNEVEN} times "
        "as large as another, else 0)")
    add("--diffaugment", type=cli.number(int, at_least=0, below=14), help="pixels by which the discriminator's images are "
        f"shifted, real and fake alike (default: {SHIFT} below {SCARCE:,} training images of a class, else 0)")
    add("--backbone", action=argparse.BooleanOptionalAction, help="let the discriminator also see what a network that was trained "
        "on characters that nobody writes makes of the images: better and fewer specks, but half as long again a step (default: "
        "for a cvae; a start from digits has it where they had it)")
    add_setting("--lr", cli.number(float, above=0), "top learning rate")
    add_setting("--label-weight", weight, "of the discriminator's label loss")
    add_setting("--g-label-weight", weight, "of that of the generator; more makes samples alike")
    add_setting("--width-weight", weight, "of the loss that makes a sample's pen as wide as it should be")
    add_setting("--gan-weight", weight, "of the cvae's adversarial loss, which sharpens, at the start; 0: a plain one")
    add_setting("--gan-weight-end", positive, f"and at the end; {TRAINERS['cvae'].scarce['gan_weight_end']:g} below {SCARCE:,} images of a class")
    add_setting("--r1", weight, "gradient penalty at real and fake images (pixels in [-1, 1]) at the start")
    add_setting("--r1-end", weight, "and at the end")
    add_setting("--ema", cli.number(float, above=0, below=1), "memory of the averaged generator, per step")
    add_setting("--warp", weight, "strength of the distortion of a classifier's images, 1: rotations of 15 degrees and "
                "the like; less where they turn one class into another; 0: shifts alone")
    add_setting("--pen", cli.number(float, at_least=0, at_most=4), "pixels by which a classifier's strokes are written wider or "
                f"thinner on either side; {FEW_SETTINGS['pen']:g} where there are at most {FEW} images of a class (without --plain)")
    add_setting("--noise", cli.number(float, at_least=0, at_most=1), "most standard deviation of noise that is added to a "
                f"classifier's images, of [0, 1], which then reads more of what is noisy, foggy or scratched; 0 where there are at most {FEW} "
                "images of a class")
    add_setting("--hands", cli.number(float, at_least=0, at_most=1), "share of a classifier's images that are written as other "
                "hands would, learned on other scripts")
    add("--plain", action="store_true", help=f"begin with random weights where there are few images of a class, too: a classifier "
        f"of at most {FEW} else reads by what it has learned on random scripts, a cgan of at most {FEW_TO_DRAW}, "
        f"and at most {models.MANY} classes, starts from the one of digits that comes along")
    cli.add_device_option(parser)
    add("--threads", type=cli.number(int, above=0, at_most=1024), help="of the CPU (default: as many as are fastest, "
        "measured as the run goes on, as other processes come and go; with --epochs all, so that --resume is exact)")
    add("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto: bf16 where the chip has it")
    add("--snapshots", nargs="?", const=1, type=cli.number(int, above=0, at_most=1_000_000), metavar="EPOCHS",
        help="keep the network after every epoch, or after every so many and the last, in <out>/<name>_epochs/")
    add("--save-every", type=positive, default=20, help="seconds between two saves of what --resume needs")
    add("--resume", action="store_true", help="go on with the run that was stopped, with its settings")
    add("--dry-run", action="store_true", help="print the resolved settings, take one step, write nothing")
    return parser


def parse_args(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    check_together(args, parser)
    return args


def given_options(argv=None):
    """The names of the options that stand on the command line."""
    parser = make_parser()
    found = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([]))))))
    return {name for name, value in found.items() if value is not None}


def settings_of(model):
    """The names of its trainer's settings."""
    return {setting.name for setting in fields(TRAINERS[model].Settings)}


def check_together(args, parser):
    """Resolve --adversarial; refuse options that say two things, or do nothing for the model."""
    if args.adversarial:
        if args.model not in ("classifier", AdversarialClassifierTrainer.name):
            parser.error(f"--adversarial goes with --model classifier, not with {args.model}")
        args.model = AdversarialClassifierTrainer.name
    del args.adversarial
    for name in sorted({name for model in TRAINERS for name in settings_of(model)} - settings_of(args.model)):
        if getattr(args, name, None) is not None:
            parser.error(f"--{name.replace('_', '-')} does nothing for --model {args.model}: leave it out")
    trainer = TRAINERS[args.model]
    for name, is_of_use in (("plain", trainer.has_start), ("warp", trainer.redraws), ("pen", trainer.redraws),
                            ("noise", trainer.redraws), ("hands", trainer.redraws)):
        if getattr(args, name) and not is_of_use:
            parser.error(f"--{name} does nothing for --model {args.model}: leave it out")
    if args.epochs and args.minutes:
        parser.error("--minutes decides the epochs where --epochs is not given: leave one of them out")


def stopped_run(args, given):
    """(settings, state) of the run that --resume goes on with; its own settings hold. `given`: as given_options has it. Raises
    UserError where there is none, where it is at work, or where another setting was asked for."""
    folders = [args.out] if args.out else [cli.default_folder("saved_models", name)
                                           for name in ([args.dataset] if args.dataset else ["mnist", "strokes"])]
    name = TRAINERS[args.model].name
    paths = [Path(folder) / f"{name}.resume.pth" for folder in folders]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        for lock in filter(Path.is_file, (p.parent / f"{name}.lock" for p in paths)):
            with exclusive(lock):        # one has just begun, an error; or one was killed at its very end
                pass
        raise UserError(f"nothing to resume: there is no {paths[0]}; start a run without --resume")
    state = read_state(path)
    saved = checked_settings(state["settings"], path)
    free = {"resume": True, "dry_run": args.dry_run, "device": args.device, "out": str(path.parent),
            "data_dir": args.data_dir or saved.get("data_dir")}
    for name, value in vars(args).items():
        if name in given - free.keys() and value != saved.get(name):
            raise UserError(f"--{name.replace('_', '-')} {value}: {path} was started with {saved.get(name)}; "
                            "leave it out, or start anew without --resume")
    return argparse.Namespace(**{**vars(parse_args([])), **saved, **free}), state


def checked_settings(saved, path):
    """The settings of a stopped run, which lie in the file `path`, as parse_args would give them. Raises UserError
    where it would not."""
    words, more = [], {"bf16": bool}
    for setting in fields(TRAINERS.get(saved.get("model"), TRAINERS["cgan"]).Settings):
        more[setting.name] = type(setting.default)
    options = vars(parse_args([]))
    for name, value in saved.items():
        option = f"--{name.replace('_', '-')}"
        if name == "backbone" and value is False:
            words.append("--no-backbone")
        elif name in options and value is not None and value is not False:
            words.append(option if value is True else f"{option}={value}")
        elif name not in options and not matches(value, more.get(name, lambda _: False)):
            raise UserError(f"{path} has the odd setting {name[:40]}: start the run anew")
    try:
        parsed = vars(parse_args(words))
    except UserError as e:
        raise UserError(f"{path} has an odd setting ({e}): start the run anew") from e
    return {name: parsed.get(name, value) for name, value in saved.items()}


def resolve(args, glyphs):
    """Fill in the settings that were not given: those that depend on the data, then those of the model."""
    sizes = np.bincount(glyphs.y_train, minlength=len(glyphs.classes))
    own = settings_of(args.model)
    is_scarce = len(glyphs.x_train) < SCARCE * len(glyphs.classes)
    if args.diffaugment is None and "diffaugment" in own:
        args.diffaugment = SHIFT if is_scarce else 0
    for name, value in TRAINERS[args.model].scarce.items() if is_scarce else ():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    is_new = not hasattr(args, "pretrained")                  # what a resumed run starts from was decided as it began
    if is_new and args.model == "cgan" and not args.plain and len(glyphs.x_train) <= FEW_TO_DRAW * len(glyphs.classes):
        args.pretrained = digits_can_start(glyphs)
        if args.pretrained and args.backbone not in (None, digits_have_backbone()):
            raise UserError(f"--{'' if args.backbone else 'no-'}backbone: this run starts from the GAN of digits, which was trained "
                            f"{'without' if args.backbone else 'with'} one: add --plain, or leave it out")
        if args.pretrained:
            args.backbone = digits_have_backbone()
    if TRAINERS[args.model].redraws:
        are_few = np.median(sizes[sizes > 0]) <= FEW
        if are_few and args.noise is None:
            args.noise = 0.0
        if are_few and not args.plain:
            for name, value in FEW_SETTINGS.items():
                if getattr(args, name, None) is None:
                    setattr(args, name, value)
            if is_new:
                args.pretrained = backbone_file(args.model).is_file()
                args.tuned = args.pretrained and len(glyphs.x_train) >= TUNED
    if args.balance is None:
        args.balance = BALANCE if sizes.max() >= UNEVEN * sizes[sizes > 0].min() else 0.0
    if args.minutes is None and not args.epochs:
        args.minutes = DEFAULTS[args.model]["minutes"]
    args.out = args.out or str(cli.default_folder("saved_models", args.dataset))
    for setting in fields(TRAINERS[args.model].Settings):
        if getattr(args, setting.name, None) is None:
            setattr(args, setting.name, setting.default)


# ---- how long ------------------------------------------------------------------------------------

def max_epochs(run):
    """The most epochs that a run without --epochs takes, however fast the machine."""
    limits = DEFAULTS[run.args.model]
    images, passes = limits["images"], limits.get("passes", math.inf)
    if run.trainer.redraws and run.args.pretrained:
        images = TUNED_IMAGES if run.args.tuned else max(VIEWS, VIEWS_EACH * len(run.glyphs.x_train))
    if run.trainer.makes_images and run.args.pretrained:
        passes = STARTED_PASSES
    return min(math.ceil(images / run.batches.epoch_images), passes)


def plan_epochs(run, steps_per_second):
    """The epochs that fit into --minutes at this speed. In the first half of a run their number may grow; later, as
    the learning rate is low already, only shrink, when the machine has become clearly slower."""
    seconds_left = max(0.0, 60 * run.args.minutes - run.seconds)
    too_slow = (run.steps - run.step) / steps_per_second > 1.05 * seconds_left
    if run.step >= run.steps / 2 and not too_slow:
        return run.epochs
    fit = math.floor((run.step + seconds_left * steps_per_second) / run.batches.per_epoch)
    fit = max(1, fit, math.ceil(run.step / run.batches.per_epoch))
    return min(fit, run.epochs if too_slow else max_epochs(run))


# ---- the loop ------------------------------------------------------------------------------------

def train(run, progress):
    """Take steps, log, draw, save, until all epochs are done. Raises UserError where a loss is no number."""
    trainer, batches, settings = run.trainer, run.batches, run.trainer.settings
    preview, health = (Preview(run), Health(run)) if trainer.makes_images and distributed.leads else (None, None)
    started = time.perf_counter() - run.seconds
    log, saved_at = LossLog(run), run.seconds
    timed_step, timed_at = run.step, run.seconds                 # since when the speed is measured
    tuner = ThreadTuner() if run.tunes_threads else None
    while run.step < run.steps:
        batches.refit_prior(trainer, run.step)
        batch = batches.batch(run.step, run.steps)
        lr = learning_rate(run.step, run.steps, settings.lr, settings.warm_up, settings.final_lr)
        step_began = time.perf_counter()
        losses = train_step(trainer, batch, lr)
        if tuner:
            tuner.add(time.perf_counter() - step_began)
        run.step += 1
        run.seconds = time.perf_counter() - started
        log.add(losses)
        epoch_ends = run.step % batches.per_epoch == 0

        # how many epochs fit
        if run.step == WARM_STEPS:
            timed_step, timed_at = run.step, run.seconds
        if not run.args.epochs and (run.step == PLAN_STEPS or epoch_ends and run.step > PLAN_STEPS):
            epochs = distributed.ask_leader(plan_epochs, run, (run.step - timed_step) / (run.seconds - timed_at))
            timed_step, timed_at = run.step, run.seconds
            if epochs != run.epochs:
                run.plan(epochs)
                progress(f"{epochs} epochs of {len(run.glyphs.x_train):,} images fit into {run.args.minutes:g} minutes")

        if not distributed.leads:
            continue

        # log, look after it, draw, save
        if run.seconds - log.written_at > LOG_SECONDS or run.step == run.steps:
            means, speed = log.means()
            if not all(math.isfinite(v) for v in means.values()):
                stop_at_nan(run)
            log.write()
            progress(f"epoch {min(run.epochs, run.step // batches.per_epoch + 1)}/{run.epochs}  {speed:,.0f} images/s  "
                     + "  ".join(f"{name} {v:.3f}" for name, v in means.items()) + "  step", run.step, run.steps)
        for warning in health.watch(losses) if health else []:
            progress(f"WARNING: {warning}")
        if preview and preview.is_due():
            preview.draw()
            if len(run.frames) == 1:
                progress(f"first samples after {run.seconds:.0f} s, drawn anew as it goes on: {run.path('_samples.png')}")
        epoch = run.step // batches.per_epoch
        if run.args.snapshots and epoch_ends and (epoch % run.args.snapshots == 0 or run.step == run.steps):
            run.save_snapshot()
        if run.seconds - saved_at > run.args.save_every and log.written_at == run.seconds:   # the losses are known
            if not run.is_finite():
                stop_at_nan(run)
            run.save_state()
            saved_at = run.seconds


def stop_at_nan(run):
    """Losses are not finite: leave the last good weights as files with a record that says so, and say what to do."""
    step = run.step
    if not run.state.is_file():
        raise UserError(f"the loss is not a number at step {step}, before anything was saved: try a lower --lr")
    run.load_state(read_state(run.state))
    run.finish()
    for ending in (".onnx", "-gradient.onnx"):                # an earlier run's: not of these weights
        run.path(ending).unlink(missing_ok=True)
    run.save_checkpoints()
    run.warnings.append(f"the loss was not a number at step {step}: these are the weights of step {run.step}")
    run.write_record(seconds=round(run.wall_seconds, 1))
    run.end()
    raise UserError(f"the loss is not a number at step {step}; the weights of step {run.step} are in "
                    f"{run.path('.pth')}: start anew with a lower --lr")


# ---- measuring and writing -----------------------------------------------------------------------

def measure_generator(run):
    """How well samples of the averaged generator keep to the thickness they should have, and how much
    samples of one class differ (variance of a pixel, over that of training images), as a dict of JSON types.
    (fid.py and benchmarks/ measure the rest: it needs a classifier.)"""
    g, n = run.glyphs, MEASURED
    images, labels, t = sample_all(run.sampler(), n, seed=1)
    dial = dial_metrics(images, labels, t, run.batches.width_table, g.classes)
    measured = {"samples": n, "style_accuracy": round(dial["style_accuracy"], 4),
                "thickness_correlation": round(dial["spearman"]["mean"], 4), "width_error": round(dial["width_error"], 3)}
    as_many = data.rank_in_class(g.y_train, 0) < max(2, n // len(g.classes))            # of each class
    real = variance_in_class(g.x_train[as_many], g.y_train[as_many])
    if real > 1:
        measured["diversity"] = round(variance_in_class(images, labels) / real, 4)
    return measured


def measure_classifier(run):
    """Accuracy on val and test, plain and balanced (the mean over the classes), and the expected calibration error, as a
    dict of JSON types; draws the confusion matrix of test."""
    g, measured = run.glyphs, {}
    _, network = run.trainer.checkpoints[run.name]
    for split, images, labels in (("val", g.x_val, g.y_val), ("test", g.x_test, g.y_test)):
        if not len(images):               # one's own classes of one image each leave nothing to hold out
            continue
        answers, confidence = predict_with_confidence(network.eval(), images)
        table = statistics.confusion_matrix(labels, answers, len(g.classes))
        scores = statistics.classification_scores(table)
        scores["ece"] = statistics.expected_calibration_error(confidence, answers == labels)
        measured |= {f"{split}_{k}": round(scores[k], 4) for k in ("accuracy", "balanced_accuracy", "ece")}
    if len(g.x_test) and len(g.classes) <= charts.MATRIX_CLASSES:
        title = f"{run.title}: test images by class and answer"
        figures.save(charts.heatmap(table, g.classes, g.classes, title=title), run.path("_confusion.png"))
    return measured


def finish(run, progress):
    """Measure, then write weights, ONNX, pictures and the record."""
    measured = run.finish()
    measured |= (run.fit_generator() | measure_generator(run)) if run.trainer.makes_images else measure_classifier(run)
    paths = run.save_checkpoints(measured)
    checkpoint = models.load(run.path(".pth"))
    proof = export_onnx.export(checkpoint, run.path(".onnx"))
    if checkpoint.role == "classifier":
        paths.append(run.path("-gradient.onnx"))
        proof["gradient"] = export_onnx.export(export_onnx.with_gradient(checkpoint), paths[-1])
    if "test_accuracy" in measured:
        proof["test_accuracy"] = round(export_onnx.accuracy(run.path(".onnx"), run.glyphs.x_test, run.glyphs.y_test), 4)
    save_loss_curves(run)
    if run.trainer.makes_images:
        Preview(run).finish()
    run.write_record(seconds=round(run.wall_seconds, 1), metrics=measured, onnx=proof)
    run.end()
    progress("  ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in measured.items()))
    written = ", ".join(map(str, [*paths, run.path(".onnx")]))
    progress(f"{run.wall_seconds:.0f} s in all. Wrote {written} and {run.name}.json, {run.name}_* beside them")


# ---- the command ---------------------------------------------------------------------------------

def main(argv=None):
    started = time.perf_counter()
    args, state = parse_args(argv), None
    own = ("data_dir", "out", "threads")                         # which machines may have of their own
    distributed.check_alike(**{f"--{k.replace('_', '-')}": v for k, v in vars(args).items() if k not in own})
    if args.resume:
        args, state = distributed.ask_leader(stopped_run, args, given_options(argv))
        name = TRAINERS[args.model].name
        if distributed.ask_leader(has_ended, args.out, name, state) and not args.dry_run:
            if distributed.leads:
                with exclusive(Path(args.out) / f"{name}.lock"):
                    clear_away(args.out, name)
            print(f"already finished: {Path(args.out) / name}.json has its record")
            return
    device = cli.choose_device(args.device)
    distributed.take_gpu(device)
    args.bf16 = has_bf16(device) if args.precision == "auto" else args.precision == "bf16"
    torch.set_flush_denormal(True)             # as Adam's moments fade they would slow the CPU down
    torch.backends.cudnn.benchmark = True
    if args.threads:
        torch.set_num_threads(args.threads)
    glyphs = data.load(args.dataset, args.data_dir, center=not args.no_center)
    args.dataset = args.dataset or glyphs.name       # if this run is resumed, on the same data
    if args.per_class:
        glyphs = glyphs.subset(args.per_class, args.seed)
    if state:
        glyphs.notice = state["notice"]
    resolve(args, glyphs)
    distributed.check_alike(data=glyphs.sha256[:16], bf16=args.bf16, torch=torch.__version__)

    run, progress = Run(args, glyphs, device, started), cli.Progress()
    run.plan(args.epochs or max_epochs(run))
    threads = f"{'up to ' if run.tunes_threads else ''}{torch.get_num_threads()} threads"
    if distributed.size > 1:
        threads = f"{distributed.size} processes of {threads}"
    progress(f"{run.title}: {len(glyphs.x_train):,} training images, {len(glyphs.classes)} classes, {device.type}, "
             f"{threads}, {'bf16' if args.bf16 else 'fp32'} -> {args.out}/")
    progress("settings: " + json.dumps(run.record()["settings"]))
    for note in filter(None, [glyphs.notice.upper(), *glyphs.warnings]):
        progress(f"NOTE: {note}")
    if args.dry_run:
        losses = train_step(run.trainer, run.batches.batch(0, run.steps), args.lr)
        progress("dry run, nothing written; one step: " + ", ".join(f"{k} {float(v):.3f}" for k, v in losses.items()))
        return
    with exclusive(run.path(".lock")) if distributed.leads else contextlib.nullcontext():
        if args.resume:                # read anew: another process may have held the lock until now
            run.load_state(distributed.ask_leader(read_state, run.state))
            progress(f"goes on from step {run.step:,} of {run.steps:,}")
        elif distributed.leads:
            run.begin()
        try:
            train(run, progress)
            if distributed.leads:
                finish(run, progress)
        except KeyboardInterrupt as e:
            distributed.check_others(e)
            how = "; go on with the same command and --resume" if run.state.is_file() else ""
            progress(f"stopped at step {run.step:,}{how}")
            raise


if __name__ == "__main__":
    cli.run_command(distributed.joined()(main))
