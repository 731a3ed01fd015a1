"""A training run: the order of its batches, its state on disk, its record; and training a generator without
files.

Whatever is random in step i depends on (seed, i) alone, so that a run that was stopped goes on to the same
weights. While a run lasts its files are <name>.resume.*: weights, log and record of an earlier run stay
whole until this one has ended. The record is the last of its files: where it is of the same run as a state, that run
has ended.
"""
import contextlib
import json
import math
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import data
import models
from generate_digits import TorchGenerator
from training import distributed
from training.augment import to_fields
from training.classifier import CLASSIFIER_TRAINERS
from training.gan import AuxiliaryClassifierGAN, ConditionalGAN
from training.spread import fit_spread
from training.threads import ThreadTuner
from training.tone import fit_tone
from training.trainer import Batch, has_bf16, learning_rate
from training.vae import ConditionalVAE
from utils.archive import read_archive, write_archive
from utils.checked_json import is_duration, matches, parse_json, read_json
from utils.files import UserError, atomic

TRAINERS = {"cgan": ConditionalGAN, "acgan": AuxiliaryClassifierGAN, "cvae": ConditionalVAE} | CLASSIFIER_TRAINERS
REFIT_STEPS = 400          # steps between two refits of a prior; more with many classes, where one takes longer
REFIT_IMAGES = 2000        # training images for that, at least 20 of a class


class Batches:
    """The training images on the device, and which of them a step sees."""

    def __init__(self, glyphs, seed, size, balance, device, redrawn=False):
        """`balance`: 0 every image as often, 1 every class, between: classes as size ** (1 - balance). `redrawn`: no image
        is seen twice as it is, so that a batch may hold more of them than there are, and has their distance fields."""
        n_classes = len(glyphs.classes)
        self.seed, self.device = seed, device
        self.images = torch.from_numpy(glyphs.x_train).to(device)        # the whole set, uint8 [N, 28, 28]
        self.labels = torch.from_numpy(glyphs.y_train).to(device)
        self.width_table = data.width_table(glyphs.x_train, glyphs.y_train, n_classes)
        thickness = data.thickness(glyphs.x_train, glyphs.y_train, self.width_table)
        self.thickness = torch.from_numpy(thickness).to(device)
        self.fields = to_fields(glyphs.x_train).to(device) if redrawn else None
        self.epoch_images = len(self.images) * (math.ceil(size / len(self.images)) if redrawn else 1)
        self.size = min(size, self.epoch_images)
        self.per_epoch = self.epoch_images // self.size
        self.refit_steps = max(REFIT_STEPS, 8 * n_classes)
        few = data.rank_in_class(glyphs.y_train, seed) < max(20, REFIT_IMAGES // n_classes)
        self.refit_subset = torch.from_numpy(np.flatnonzero(few)).to(device)
        self.cumulative_weights = None
        if balance:
            weights = np.bincount(glyphs.y_train, minlength=n_classes)[glyphs.y_train] ** -float(balance)
            self.cumulative_weights = torch.from_numpy(np.cumsum(weights / weights.sum()))
        self.epoch, self.order = None, None

    def all(self):
        """Images uint8 [N, 28, 28], labels int64 [N], thickness float32 [N]."""
        return self.images, self.labels, self.thickness

    def rng(self, *key):
        """A generator for what is random at one point of the run (never the global one: see --resume)."""
        seed = np.random.SeedSequence([self.seed, *key]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def draw_order(self, epoch):
        """The order of the images in an epoch, int64 [epoch_images]: each as often, or with `balance` those of rare
        classes more often, each image as often as its weight says, rounded down or up (systematic resampling)."""
        n, rng = self.epoch_images, self.rng(0, epoch)
        order = torch.randperm(n, generator=rng)
        if self.cumulative_weights is None:
            return order % len(self.images)
        points = (torch.arange(n, dtype=torch.float64) + torch.rand(1, dtype=torch.float64, generator=rng)) / n
        return torch.searchsorted(self.cumulative_weights, points).clamp(max=len(self.images) - 1)[order]

    def batch(self, step, steps):
        """The Batch of a step out of `steps`."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, self.draw_order(epoch).to(self.device)
        chosen = distributed.part(self.order[position * self.size:(position + 1) * self.size])
        images = models.from_uint8(self.images[chosen]).contiguous(memory_format=torch.channels_last)
        glyph_fields = None if self.fields is None else self.fields[chosen].float()
        return Batch(images, self.labels[chosen], self.thickness[chosen], step, step / steps, self.rng(1, step), glyph_fields)

    def refit_prior(self, trainer, step):
        """Give the trainer some images to refit its prior to, where it is time for that."""
        if step % self.refit_steps == 100:
            if distributed.leads:
                trainer.refit_prior(*(a[self.refit_subset] for a in self.all()))
            distributed.share_weights(trainer)


class Run:
    """One run of train.py: its trainer and batches, how far it is, and its files. args: resolved settings."""

    def __init__(self, args, glyphs, device, started):
        self.args, self.glyphs, self.device = args, glyphs, device
        self.started, self.seconds_before = started, 0.0                 # of this process; of those that were stopped
        torch.manual_seed(args.seed)
        trainer = TRAINERS[args.model]
        settings = trainer.Settings(**{name: getattr(args, name) for name in trainer.Settings.__dataclass_fields__})
        self.trainer = trainer(settings, len(glyphs.classes), device, args.bf16)
        if not args.resume:
            self.trainer.start()
        redrawn = getattr(settings, "pen", 0) > 0 or getattr(settings, "hands", 0) > 0
        self.batches = Batches(glyphs, args.seed, args.batch, args.balance, device, redrawn)
        distributed.check_parts(self.batches.size)
        distributed.synchronise(self.trainer)
        self.name, self.title, self.out = self.trainer.name, f"{args.model} on {glyphs.name}", Path(args.out)
        self.step, self.seconds, self.frames = 0, 0.0, []                # frames: see preview.py
        self.epochs, self.plans = 0, []                                  # plans: (step, epochs planned from there on)
        self.warnings = []                                               # what health.py has found
        self.begun = datetime.now(UTC).isoformat(timespec="microseconds")       # which run it is

    @property
    def steps(self):
        return self.epochs * self.batches.per_epoch

    @property
    def tunes_threads(self):
        """Whether the number of threads may change: not where the weights must not depend on the machine's load."""
        return self.device.type == "cpu" and not self.args.threads and not self.args.epochs and distributed.size == 1

    @property
    def wall_seconds(self):
        """From the command to now, the processes that were stopped included."""
        return self.seconds_before + time.perf_counter() - self.started

    def plan(self, epochs):
        """Train for so many epochs from now on."""
        self.epochs = epochs
        self.plans.append((self.step, epochs))

    def sampler(self):
        """The averaged generator of now, as generate_digits.py draws from it."""
        return TorchGenerator(models.rounded_to_half(self.trainer.ema), self.glyphs.classes)

    def finish(self):
        """Make the checkpoints ready for use. -> figures, JSON types"""
        figures = self.trainer.finish(*self.batches.all())
        return figures | self.trainer.calibrate(self.glyphs.x_val, self.glyphs.y_val)

    def fit_generator(self):
        """Let the finished generator draw as far from the middle of its classes as training images lie, and ink as theirs.
        -> figures"""
        network, images = self.trainer.ema, self.batches.all()
        spread = fit_spread(network, *images)
        network.scale_noise(spread)
        tone = fit_tone(network, *images)
        network.set_tone(tone)
        return {"spread": spread, "full_ink": round(255 * float(tone[-1]), 1)}

    # -- files

    def path(self, ending):
        return self.out / (self.name + ending)

    @property
    def log(self):
        return self.path(".resume.jsonl")

    @property
    def state(self):
        return self.path(".resume.pth")

    def begin(self):
        """Make way for a fresh run: an empty log, nothing to resume, no snapshots of an earlier run."""
        self.state.unlink(missing_ok=True)
        with atomic(self.log):
            pass
        for old in (self.out / f"{self.name}_epochs").glob("*.pth"):
            old.unlink()

    def end(self):
        """Let the log take its name; there is nothing to resume any more."""
        clear_away(self.out, self.name)

    def log_rows(self):
        """The finished rows of the log, oldest first: dicts."""
        lines = self.log.read_bytes().splitlines(True) if self.log.is_file() else []
        what = f"a row of {self.log}, which belongs to a run that was stopped,"
        whole = [line for line in lines if line.endswith(b"}\n")]       # a kill leaves a line without an end
        return [parse_json(line, what, is_log_row) for line in whole]

    def record(self):
        """The run's record as a dict of JSON types; no local paths."""
        g, local = self.glyphs, ("dataset", "data_dir", "out", "resume", "dry_run")
        return {"model": self.args.model, "dataset": g.name, "dataset_sha256": g.sha256, "source": g.source,
                "license": g.license, "synthetic": g.synthetic, "notice": g.notice,
                "warnings": [*g.warnings, *self.warnings],
                "classes": g.classes, "train_images": len(g.x_train),
                "settings": {k: v for k, v in vars(self.args).items() if k not in local},
                "parameters": {k: models.n_parameters(m) for k, (_, m) in self.trainer.checkpoints.items()},
                "begun": self.begun, "epochs": self.epochs, "plans": self.plans, "steps": self.step,
                "training_seconds": round(self.seconds, 1),
                "images_per_second": round(self.step * self.batches.size / max(self.seconds, 1e-9)),
                **describe_machine(self.device)}

    def write_record(self, **more):
        text = json.dumps({**self.record(), **more}, indent=1, ensure_ascii=False)
        with atomic(self.path(".json")) as tmp:
            tmp.write_text(text + "\n", encoding="utf-8")

    def save_checkpoint(self, path, name, figures=None):
        """Write the checkpoint `name` of the trainer, with measured figures."""
        kind, network = self.trainer.checkpoints[name]
        if self.trainer.makes_images and name == self.name:
            network = models.rounded_to_half(network)            # a copy: the training may go on
        g = self.glyphs
        info = {"model": self.args.model, "dataset": g.name, "dataset_sha256": g.sha256, "license": g.license,
                "source": g.source, "figures": figures or {}}
        models.save(path, models.Checkpoint(kind, network, g.classes, self.batches.width_table, info))

    def save_checkpoints(self, figures=None):
        """Write all checkpoints of the trainer; returns their paths."""
        paths = {name: self.out / f"{name}.pth" for name in self.trainer.checkpoints}
        for name, path in paths.items():
            self.save_checkpoint(path, name, figures if name == self.name else None)
        return list(paths.values())

    def save_snapshot(self):
        """Keep the network of this epoch, as <name>_epochs/<epoch>.pth."""
        epoch = self.step // self.batches.per_epoch
        self.finish()
        self.save_checkpoint(self.out / f"{self.name}_epochs" / f"{epoch:05d}.pth", self.name,
                             {"epoch": epoch, "training_seconds": round(self.seconds, 1)})

    # -- resuming

    def is_finite(self):
        """Whether every weight is a number."""
        networks = self.trainer.networks.values()
        return all(bool(v.isfinite().all()) for network in networks for v in network.state_dict().values())

    def save_state(self):
        """Write <name>.resume.pth: all that the rest of the run depends on."""
        write_archive({
            "version": models.VERSION, "settings": vars(self.args), "data": self.glyphs.sha256,
            "notice": self.glyphs.notice, "step": self.step, "epochs": self.epochs, "plans": self.plans,
            "seconds": self.seconds, "wall_seconds": self.wall_seconds, "begun": self.begun, "warnings": self.warnings,
            "log": self.log.read_text(encoding="utf-8"),
            "frames": [(torch.from_numpy(images), caption) for images, caption in self.frames],
            "networks": {k: m.state_dict() for k, m in self.trainer.networks.items()},
            "optimizers": {k: m.state_dict() for k, m in self.trainer.optimizers.items()}}, self.state)

    def load_state(self, state):
        """Go back to a saved state; the log is what it was then: it loses the rows of steps that will be taken again.
        Raises UserError where the state is of other data or of another version of this code."""
        if state["data"] != self.glyphs.sha256:
            raise UserError(f"{self.state} was trained on other data than {self.glyphs.name} holds now")
        try:
            for name, network in self.trainer.networks.items():
                network.load_state_dict(state["networks"][name])
            for name, optimizer in self.trainer.optimizers.items():
                check_optimizer(optimizer, state["optimizers"][name])
                optimizer.load_state_dict(state["optimizers"][name])
            self.step, self.epochs, self.plans = state["step"], state["epochs"], state["plans"]
            self.seconds, self.seconds_before = state["seconds"], state["wall_seconds"]
            self.frames = [(images.numpy(), caption) for images, caption in state["frames"]]
            self.begun, self.warnings, log = state["begun"], state["warnings"], state["log"]
        except (KeyError, IndexError, TypeError, RuntimeError, ValueError, AttributeError) as e:
            raise UserError(f"{self.state} was written by another version of this code: start the run anew") from e
        if distributed.leads:
            with atomic(self.log) as tmp:
                tmp.write_text(log, encoding="utf-8")


class LossLog:
    """Rows of the run's log: means of the losses and the speed since the row before."""

    def __init__(self, run):
        self.run = run
        self._restart()

    def _restart(self):
        self.totals, self.step, self.written_at = {}, self.run.step, self.run.seconds

    def add(self, losses):
        """losses: {name: tensor of no dimension}; one may set in later in the run."""
        for name, value in losses.items():
            total, n = self.totals.get(name, (0.0, 0))
            self.totals[name] = total + value, n + 1

    def means(self):
        """({name: mean loss}, images per second) since the last row."""
        speed = (self.run.step - self.step) * self.run.batches.size / (self.run.seconds - self.written_at)
        return {name: float(total / n) for name, (total, n) in self.totals.items()}, speed

    def write(self):
        r, (means, speed) = self.run, self.means()
        row = {"step": r.step, "epoch": round(r.step / r.batches.per_epoch, 3), "seconds": round(r.seconds, 2),
               "images_per_second": round(speed), "threads": torch.get_num_threads(),
               **{name: round(v, 5) for name, v in means.items()}}
        with open(r.log, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        self._restart()


def is_log_row(row):
    """Whether JSON is a row of the log: finite numbers alone, when and how fast among them."""
    return matches(row, {str: float}) and matches(row, {"step": int, "epoch": float, "seconds": float})


def is_count(value):
    """Whether a stored value is a number of steps or epochs."""
    return type(value) is int and 0 <= value < 1 << 40


def is_frame(value):
    """Whether a stored value is a frame of the preview: images uint8 [N, 28, 28] and a caption."""
    return (matches(value, [object]) and len(value) == 2 and matches(value[0], torch.Tensor) and isinstance(value[1], str)
            and value[0].dtype == torch.uint8 and value[0].shape[1:] == (28, 28) and len(value[0]) > 0)


def is_log(value):
    """Whether a stored value is the text of a log: rows as LossLog writes them."""
    with contextlib.suppress(UserError):
        return isinstance(value, str) and all(parse_json(row, "a row", is_log_row) for row in value.splitlines())
    return False


STATE = {"settings": {str: (None, bool, int, float, str)}, "data": str, "notice": str, "step": is_count,
         "epochs": is_count, "plans": [[is_count]], "seconds": is_duration, "wall_seconds": is_duration,
         "begun": str, "warnings": [str], "log": is_log, "frames": [is_frame], "networks": {str: {str: torch.Tensor}},
         "optimizers": {str: {"state": dict, "param_groups": [{"params": [int]}]}}}


def read_state(path):
    """What save_state wrote, every value of the type that it should have. Raises UserError where it is missing, damaged
    or of another version."""
    state = read_archive(path)
    is_whole = matches(state, {"version": models.VERSION, **STATE}) and all(len(p) == 2 for p in state["plans"])
    if not is_whole or len({len(images) for images, _ in state["frames"]}) > 1:
        raise UserError(f"{path} is not the state of a run of this version, or is damaged: start the run anew")
    return state


def check_optimizer(optimizer, state):
    """ValueError where a stored state is not one of this optimizer: other parameters, or moments of other shapes, which
    would only be noticed, or not, as it takes its next step."""
    fresh, parameters = optimizer.state_dict()["param_groups"], [p for g in optimizer.param_groups for p in g["params"]]
    for group, wanted in zip(state["param_groups"], fresh, strict=True):
        if group.keys() != wanted.keys() or group["params"] != wanted["params"]:
            raise ValueError("parameters")
        if not all(is_like(group[key], wanted[key]) for key in wanted):
            raise ValueError("settings")
    for i, values in state["state"].items():
        shapes = {"step": torch.Size([]), "exp_avg": parameters[i].shape, "exp_avg_sq": parameters[i].shape}
        if not matches(values, {str: torch.Tensor}) or shapes != {k: v.shape for k, v in values.items()}:
            raise ValueError("moments")
        if any(v.dtype != torch.float32 or not v.isfinite().all() or (v < 0).any() and k != "exp_avg"
               for k, v in values.items()):
            raise ValueError("moments")


def is_like(value, other):
    """Whether a stored setting of an optimizer may stand in for another: same type, numbers finite, not negative."""
    if isinstance(other, (tuple, list)):
        return isinstance(value, (tuple, list)) and len(value) == len(other) and all(map(is_like, value, other))
    if type(other) in (int, float):
        return is_duration(value)
    return type(value) is type(other)


def has_ended(folder, name, state):
    """Whether the run of this state has written all its files, and was killed before it could remove the state."""
    with contextlib.suppress(OSError, UserError):
        return read_json(Path(folder) / f"{name}.json", {"begun": str})["begun"] == state["begun"]
    return False


def clear_away(folder, name):
    """The end of a run whose other files are whole: its log takes its name, then what --resume needs is removed."""
    if (log := Path(folder) / f"{name}.resume.jsonl").is_file():
        os.replace(log, Path(folder) / f"{name}.log.jsonl")
    (Path(folder) / f"{name}.resume.pth").unlink(missing_ok=True)


def describe_machine(device):
    """{"machine": ..., "versions": ...} of a record: JSON types."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {"machine": {"processor": next(names, platform.processor()), "threads": torch.get_num_threads(),
                        "processes": distributed.size, "device": str(device)},
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}}


def train_step(trainer, batch, lr):
    """One step of every optimizer; of a GAN the discriminator's first. -> {name: loss, a tensor}"""
    trainer.set_lr(lr)
    losses = {}
    for optimizer, loss, parts in trainer.losses(batch):         # forward
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            distributed.average_gradients(optimizer)
            optimizer.step()
        losses |= parts
    trainer.end_step(batch)                                      # the averaged weights follow
    return distributed.average_losses(losses)


# ---- without a command line ----------------------------------------------------------------------

def train_generator(model, glyphs, seed=0, steps=800, device="cpu", balance=0.0, **settings):
    """Train a generator on the training images of `glyphs` alone, without files; returns a source for
    generate_digits.sample_all.

    model: "cgan", "acgan" or "cvae"; balance: see Batches; settings: of the trainer's own. The discriminator's
    images are shifted by 2 pixels unless told otherwise, as it would learn few images by heart, and it has no backbone,
    which is no better there (docs/tried.md) and slower. The global random state is left as it was."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), ThreadTuner() as tuner:
        torch.manual_seed(seed)
        trainer = TRAINERS[model]
        settings = trainer.Settings(**{"diffaugment": 2, "backbone": False, **trainer.scarce, **settings})
        trainer = trainer(settings, len(glyphs.classes), device, has_bf16(device))
        batches = Batches(glyphs, seed, 128, balance, device)
        horizon = math.ceil(steps / batches.per_epoch) * batches.per_epoch       # of the learning rate: whole epochs
        for step in range(steps):
            batches.refit_prior(trainer, step)
            batch = batches.batch(step, horizon)
            train_step(trainer, batch, learning_rate(step, horizon, settings.lr, settings.warm_up, settings.final_lr))
            tuner.tick()
        trainer.finish(*batches.all())
    return TorchGenerator(trainer.ema, glyphs.classes)
