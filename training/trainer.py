"""What the training of every model has in common. A Trainer turns batches into losses; the loop belongs to whoever
trains (run.train_step)."""
import contextlib
import math
from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass
class Batch:
    """Training images of one step, and where in the run it is."""
    images: torch.Tensor       # float32 [B, 1, 28, 28] in [0, 1], channels-last
    labels: torch.Tensor       # int64 [B]
    thickness: torch.Tensor    # float32 [B] in [0, 1]
    step: int                  # steps done before
    progress: float            # their share of all steps, in [0, 1)
    rng: torch.Generator       # for whatever is random in this step
    fields: torch.Tensor | None = None     # distance fields of the images, float32, where they are to be redrawn


class Trainer:
    """Base class. A subclass sets `name` (the stem of its files), `Settings` (a dataclass: learning rate,
    weights of the losses), and in __init__ `networks` and `optimizers` (dicts: the state that a run resumes
    from) and `checkpoints` (file stem -> (kind, network): what a run saves). It defines `losses(batch)`, a
    Python generator of (optimizer, loss, {name: value to log}), each to be stepped before the next is asked
    for; of one that learns without gradients the optimizer is None. One that makes images has `ema`, the averaged
    generator that is sampled, scored and saved. One that `redraws` its images where they are few has the settings pen,
    hands and elastic. One that `has_start` can begin with weights that come along, where its setting `pretrained` says so.
    `scarce`: settings that it has in place of its defaults where images are few."""
    name = ""
    makes_images = redraws = has_start = False
    scarce: ClassVar[dict] = {}

    def __init__(self, settings, device, bf16=False):
        self.settings, self.device, self.bf16 = settings, torch.device(device), bf16
        self.networks, self.optimizers, self.checkpoints = {}, {}, {}

    def to_device(self, network):
        return network.to(self.device, memory_format=torch.channels_last)

    def autocast(self):
        """bf16 arithmetic where that is on, else nothing."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def set_lr(self, lr):
        """Set the learning rate of every optimizer."""
        for optimizer in self.optimizers.values():
            set_lr(optimizer, lr)

    def start(self):
        """Load the weights that training begins with, where they come along; not called for a run that is resumed."""

    def end_step(self, batch):
        """Called after the last optimizer of a step."""

    def refit_prior(self, images, labels, thickness):
        """Called every few hundred steps with some images uint8 [N, 28, 28], int64 [N], float32 [N]."""

    def finish(self, images, labels, thickness):
        """Make the checkpoints ready for use; called before they are saved, at an epoch's end or the run's,
        with all training images, as in refit_prior. Returns figures for the record, JSON types."""
        return {}

    def calibrate(self, images, labels):
        """Called after finish with the validation images, uint8 [N, 28, 28] and int64 [N] arrays, N may be 0. Returns
        figures for the record, too."""
        return {}


def set_lr(optimizer, lr):
    """Set the learning rate of every parameter group, times the group's own `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


def learning_rate(step, steps, peak, warm_up, final=0.0):
    """Learning rate of a step: linear warm-up over `warm_up` steps (at most a quarter of all), times a
    cosine from `peak` to `final` of it."""
    warm = min(1.0, (step + 1) / min(warm_up, steps / 4))
    return peak * warm * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def has_bf16(device):
    """Whether bf16 is worth it: the chip has instructions for it (emulated, it is slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
