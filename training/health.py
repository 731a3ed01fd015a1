"""Whether the training of a generator goes wrong without a loss that is no number: a discriminator that wins outright,
losses that blow up, samples of a class that are all alike, labels that have no say.

Looked at every CHECK_STEPS steps; what is found twice running is said once, and stands in the run's record. The limits
lie far from what healthy runs showed on MNIST, Arabic digits, 49 kanji and strokes, from the first check on and with
ten images a class (docs/notes.md has the figures).
"""
import math

import numpy as np

import data
from generate_digits import draw_noise
from utils import figures

CHECK_STEPS = 200
SAMPLES, CLASSES, PER_CLASS = 200, 50, 16      # samples of a check, at least; of so many classes at most; of each at least
REAL = 100                     # training images of a class that they are compared with, at most
WON = 0.2                      # the discriminator's loss; at balance 2 log 2 = 1.39, healthy: 0.9 and more
BLOWN_UP = 10.0                # either side's loss; healthy: below 2.5
ALIKE = 0.15                   # variance of a pixel within a class, over that of real images; healthy: 0.36 and more
UNHEEDED = 0.25                # how far samples keep to their labels (0: by chance, 1: as real images); healthy: 0.5 and more


class Health:
    """Watches a Run of a generator; its findings are sentences in run.warnings."""

    def __init__(self, run):
        self.run, g = run, run.glyphs
        present = np.unique(g.y_train)
        self.classes = present[figures.evenly_spaced(len(present), CLASSES)]
        per_class = max(PER_CLASS, math.ceil(SAMPLES / len(self.classes)))
        self.labels = np.repeat(self.classes, per_class)
        thickness = (np.arange(per_class, dtype=np.float32) + 0.5) / per_class
        self.thickness = np.tile(thickness, len(self.classes))
        self.noise, _ = draw_noise(0, 0, len(self.labels), run.sampler().latent)
        few = (data.rank_in_class(g.y_train, 0) < REAL) & np.isin(g.y_train, self.classes)
        real, labels = g.x_train[few].astype(np.float32).reshape(-1, 28 * 28), g.y_train[few]
        self.means = np.stack([real[labels == k].mean(0) for k in self.classes])
        self.real_variance, self.real_fidelity = variance_in_class(real, labels), self.fidelity(real, labels)
        self.totals, self.suspected = {}, set()          # name of a loss -> its sum, over so many steps

    def watch(self, losses):
        """Take in the losses of a step; returns the new findings, mostly none, as [text]."""
        for name in losses.keys() & {"D", "G"}:
            total, steps = self.totals.get(name, (0.0, 0))
            self.totals[name] = total + losses[name], steps + 1
        if self.run.step % CHECK_STEPS:
            return []
        means = {name: float(total) / steps for name, (total, steps) in self.totals.items()}
        findings = {**check_losses(means), **self.check_samples()}
        new = [f"{text} (step {self.run.step:,})" for kind, text in findings.items()
               if kind in self.suspected and not any(text.split(":")[0] in old for old in self.run.warnings)]
        self.run.warnings += new
        self.totals, self.suspected = {}, set(findings)
        return new

    def check_samples(self):
        """{kind: sentence} of what is wrong with samples of the averaged generator."""
        images = self.run.sampler()(self.noise, self.labels, self.thickness).astype(np.float32).reshape(-1, 28 * 28)
        findings = {}
        if self.real_variance > 1:
            share = variance_in_class(images, self.labels) / self.real_variance
            if share < ALIKE:
                findings["alike"] = (f"samples of a class are nearly alike: a pixel varies {share:.0%} as much as in training "
                                     "images; the generator has collapsed, try a lower --lr or another --seed")
        if self.real_fidelity > 0.2:
            share = self.fidelity(images, self.labels) / self.real_fidelity
            if share < UNHEEDED:
                findings["unheeded"] = (f"samples do not keep to their labels: {max(0.0, share):.0%} as often as training "
                                        "images; are the labels right? else try a higher --label-weight or a lower --lr")
        return findings

    def fidelity(self, images, labels):
        """Share of images whose nearest class mean is that of their label, on a scale from chance, 0, to all, 1."""
        distances = (self.means ** 2).sum(1) - 2 * images @ self.means.T
        chance = 1 / len(self.classes)
        return (float(np.mean(self.classes[distances.argmin(1)] == labels)) - chance) / max(1 - chance, 1e-9)


def variance_in_class(images, labels):
    """Variance of a pixel within a class, without bias, mean over pixels and over the classes that have two images or more: a
    float, 0 where there are none. Images of 0 to 255, any numbers [N, ...], labels int64 [N]."""
    groups = [images[labels == k].astype(np.float32) for k in np.unique(labels)]
    return float(np.mean([group.var(0, ddof=1).mean() for group in groups if len(group) > 1] or [0.0]))


def check_losses(means):
    """{kind: sentence} of what the mean losses {"D": .., "G": ..} of some steps tell (none where there are none)."""
    if max(means.values(), default=0.0) > BLOWN_UP and means["D"] > WON:
        return {"blown up": f"the adversarial losses have blown up: D {means['D']:.3g}, G {means['G']:.3g}; try a lower --lr"}
    if means.get("D", math.inf) < WON:
        return {"won": f"the discriminator wins outright: its loss is {means['D']:.3f}, at balance 1.386; the generator learns "
                       "little from it, try a lower --lr or a higher --r1"}
    return {}
