"""The state of a training run, and what becomes of it: steps, pictures, records, saving and resuming.

train.py says when; this says how. Whatever is random in step i depends on (seed, i) alone, so that a run that was
stopped goes on to the same weights. While a run lasts its files are <name>.resume.*: weights, log and record of an
earlier run stay whole until this one has ended.
"""
import json
import math
import os
import platform
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

import data
import models
from generate_digits import TorchGenerator, draw_noise
from training.objectives import OBJECTIVES
from training.steps import has_bf16
from utils import charts, figures
from utils.files import UserError, atomic

PRESETS = {                # what a model's run is by default; all measured on MNIST (README)
    "cgan": dict(lr=2e-3, minutes=4.8, images=1_400_000, warm_up=50, last_rate=0.02, label_weight=0.3,
                 g_label_weight=0.1),
    "acgan": dict(lr=2e-3, minutes=4.8, images=1_400_000, warm_up=50, last_rate=0.02, label_weight=0.5,
                  g_label_weight=0.5),
    "cvae": dict(lr=2e-3, minutes=4.8, images=1_400_000, warm_up=50, last_rate=0.02, label_weight=0.3,
                 g_label_weight=0.5),
    "classifier": dict(lr=3e-3, minutes=9.0, images=550_000, passes=2000, warm_up=400, last_rate=0.0),
    "classifier-tiny": dict(lr=6e-3, minutes=5.5, images=1_100_000, passes=4000, warm_up=400, last_rate=0.0),
    "classifier-adversarial": dict(lr=3e-3, minutes=7.5, images=330_000, passes=1000, warm_up=200, last_rate=0.0),
}
SETTINGS = dict(batch=128, ink_weight=0.5, gan_weight=10.0, warp=1.0, r1=0.05, r1_end=0.15, ema=0.999)   # of every model
FRAMES = 40                # pictures in the training GIF
REFRESH_STEPS = 400        # steps between two refreshes of what an objective derives from training images
REFRESH_IMAGES = 2000      # training images for that, at least 20 of a class
PER_CLASS = 8              # samples of each class in a picture of the training
SHOWN = 50                 # classes in it, at most


def processor():
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), platform.processor())


def say(text):
    """A line of its own, below the live line."""
    print(("\r\033[K" if sys.stdout.isatty() else "") + text, flush=True)


class Run:
    """The state of a training run, and what becomes of it: step, log, pictures, save, resume."""

    def __init__(self, args, glyphs, device, started):
        self.args, self.glyphs, self.device, self.preset = args, glyphs, device, PRESETS[args.model]
        self.started, self.seconds_before = started, 0.0                 # of this process; of those that were stopped
        torch.manual_seed(args.seed)
        self.objective = OBJECTIVES[args.model](args, len(glyphs.classes), device)
        self.name = self.objective.name
        self.out = Path(args.out)
        self.images = torch.from_numpy(glyphs.x_train).to(device)        # the whole set, uint8 [N, 28, 28]
        self.labels = torch.from_numpy(glyphs.y_train).to(device)
        self.ink_table = data.ink_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
        ranks = data.thickness(glyphs.x_train, glyphs.y_train, self.ink_table)
        self.thickness = torch.from_numpy(ranks).to(device)
        self.batch = min(args.batch, len(self.images))
        self.steps_per_epoch = len(self.images) // self.batch
        self.most_epochs = args.epochs or min(math.ceil(self.preset["images"] / len(self.images)),
                                              self.preset.get("passes", math.inf))     # for a handful of images
        self.epochs = self.most_epochs
        self.plans = [(0, self.epochs)]                                  # (step, epochs planned from there on)
        self.i, self.seconds, self.frames, self.order = 0, 0.0, [], None
        few = max(20, REFRESH_IMAGES // len(glyphs.classes))
        self.sparse = torch.from_numpy(np.flatnonzero(data.place_in_class(glyphs.y_train, args.seed) < few)).to(device)
        self.refresh_steps = max(REFRESH_STEPS, 8 * len(glyphs.classes))       # with many classes it takes longer
        sizes = np.bincount(glyphs.y_train, minlength=len(glyphs.classes))
        weights = sizes[glyphs.y_train] ** -float(args.balance)
        self.share = torch.from_numpy(np.cumsum(weights / weights.sum())) if args.balance else None
        self.show = self.fixed_conditions() if self.makes_images else None

    @property
    def makes_images(self):
        return hasattr(self.objective, "average")

    # -- steps

    @property
    def steps(self):
        return self.epochs * self.steps_per_epoch

    def rate(self):
        """Learning rate of the next step: linear warm-up, then a cosine to `last_rate` of the top."""
        p, low = self.i / self.steps, self.preset["last_rate"]
        warm = min(1.0, (self.i + 1) / min(self.preset["warm_up"], self.steps / 4))
        return self.args.lr * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * p)))

    def rng(self, *place):
        """A generator for what is random at a place of this run (never the global one: see --resume)."""
        seed = np.random.SeedSequence([self.args.seed, *place]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def draw_order(self, rng):
        """The order of the images in an epoch: each once, or with --balance those of rare classes more often, each
        image as often as its weight says, rounded down or up (systematic resampling)."""
        n = len(self.images)
        order = torch.randperm(n, generator=rng)
        if self.share is None:
            return order
        places = (torch.arange(n, dtype=torch.float64) + torch.rand(1, dtype=torch.float64, generator=rng)) / n
        return torch.searchsorted(self.share, places).clamp(max=n - 1)[order]

    def step(self):
        """One training step; returns its losses as tensors."""
        epoch, place = divmod(self.i, self.steps_per_epoch)
        if place == 0 or self.order is None:
            self.order = self.draw_order(self.rng(0, epoch)).to(self.device)
        if self.i % self.refresh_steps == 100:
            self.objective.refresh(*(a[self.sparse] for a in (self.images, self.labels, self.thickness)))
        chosen = self.order[place * self.batch:(place + 1) * self.batch]
        x = models.from_uint8(self.images[chosen]).contiguous(memory_format=torch.channels_last)
        losses = self.objective.step(x, self.labels[chosen], self.thickness[chosen], self.rate(), self.i,
                                     self.i / self.steps, self.rng(1, self.i))
        self.i += 1
        return losses

    def plan(self, speed):
        """Fit the epochs into the minutes that are left at `speed` steps a second. In the first quarter of a run their
        number may grow; later only shrink, when the machine has become clearly slower, as the learning rate is on its
        way down by then."""
        left = 60 * self.args.minutes - self.seconds
        fit = max(1, math.floor((self.i + max(0.0, left) * speed) / self.steps_per_epoch),
                  math.ceil(self.i / self.steps_per_epoch))
        late = (self.steps - self.i) / speed > 1.05 * left
        if self.i < self.steps / 4 or late:
            planned, self.epochs = self.epochs, min(fit, self.epochs if late else self.most_epochs)
            if self.epochs != planned:
                self.plans.append((self.i, self.epochs))
                say(f"{self.epochs} epochs of {len(self.images):,} images fit into {self.args.minutes:g} minutes here")

    # -- pictures

    def fixed_conditions(self):
        """(noise, labels, thickness) of the pictures: some samples of each of some classes, thin to thick."""
        k = len(self.glyphs.classes)
        shown = np.unique(np.linspace(0, k - 1, min(k, SHOWN)).round().astype(np.int64))
        labels = np.repeat(shown, PER_CLASS)
        t = np.tile((np.arange(PER_CLASS, dtype=np.float32) + 0.5) / PER_CLASS, len(shown))
        noise, _ = draw_noise(0, 0, len(labels), self.objective.generator.cfg.latent)
        return noise, labels, t

    def sampler(self):
        return TorchGenerator(self.objective.average, self.glyphs.classes)

    def caption(self):
        return f"epoch {self.i / self.steps_per_epoch:.1f}, {self.seconds:.0f} s"

    def settle(self):
        """Make the products ready for use. -> figures, JSON types"""
        return self.objective.settle(self.images, self.labels, self.thickness)

    def draw_frame(self):
        """Draw the fixed samples, keep them for the GIF and show them in <name>_samples.png."""
        self.frames.append((self.sampler()(*self.show), self.caption()))
        self.save_sheet()
        if len(self.frames) == 1:
            say(f"first samples after {self.seconds:.0f} s, drawn anew as it goes on: {self.path('_samples.png')}")

    @property
    def title(self):
        return f"{self.args.model} on {self.glyphs.name}"

    def save_sheet(self):
        _, labels, t = self.show
        images, caption = self.frames[-1]
        picture = figures.sheet(images, labels, self.glyphs.classes, t, self.title, caption, max_classes=SHOWN)
        figures.save(picture, self.path("_samples.png"))

    def save_gif(self):
        _, labels, t = self.show
        figures.gif(self.frames, self.path("_training.gif"), labels, self.glyphs.classes, t, self.title,
                    max_classes=SHOWN)

    def save_curves(self):
        rows = [json.loads(line) for line in self.log.read_text().splitlines()]
        names = [k for k in rows[-1] if k not in ("step", "epoch", "seconds", "images_per_second")]
        series = {k: ([r["epoch"] for r in rows if k in r], [r[k] for r in rows if k in r]) for k in names}
        picture = charts.curves(series, self.title, "epoch", "loss", smooth=max(1, len(rows) // 40))
        figures.save(picture, self.path("_losses.png"))

    # -- files

    def path(self, ending):
        return self.out / (self.name + ending)

    @property
    def log(self):
        return self.path(".resume.jsonl")

    @property
    def state(self):
        return self.path(".resume.pth")

    @property
    def wall_seconds(self):
        """From the command to now, the processes that were stopped included."""
        return self.seconds_before + time.perf_counter() - self.started

    def begin(self):
        """Make way for a fresh run: an empty log, nothing to resume, no snapshots of an earlier run."""
        self.state.unlink(missing_ok=True)
        with atomic(self.log):
            pass
        for old in (self.out / f"{self.name}_epochs").glob("*.pth"):
            old.unlink()

    def end(self):
        """Let the log take its name; there is nothing to resume any more."""
        os.replace(self.log, self.path(".log.jsonl"))
        self.state.unlink(missing_ok=True)

    def record(self):
        """The run's record as a dict of JSON types; no local paths."""
        g, places = self.glyphs, ("dataset", "data_dir", "out", "resume", "dry_run")
        settings = {k: v for k, v in vars(self.args).items() if k not in places}
        return {"model": self.args.model, "dataset": g.name, "dataset_sha256": g.sha256, "source": g.source,
                "license": g.license, "synthetic": g.synthetic, "notice": g.notice, "warnings": g.warnings,
                "classes": g.classes, "train_images": len(g.x_train), "settings": settings,
                "parameters": {k: models.n_parameters(m) for k, (_, m) in self.objective.products.items()},
                "epochs": self.epochs, "plans": self.plans, "steps": self.i, "training_seconds": round(self.seconds, 1),
                "images_per_second": round(self.i * self.batch / max(self.seconds, 1e-9)),
                "machine": {"processor": processor(), "threads": torch.get_num_threads(), "device": str(self.device)},
                "versions": {"python": platform.python_version(), "torch": torch.__version__,
                             "numpy": np.__version__}}

    def write_record(self, **more):
        text = json.dumps({**self.record(), **more}, indent=1, ensure_ascii=False)
        with atomic(self.path(".json")) as tmp:
            tmp.write_text(text + "\n", encoding="utf-8")

    def checkpoint(self, name, measured=None):
        """models.Checkpoint of one product."""
        kind, network = self.objective.products[name]
        info = {"model": self.args.model, "dataset": self.glyphs.name, "dataset_sha256": self.glyphs.sha256,
                "license": self.glyphs.license, "source": self.glyphs.source, "figures": measured or {}}
        return models.Checkpoint(kind, network, self.glyphs.classes, self.ink_table, info)

    def save_snapshot(self):
        epoch = self.i // self.steps_per_epoch
        self.settle()
        models.save(self.out / f"{self.name}_epochs" / f"{epoch:05d}.pth",
                    self.checkpoint(self.name, {"epoch": epoch, "training_seconds": round(self.seconds, 1)}))

    def is_finite(self):
        """Whether every weight is a number."""
        return all(bool(v.isfinite().all()) for m in self.objective.networks.values() for v in m.state_dict().values())

    def save_state(self):
        """Write <name>.resume.pth: all that the rest of the run depends on."""
        o = self.objective
        models.write_archive({
            "version": models.VERSION, "settings": vars(self.args), "data": self.glyphs.sha256,
            "notice": self.glyphs.notice, "i": self.i, "epochs": self.epochs, "plans": self.plans,
            "seconds": self.seconds, "wall_seconds": self.wall_seconds,
            "frames": [(torch.from_numpy(f), c) for f, c in self.frames],
            "networks": {k: m.state_dict() for k, m in o.networks.items()},
            "optimizers": {k: m.state_dict() for k, m in o.optimizers.items()}}, self.state)

    def load_state(self, state):
        """Go back to a saved state; the log loses the rows of steps that will be taken again."""
        if state["data"] != self.glyphs.sha256:
            raise UserError(f"{self.state} was trained on other data than {self.glyphs.name} holds now")
        o = self.objective
        try:
            for k, network in o.networks.items():
                network.load_state_dict(state["networks"][k])
            for k, optimizer in o.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][k])
            self.i, self.epochs, self.seconds, self.order = state["i"], state["epochs"], state["seconds"], None
            self.plans, self.seconds_before = state["plans"], state["wall_seconds"]
            self.frames = [(f.numpy(), c) for f, c in state["frames"]]
        except (KeyError, RuntimeError, ValueError, AttributeError) as e:
            raise UserError(f"{self.state} was written by another version of this code: start the run anew") from e
        rows = self.log.read_text().splitlines(True) if self.log.is_file() else []
        with atomic(self.log) as tmp:          # a row that was not finished has no line end
            tmp.write_text("".join(r for r in rows if r.endswith("}\n") and json.loads(r)["step"] <= self.i))


# ---- a training without a command line ---------------------------------------------------------------------------------


def settings(model, **given):
    """The options of a training run that trainer.Run and an objective look at, with their usual values for few images:
    the discriminator's images are shifted, else it learns them by heart."""
    preset = {k: v for k, v in PRESETS[model].items() if k in ("lr", "label_weight", "g_label_weight")}
    usual = dict(model=model, minutes=None, seed=0, diffaugment=2, balance=0.0, out=".", **SETTINGS, **preset)
    return Namespace(**{**usual, **given})


def train_generator(model, glyphs, seed=0, steps=800, device="cpu", bf16=None, **options):
    """Train a generator on the training images of `glyphs` alone; returns a source for sample_all.

    model: "cgan", "acgan" or "cvae". options: those of train.py (balance=1: classes are seen equally often, however few
    images they have). The run is trainer.Run's, step for step, without its pictures and files.
    """
    device = torch.device(device)
    args = settings(model, seed=seed, bf16=has_bf16(device) if bf16 is None else bf16, **options)
    args.epochs = math.ceil(steps / (len(glyphs.x_train) // min(args.batch, len(glyphs.x_train))))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        run = Run(args, glyphs, device, started=0.0)
        for _ in range(steps):
            run.step()
        run.settle()
    return run.sampler()
