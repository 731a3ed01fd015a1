"""Training a recogniser or a generator on few images, in process and without files: the arms of a comparison.

    network = train_classifier(x, y, steps=1000, seed=0, augment="classical")
    source = train_generator("cgan", glyphs.subset(10, seed=0), seed=0, steps=800)
    images, labels = pool(source, 10_000, seed=0)
    network = train_classifier(x, y, seed=0, synthetic=keep_agreed(network, images, labels), share=0.3)
    accuracy = np.mean(predict(network, glyphs.x_test) == glyphs.y_test)

Whatever is random follows from the seed alone; the global random state is left as it was.
"""
import math
from argparse import Namespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import augment as augmentation
import models
import sampling
from files import UserError
from steps import autocast, has_bf16, set_rate
from trainer import PRESETS, SETTINGS, Run

WARM_UP = 50               # steps of linear warm-up of a classifier's learning rate
BATCHES = 500              # images a forward pass at prediction


class SmallClassifier(nn.Module):
    """The network of the studies, with the interface of models.Classifier: two of its five 3x3 convolutions stride, so
    that hundreds of trainings are affordable: 72,602 parameters, 13 ms a step of 64 images on one core, where
    models.Classifier of the same size takes twice as long."""

    def __init__(self, n_classes, width=16):
        super().__init__()
        layers, n = [], 1
        for c, stride in ((width, 1), (width, 2), (2 * width, 1), (2 * width, 2), (4 * width, 1)):
            layers += [models.conv(n, c, stride), nn.BatchNorm2d(c), nn.ReLU()]
            n = c
        self.net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(),                 # [N, 4 * width * 9]
                                 nn.Linear(9 * n, 4 * width), nn.ReLU(), nn.Dropout(0.25))
        self.head = nn.Linear(4 * width, n_classes)

    def features(self, images):
        """images float [N, 1, 28, 28] in [0, 1] -> float [N, 4 * width], non-negative."""
        return self.net(2 * images - 1)

    def forward(self, images):
        """images float [N, 1, 28, 28] in [0, 1] -> logits float32 [N, n_classes]."""
        return self.head(self.features(images)).float()


def build(n_classes, network, device):
    """A fresh network: "small" is SmallClassifier, a number is models.Classifier of that width."""
    if network == "small":
        net = SmallClassifier(n_classes)
    else:
        net = models.Classifier(models.ClassifierConfig(n_classes, network))
    return net.to(device, memory_format=torch.channels_last)


def passes(images, rng):
    """Endless shuffled passes over the indices `images` int64 [N]: a function n -> the next n of them."""
    waiting = [images[:0]]

    def choose(n):
        while len(waiting[0]) < n:
            waiting[0] = torch.cat([waiting[0], images[torch.randperm(len(images), generator=rng)]])
        chosen, waiting[0] = waiting[0][:n], waiting[0][n:]
        return chosen
    return choose


def evenly(labels, made, share, rng):
    """Random images with every class equally often: a function n -> indices int64 [n] (with repetition).

    Of the classes that have both kinds, a synthetic image (`made` bool [N]) is taken with probability `share`.
    """
    cell = 2 * labels + made                                                             # (class, kind)
    counts = torch.bincount(cell, minlength=2 * int(labels.max()) + 2).double()
    both = (counts[0::2] > 0) & (counts[1::2] > 0)
    mass = torch.stack([torch.where(both, 1 - share, 1.0), torch.where(both, share, 1.0)], 1).flatten()
    weights = (mass / counts.clamp(min=1))[cell]
    return lambda n: torch.multinomial(weights, n, replacement=True, generator=rng)


def train_classifier(x, y, steps=1000, seed=0, augment="none", synthetic=None, share=0.5, first=0.0, n_classes=None,
                     device="cpu", elastic=8.0, affine=1.0, class_weights=None, balanced=False, lr=3e-3, batch=64,
                     network="small", bf16=None, label_smoothing=0.0, mixup=0.0):
    """Train a fresh classifier for `steps` steps of `batch` images; returns it in eval mode.

    x uint8 [N, 28, 28], y int64 [N]: real images, None or empty for synthetic images only. synthetic: (images, labels)
    of the same kinds; `share` of each batch is taken from it. `first`: during this part of the steps, at the start,
    batches are synthetic only (pre-training), in the rest of them mixed by `share`. balanced: every class equally often
    (over-sampling); `share` then holds within the classes that have synthetic images. class_weights: float [n_classes],
    weights of the loss by class. augment: "none" or "classical", a fresh affine and elastic warp (augment.warp) of
    every image, real or not, at every step; `affine` scales its usual ranges, `elastic` is the strength of the rest.
    mixup: a of Beta(a, a), from which the weight of a batch's pairs of images is drawn (Zhang et al. 2018), 0: none.
    AdamW (Loshchilov and Hutter 2019), warm-up, then a cosine to zero. bf16: None where the chip has it. network:
    "small" (SmallClassifier) or the width of a models.Classifier. Raises UserError where there is no image.
    """
    device = torch.device(device)
    if augment not in ("none", "classical"):
        raise UserError(f"augment {augment!r}: choose none or classical")
    sets = [s if s is not None and s[0] is not None else (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64))
            for s in ((x, y), synthetic)]
    images = torch.from_numpy(np.concatenate([s[0] for s in sets])).to(device)
    labels = torch.from_numpy(np.concatenate([s[1] for s in sets]).astype(np.int64))
    made = torch.arange(len(labels)) >= len(sets[0][0])
    if not len(labels):
        raise UserError("a classifier needs at least one image to learn from, real or synthetic")
    n_classes = n_classes or int(labels.max()) + 1
    weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32, device=device)
    share = 0.0 if not made.any() else 1.0 if made.all() else share
    first = first if made.any() else 0.0

    def rng(place):
        return torch.Generator().manual_seed(seed * 4 + place)
    warps, real, synthetic = rng(0), passes(torch.where(~made)[0], rng(1)), passes(torch.where(made)[0], rng(2))
    even = evenly(labels, made, share, rng(3))
    mixes = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        net = build(n_classes, network, device).train()
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02, fused=True)
        bf16 = has_bf16(device) if bf16 is None else bf16
        for i in range(steps):
            count = batch if i < first * steps else round(batch * share)
            if balanced and i >= first * steps:
                chosen = even(batch)
            else:
                chosen = torch.cat([part(n) for part, n in ((real, batch - count), (synthetic, count)) if n])
            inputs, answers = models.from_uint8(images[chosen.to(device)]), labels[chosen].to(device)
            if augment == "classical":
                inputs = augmentation.warp(inputs, warps, degrees=15 * affine, scale=0.15 * affine, shear=0.15 * affine,
                                           elastic=elastic)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            warm = min(1.0, (i + 1) / min(WARM_UP, steps / 4))
            set_rate(optimizer, lr * warm * 0.5 * (1 + math.cos(math.pi * i / steps)))
            others, part = answers, 1.0
            if mixup:
                pairs, part = mixes.permutation(len(answers)), mixes.beta(mixup, mixup)
                inputs, others = part * inputs + (1 - part) * inputs[pairs], answers[pairs]
            with autocast(device, bf16):
                logits = net(inputs)
                loss = sum(w * F.cross_entropy(logits, t, weights, label_smoothing=label_smoothing)
                           for w, t in ((part, answers), (1 - part, others)) if w)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def probabilities(network, images):
    """What a classifier in eval mode makes of uint8 images [N, 28, 28], in fp32: float32 [N, n_classes]."""
    device = next(network.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(BATCHES)
    answers = [network(models.from_uint8(part.to(device))).softmax(1).cpu() for part in parts]
    return torch.cat(answers).numpy()


def predict(network, images):
    """The labels that a classifier in eval mode gives to uint8 images [N, 28, 28]: int64 [N]."""
    return probabilities(network, images).argmax(1)


# ---- generators ------------------------------------------------------------------------------------------------------

def settings(model, **given):
    """The options of a training run that trainer.Run and an objective look at, with their usual values for few images:
    the discriminator's images are shifted, else it learns them by heart."""
    preset = {k: v for k, v in PRESETS[model].items() if k in ("lr", "label_weight", "g_label_weight")}
    usual = dict(model=model, minutes=None, seed=0, diffaugment=2, balance=0.0, out=".", **SETTINGS, **preset)
    return Namespace(**{**usual, **given})


def train_generator(model, glyphs, seed=0, steps=800, device="cpu", bf16=None, **options):
    """Train a generator on the training images of `glyphs` alone; returns a source for sampling.sample_all.

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


def pool(source, n, seed=0, digits=None):
    """n samples of a source, thin and thick alike: images uint8 [n, 28, 28], labels int64 [n].
    digits: class indices to take in turn, all if None."""
    images, labels, _ = sampling.sample_all(source, n, seed=seed, digits=digits)
    return images, labels


def keep_agreed(network, images, labels, confidence=0.0):
    """The samples that a classifier reads as what they were asked to be, with at least this probability:
    (images, labels). All of them where it agrees with fewer than one in ten, as then it is the one not to be trusted."""
    p = probabilities(network, images)
    kept = (p.argmax(1) == labels) & (p[np.arange(len(labels)), labels] >= confidence)
    return (images[kept], labels[kept]) if kept.mean() >= 0.1 else (images, labels)
