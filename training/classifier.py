"""Training of classifiers: the losses of train.py's three, and a training on few images for the studies.

    network = train_classifier(x, y, steps=1000, seed=0, augment="classical")
    right = accuracy(network, glyphs.x_test, glyphs.y_test)
"""
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import models
from training.augment import add_noise, distortion, redraw, shift, to_fields, warp
from training.deformation import load_deformer, other_hands
from training.discriminant import Discriminant
from training.distributed import draw
from training.pretraining import load_backbone, start_from
from training.threads import ThreadTuner
from training.trainer import Trainer, has_bf16, learning_rate, set_lr
from utils.files import UserError

STUDY_WARM_UP = 50         # steps of linear warm-up of a study's classifier
PREDICT_BATCH = 500        # images a forward pass at prediction
TEMPERATURES = 1 / 20, 20  # between which a temperature is looked for; labels smoothed by 0.05 need 0.5
FITTED_IMAGES = 5000       # validation images that it is fitted to, at most: their logits are in memory at once


@dataclass
class ClassifierSettings:
    """Learning rate, distortion and loss; the first that met the goals on MNIST."""
    lr: float = 3e-3
    warm_up: int = 400               # steps
    final_lr: float = 0.0            # share of lr at the end
    warp: float = 1.0                # strength of the distortion: 1 is rotations of 15 degrees and the like
    label_smoothing: float = 0.05
    elastic: float = 8.0             # see augment.warp; more where images are few: FEW_SETTINGS of train.py
    pen: float = 0.0                 # pixels by which strokes are written wider or thinner on either side; 0: as they are
    noise: float = 0.3               # most standard deviation of noise that is added to an image: see augment.add_noise
    hands: float = 0.0               # share of the images that are written as other hands would (training/deformation.py)
    pretrained: bool = False         # features of the backbone that comes along, a head in closed form (training/discriminant.py)
    tuned: bool = False              # beside that a network that starts from the backbone and is trained, logits added


@dataclass
class TinyClassifierSettings(ClassifierSettings):
    lr: float = 6e-3
    noise: float = 0.0               # what it costs so small a network was not measured


@dataclass
class AdversarialClassifierSettings(ClassifierSettings):
    warm_up: int = 200
    warp: float = 0.0
    label_smoothing: float = 0.0
    noise: float = 0.0


class ClassifierTrainer(Trainer):
    """Cross-entropy with smoothed labels on warped images, AdamW (Loshchilov and Hutter 2019). Where images are few a
    discriminant analysis of a backbone's features takes the place of that, or stands beside it: see Settings."""
    name = "classifier"
    Settings = ClassifierSettings
    redraws = has_start = True

    def __init__(self, settings, n_classes, device, bf16=False):
        super().__init__(settings, device, bf16)
        self.classifier = self.to_device(models.Classifier(self.config(n_classes)))
        self.discriminant, self.members = None, [self.classifier]
        if settings.pretrained:
            backbone = load_backbone(self.name)
            start_from(self.classifier, backbone)
            fixed = models.Classifier(self.config(n_classes))
            self.discriminant = self.networks["discriminant"] = self.to_device(Discriminant(fixed, backbone))
            self.members = [fixed, self.classifier] if settings.tuned else [fixed]
        if self.classifier in self.members:
            self.networks["classifier"] = self.classifier
            self.optimizers = {"classifier": torch.optim.AdamW(self.classifier.parameters(), weight_decay=0.02, fused=True)}
        self.rounded = models.side_by_side(*self.members).requires_grad_(False).eval()
        self.checkpoints = {self.name: ("classifier", self.rounded)}
        self.deformer = load_deformer().model.to(self.device) if settings.hands else None

    def config(self, n_classes):
        return models.ClassifierConfig(n_classes)

    def augment(self, batch):
        """The images that the network is trained on: float32 [B, 1, 28, 28] in [0, 1]."""
        s, warp_by = self.settings, self.settings.warp
        ranges = distortion(warp_by, s.elastic * warp_by)
        if s.pen or s.hands:
            glyphs = other_hands(self.deformer, batch.fields, s.hands, batch.rng) if s.hands else batch.fields
            images = redraw(glyphs, batch.rng, s.pen, **ranges)
        else:
            images = warp(batch.images, batch.rng, **ranges)
        return add_noise(images, batch.rng, s.noise) if s.noise else images

    def logits(self, images):
        with self.autocast():
            return self.classifier(images.contiguous(memory_format=torch.channels_last))

    def losses(self, batch):
        """One loss, as Trainer says."""
        images = self.augment(batch)
        if self.discriminant:
            logits = self.discriminant.add(images.contiguous(memory_format=torch.channels_last), batch.labels)
        if self.optimizers:
            logits = self.logits(images)
        with self.autocast():
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.settings.label_smoothing)
        yield self.optimizers.get("classifier"), loss, {"loss": loss.detach()}

    @torch.no_grad()
    def finish(self, images, labels, thickness):
        """Make `rounded` the network of now, the weights of its convolutions and linear layers rounded to fp16: what is
        measured and saved is then to the bit what an ONNX file of half the size holds."""
        self.rounded.load_state_dict(models.side_by_side(*self.members).state_dict())
        for layer in self.rounded.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.copy_(layer.weight.half())
        return {}

    @torch.no_grad()
    def calibrate(self, images, labels):
        """Divide the logits of `rounded` by the temperature that fits the validation images, by way of the last layer's
        weights, so that every file that is made of it has probabilities to be believed. What goes on training is not
        touched. Without images the temperature stays 1; the record says how many there were."""
        step = max(1, math.ceil(len(images) / FITTED_IMAGES))
        images, labels = images[::step], labels[::step]
        temperature = fit_temperature(predict_logits(self.rounded, images), labels) if len(images) else 1.0
        head = self.rounded.head
        head.weight.copy_((head.weight / temperature).half())
        head.bias /= temperature
        return {"temperature": round(temperature, 4), "temperature_images": len(images)}


class TinyClassifierTrainer(ClassifierTrainer):
    """The same in a tenth of the parameters: 24,930 for ten classes."""
    name = "classifier-tiny"
    Settings = TinyClassifierSettings

    def config(self, n_classes):
        return models.ClassifierConfig(n_classes, width=8, last=40)


class AdversarialClassifierTrainer(ClassifierTrainer):
    """A classifier trained on images that are changed to mislead it: the inner problem of Madry et al. 2018
    (arXiv:1706.06083), solved in few steps from a random start as in Wong et al. 2020 (arXiv:2001.03994)."""
    name = "classifier-adversarial"
    Settings = AdversarialClassifierSettings
    redraws = has_start = False          # its images are attacked instead
    EPS = 0.3                  # how far any pixel may be changed, of [0, 1]
    ATTACK_STEPS = 2

    def config(self, n_classes):
        return models.ClassifierConfig(n_classes, width=16, margin=self.EPS)

    def augment(self, batch):
        return self.attack(shift(batch.images, 1, batch.rng), batch.labels, batch.rng)

    def attack(self, images, labels, rng):
        """The images, changed by at most EPS within [0, 1] so that the loss grows. (attacks.pgd is the one
        to judge by: this one runs in the network's own precision and takes no copy of it.)"""
        self.classifier.eval()                 # batch norm as it will be when the network is used
        low, high = (images - self.EPS).clamp(min=0), (images + self.EPS).clamp(max=1)
        adversarial = low + (high - low) * draw(torch.rand, images.shape, generator=rng).to(images.device)
        for _ in range(self.ATTACK_STEPS):
            adversarial.requires_grad_()
            with self.autocast():
                loss = F.cross_entropy(self.logits(adversarial), labels, reduction="sum")
            gradient, = torch.autograd.grad(loss, adversarial)
            adversarial = torch.clamp(adversarial.detach() + 1.25 * self.EPS * gradient.sign(), low, high)
        self.classifier.train()
        return adversarial


CLASSIFIER_TRAINERS = {t.name: t for t in (ClassifierTrainer, TinyClassifierTrainer, AdversarialClassifierTrainer)}


def fit_temperature(logits, labels):
    """The temperature T with which softmax(logits / T) fits best: the minimum of the mean negative log-likelihood (Guo et al.
    2017, arXiv:1706.04599), a float within TEMPERATURES. logits float [N, K], labels int [N], numpy arrays, N > 0.

    It is convex in 1 / T, so its slope there, mean(softmax(z / T) . z - target . z), is bisected, in fp64. As in Platt
    scaling the target is not quite the label: it gets 1 - 1 / (N + 2), the rest all classes alike. Where all N are read
    correctly the likelihood alone would make the network certain, which few images do not justify."""
    n, parts = len(labels), torch.as_tensor(logits).split(PREDICT_BATCH)          # in fp64 they would take memory
    of_label = torch.as_tensor(logits)[torch.arange(n), torch.as_tensor(labels)].double()
    all_alike = torch.cat([z.double().mean(1) for z in parts])
    target = ((n + 1) * of_label + all_alike).sum() / (n + 2)
    low, high = map(math.log, TEMPERATURES)
    for _ in range(50):
        middle = (low + high) / 2
        expected = sum(((z.double() / math.exp(middle)).softmax(1) * z).sum() for z in parts)
        low, high = (middle, high) if expected > target else (low, middle)         # too sure, or not
    return math.exp((low + high) / 2)


# ---- a training on few images --------------------------------------------------------------------

def shuffled_passes(indices, rng):
    """Endless shuffled passes over `indices` int64 [N]: a function n -> the next n of them."""
    waiting = indices[:0]

    def choose(n):
        nonlocal waiting
        while len(waiting) < n:
            waiting = torch.cat([waiting, indices[torch.randperm(len(indices), generator=rng)]])
        chosen, waiting = waiting[:n], waiting[n:]
        return chosen
    return choose


def class_balanced(labels, is_synthetic, share, rng):
    """Random images with every class equally often: a function n -> indices int64 [n] (with repetition).
    Of classes that have both kinds a synthetic image (`is_synthetic` bool [N]) is taken with probability `share`."""
    cell = 2 * labels + is_synthetic
    counts = torch.bincount(cell, minlength=2 * int(labels.max()) + 2).double()
    both = (counts[0::2] > 0) & (counts[1::2] > 0)
    mass = torch.stack([torch.where(both, 1 - share, 1.0), torch.where(both, share, 1.0)], 1).flatten()
    weights = (mass / counts.clamp(min=1))[cell]
    return lambda n: torch.multinomial(weights, n, replacement=True, generator=rng)


def join_sets(*sets):
    """Sets of (uint8 images, labels), or None or (None, None) -> images uint8 [N, 28, 28], labels int64 [N],
    the index of each image's set int64 [N]; tensors. Raises UserError where there is no image at all."""
    empty = np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64)
    sets = [empty if s is None or s[0] is None else s for s in sets]
    images, labels = (np.concatenate(parts) for parts in zip(*sets))
    if not len(labels):
        raise UserError("a classifier needs at least one image to learn from, real or synthetic")
    origin = np.repeat(np.arange(len(sets)), [len(s[1]) for s in sets])
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(origin)


def train_classifier(x, y, steps=1000, seed=0, augment="none", synthetic=None, share=0.5, first=0.0, n_classes=None,
                     device="cpu", elastic=8.0, affine=1.0, class_weights=None, balanced=False, lr=3e-3, batch=64,
                     label_smoothing=0.0, mixup=0.0, pen=0.0, noise=0.0, deformer=None, hands=0.5,
                     backbone=None):
    """Train a models.SmallClassifier for `steps` steps of `batch` images, a fresh one or one that starts from a `backbone`
    (models.Backbone); returns it in eval mode.

    x uint8 [N, 28, 28], y int64 [N]: real images, None or empty for synthetic images only. synthetic:
    (images, labels) of the same kinds; `share` of each batch is taken from it. `first`: during this part of
    the steps, at the start, batches are synthetic only (pre-training). balanced: every class equally often
    (over-sampling); `share` then holds within the classes that have synthetic images. class_weights: float
    [n_classes], of the loss. augment: "none" or "classical", a fresh affine and elastic warp (augment.warp)
    of every image, real or not, at every step; `affine` scales its usual ranges, `elastic` is the strength
    of the rest. With `pen` they are written with pens up to so many pixels wider or thinner on either side, too
    (augment.redraw), with `noise` noise is added (augment.add_noise); with a `deformer` (models.Deformer) the share `hands` of a
    batch as other hands write. mixup: a of Beta(a, a), from which the weight of a batch's pairs of images is drawn (Zhang
    et al. 2018), 0: none. AdamW, warm-up, then a cosine to zero.

    Whatever is random follows from the seed; the global random state is left as it was. Raises UserError
    where there is no image, or for another `augment`."""
    device = torch.device(device)
    if augment not in ("none", "classical"):
        raise UserError(f"augment {augment!r}: choose none or classical")
    if (pen or noise or deformer) and augment == "none":
        raise UserError("other pens, noise and other hands come with the classical distortions: set augment to classical")
    images, labels, origin = join_sets((x, y), synthetic)
    is_synthetic = origin == 1
    n_classes = n_classes or int(labels.max()) + 1
    if not is_synthetic.any():
        share, first = 0.0, 0.0
    elif is_synthetic.all():
        share = 1.0
    if class_weights is not None:
        class_weights = torch.as_tensor(class_weights, dtype=torch.float32, device=device)

    fields = to_fields(images.numpy()).to(device) if pen or deformer else None

    warp_rng, *rngs = (torch.Generator().manual_seed(seed * 4 + stream) for stream in range(4))
    next_real = shuffled_passes(torch.where(~is_synthetic)[0], rngs[0])
    next_synthetic = shuffled_passes(torch.where(is_synthetic)[0], rngs[1])
    next_balanced = class_balanced(labels, is_synthetic, share, rngs[2])
    mixup_rng = np.random.default_rng(seed)
    ranges = distortion(affine, elastic)
    images, bf16 = images.to(device), has_bf16(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), ThreadTuner() as tuner:
        torch.manual_seed(seed)
        network = models.SmallClassifier(n_classes).to(device, memory_format=torch.channels_last).train()
        if backbone:
            start_from(network, backbone)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02, fused=True)
        for step in range(steps):
            if balanced and step >= first * steps:
                chosen = next_balanced(batch)
            else:
                n = batch if step < first * steps else round(batch * share)
                chosen = torch.cat([part(k) for part, k in ((next_real, batch - n), (next_synthetic, n)) if k])
            inputs, targets = models.from_uint8(images[chosen.to(device)]), labels[chosen].to(device)
            if fields is not None:
                inputs = fields[chosen.to(device)].float()
                inputs = other_hands(deformer, inputs, hands, warp_rng) if deformer else inputs
                inputs = redraw(inputs, warp_rng, pen, **ranges)
            elif augment == "classical":
                inputs = warp(inputs, warp_rng, **ranges)
            inputs = add_noise(inputs, warp_rng, noise) if noise else inputs
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            mixed = [(1.0, targets)]
            if mixup:
                pairs, weight = mixup_rng.permutation(len(targets)), mixup_rng.beta(mixup, mixup)
                inputs = weight * inputs + (1 - weight) * inputs[pairs]
                mixed = [(weight, targets), (1 - weight, targets[pairs])]
            set_lr(optimizer, learning_rate(step, steps, lr, STUDY_WARM_UP))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(inputs)
                loss = sum(weight * F.cross_entropy(logits, target, class_weights, label_smoothing=label_smoothing)
                           for weight, target in mixed if weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tuner.tick()
    return network.eval().requires_grad_(False)


# ---- answers -------------------------------------------------------------------------------------

@torch.inference_mode()
def predict_logits(network, images, reduce=lambda logits: logits):
    """What a classifier in eval mode makes of uint8 images [N, 28, 28], in fp32: float32 [N, n_classes]; or of that what
    `reduce` keeps of each batch."""
    device = next(network.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(PREDICT_BATCH)
    answers = [reduce(network(models.from_uint8(part.to(device)))).cpu() for part in parts]
    return torch.cat(answers).numpy()


def predict_probabilities(network, images):
    """The same as probabilities, float32 [N, n_classes]."""
    return predict_logits(network, images, lambda logits: logits.softmax(1))


def predict(network, images):
    """The labels that a classifier in eval mode gives to uint8 images [N, 28, 28]: int64 [N]."""
    return predict_logits(network, images, lambda logits: logits.argmax(1))


def predict_with_confidence(network, images):
    """The same labels, and the probability of each according to the classifier: int64 [N], float64 [N]."""
    def best(logits):
        confidence, label = logits.softmax(1).max(1)
        return torch.stack([label.double(), confidence.double()], 1)
    labels, confidence = predict_logits(network, images, best).T
    return labels.astype(np.int64), confidence


def accuracy(network, images, labels):
    """Share of uint8 images [N, 28, 28] that a classifier in eval mode labels as int64 [N] says: a float."""
    return float(np.mean(predict(network, images) == labels))
