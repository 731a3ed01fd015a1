"""What one training step does for a classifier; the same protocol as the generators' in objectives.py."""
import copy

import torch
import torch.nn.functional as F
from torch import nn

import models
from augment import shift, warp
from steps import autocast, set_rate


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
