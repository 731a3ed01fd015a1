"""Training of classifiers: what one step of train.py does, and a training on few images for the studies.

    network = train_classifier(x, y, steps=1000, seed=0, augment="classical")
    right = accuracy(network, glyphs.x_test, glyphs.y_test)
"""
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import models
from training import augment as augmentation
from training.augment import shift, warp
from training.steps import autocast, has_bf16, set_rate
from utils.files import UserError

WARM_UP = 50               # steps of linear warm-up of a study's classifier
PREDICT_BATCH = 500        # images a forward pass at prediction


class Recogniser:
    """A classifier: cross-entropy with smoothed labels on warped images, AdamW (Loshchilov and Hutter 2019)."""

    name = "classifier"        # the stem of its files
    shape = {}                 # what its ClassifierConfig sets

    def __init__(self, args, n_classes, device):
        self.args, self.device = args, device
        self.classifier = models.Classifier(models.ClassifierConfig(n_classes, **self.shape))
        self.classifier = self.classifier.to(device, memory_format=torch.channels_last)
        self.networks = {"classifier": self.classifier}
        self.rounded = copy.deepcopy(self.classifier).requires_grad_(False).eval()
        self.optimizers = {"classifier": torch.optim.AdamW(self.classifier.parameters(), weight_decay=0.02, fused=True)}
        self.products = {self.name: ("classifier", self.rounded)}

    def step(self, x, y, t, lr, i, progress, rng):
        """One update. x float32 [B, 1, 28, 28] in [0, 1], y int64 [B]; t is not used."""
        s = self.args.warp
        x = warp(x, rng, degrees=15 * s, scale=0.15 * s, shear=0.15 * s, elastic=8 * s)
        return self.update(x, y, lr, smoothing=0.05)

    def update(self, x, y, lr, smoothing):
        """One step of the optimiser on these very images."""
        set_rate(self.optimizers["classifier"], lr)
        with autocast(self.device, self.args.bf16):
            loss = F.cross_entropy(self.logits(x), y, label_smoothing=smoothing)
        self.optimizers["classifier"].zero_grad()
        loss.backward()
        self.optimizers["classifier"].step()
        return {"loss": loss.detach()}

    def logits(self, x):
        return self.classifier(x.contiguous(memory_format=torch.channels_last))

    def refresh(self, images, labels, thickness):
        pass

    @torch.no_grad()
    def settle(self, images, labels, thickness):
        """Make `rounded` the network of now, the weights of its convolutions and linear layers rounded to what fp16 can
        hold: what is measured and saved is then to the bit what an ONNX file of half the size holds."""
        self.rounded.load_state_dict(self.classifier.state_dict())
        for layer in self.rounded.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.copy_(layer.weight.half())
        return {}


class TinyRecogniser(Recogniser):
    """The same in a tenth of the parameters: 24,930 for ten classes."""

    name = "classifier-tiny"
    shape = {"width": 8, "last": 40}


class AdversarialRecogniser(Recogniser):
    """A classifier trained on images that are changed to mislead it: the inner problem of Madry et al. 2018
    (arXiv:1706.06083), solved in few steps from a random start as in Wong et al. 2020 (arXiv:2001.03994)."""

    name = "classifier-adversarial"
    shape = {"width": 16, "margin": 0.3}
    EPS = 0.3                  # how far any pixel may be changed, of [0, 1]
    STEPS = 2                  # of the attack

    def step(self, x, y, t, lr, i, progress, rng):
        """One update. x float32 [B, 1, 28, 28] in [0, 1], y int64 [B]; t is not used."""
        return self.update(self.attacked(shift(x, 1, rng), y, rng), y, lr, smoothing=0.0)

    def attacked(self, x, y, rng):
        """The images, changed by at most EPS within [0, 1] so that the loss grows."""
        self.classifier.eval()                 # batch norm as it will be when the network is used
        low, high = (x - self.EPS).clamp(min=0), (x + self.EPS).clamp(max=1)
        changed = low + (high - low) * torch.rand(x.shape, generator=rng).to(x.device)
        for _ in range(self.STEPS):
            changed.requires_grad_()
            with autocast(self.device, self.args.bf16):
                loss = F.cross_entropy(self.logits(changed), y, reduction="sum")
            slope, = torch.autograd.grad(loss, changed)
            changed = torch.clamp(changed.detach() + 1.25 * self.EPS * slope.sign(), low, high)
        self.classifier.train()
        return changed


RECOGNISERS = {r.name: r for r in (Recogniser, TinyRecogniser, AdversarialRecogniser)}


# ---- a training on few images ----------------------------------------------------------------------------------------

def build(n_classes, network, device):
    """A fresh network: "small" is SmallClassifier, a number is models.Classifier of that width."""
    if network == "small":
        net = models.SmallClassifier(n_classes)
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
def predict_probabilities(network, images):
    """What a classifier in eval mode makes of uint8 images [N, 28, 28], in fp32: float32 [N, n_classes]."""
    device = next(network.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(PREDICT_BATCH)
    answers = [network(models.from_uint8(part.to(device))).softmax(1).cpu() for part in parts]
    return torch.cat(answers).numpy()


def predict(network, images):
    """The labels that a classifier in eval mode gives to uint8 images [N, 28, 28]: int64 [N]."""
    return predict_probabilities(network, images).argmax(1)


def accuracy(network, images, labels):
    """Share of uint8 images [N, 28, 28] to which a classifier in eval mode gives their labels int64 [N]: a float."""
    return float(np.mean(predict(network, images) == labels))
