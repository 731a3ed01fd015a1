"""What sample i of a generator file is, for any file, batch size and number of samples; numpy only, no torch.

    source = open_generator("saved_models/generator.onnx")
    for images, labels, thickness in sample(source, n=1000, seed=0): ...

Sample i depends on (generator file, seed, i) alone. Two things make that true to the last bit: the random numbers of
sample i are read at a fixed place of a counter-based stream (Philox; Salmon et al. 2011), and images are always made
in the same blocks of BLOCK consecutive samples, since a matrix product may round differently at another batch size.
"""
from pathlib import Path

import numpy as np

from files import UserError

BLOCK = 64


def random_words(seed, start, n, words):
    """uint64 [n, words]: the random words of samples start .. start + n - 1; `words` must be a multiple of 4."""
    stream = np.random.Philox(key=seed, counter=start * (words // 4))     # one counter step gives 4 words
    return stream.random_raw(n * words).reshape(n, words)


def draw(seed, start, n, latent):
    """Noise float32 [n, latent] ~ N(0, I) and u float64 [n] ~ U[0, 1), for the thickness, of n samples from `start` on.

    Normals by Box and Muller (1958), which uses a fixed number of words per sample, as rejection methods do not.
    """
    pairs = (latent + 1) // 2
    words = random_words(seed, start, n, -(-(2 * pairs + 1) // 4) * 4)
    uniform = (words >> np.uint64(11)) * 2.0 ** -53                       # [0, 1), 53 bits
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 1:pairs + 1]))
    angle = 2 * np.pi * uniform[:, pairs + 1:2 * pairs + 1]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(n, -1)[:, :latent]
    return noise.astype(np.float32), uniform[:, 0]


def conditions(u, start, digits, style="both", thickness=None):
    """Label int64 [n] and thickness float32 [n] of n samples from `start` on, given their u ~ U[0, 1).

    Labels cycle through `digits` (class indices). Thickness is `thickness` where that is a number, else uniform in
    [0, 0.5) for style "thin", in [0.5, 1) for "thick"; "both" takes them in turn, so that every class gets as many of
    each.
    """
    i = np.arange(start, start + len(u))
    place, turn = i % len(digits), i // len(digits)
    labels = np.asarray(digits, np.int64)[place]
    if thickness is not None:
        return labels, np.full(len(u), thickness, np.float32)
    thick = {"thin": 0, "thick": 1, "both": (place + turn) % 2}[style]
    # u < 1 in float64 can round up to 1 in float32: a thin sample must stay below one half
    t = np.minimum((u / 2).astype(np.float32), np.float32(0.49999997))
    return labels, np.where(thick, t + np.float32(0.5), t)


def sample(source, n, seed=0, digits=None, style="both", thickness=None):
    """Yield (images uint8 [b, 28, 28], labels int64 [b], thickness float32 [b]) in blocks b <= BLOCK, n samples in all.

    `source` is what open_generator() gives; `digits` a list of class indices, all classes if None.
    """
    digits = list(range(len(source.classes))) if digits is None else digits
    for start in range(0, n, BLOCK):
        noise, u = draw(seed, start, BLOCK, source.latent)
        labels, t = conditions(u, start, digits, style, thickness)
        keep = min(BLOCK, n - start)
        yield source(noise, labels, t)[:keep], labels[:keep], t[:keep]


def sample_all(source, n, **options):
    """sample() as three arrays: images uint8 [n, 28, 28], labels int64 [n], thickness float32 [n]."""
    return tuple(np.concatenate(part) for part in zip(*sample(source, n, **options)))


class OnnxGenerator:
    """A generator file in ONNX; called with noise, label, thickness it gives uint8 images."""

    def __init__(self, path):
        from onnx_io import open_session                                  # onnxruntime only where it is needed
        self.session, meta = open_session(path, "generator")
        self.classes, self.latent = meta["classes"], meta["latent_dim"]

    def __call__(self, noise, label, thickness):
        return self.session.run(["image"], {"noise": noise, "label": label, "thickness": thickness})[0]


class TorchGenerator:
    """A generator network of models.py; called with noise, label, thickness it gives uint8 images."""

    def __init__(self, model, classes):
        import torch
        from models import to_uint8
        self.torch, self.to_uint8 = torch, to_uint8
        self.model, self.classes, self.latent = model, classes, model.cfg.latent

    def __call__(self, noise, label, thickness):
        device = next(self.model.parameters()).device
        with self.torch.inference_mode():
            arrays = [self.torch.from_numpy(a).to(device) for a in (noise, label, thickness)]
            return self.to_uint8(self.model(*arrays)).cpu().numpy()


def open_generator(path):
    """The generator in `path`, a `.pth` or an `.onnx`. Raises UserError for any other or broken file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no generator at {path}: train one with `python train.py`, or give another --generator")
    if path.suffix == ".onnx":
        return OnnxGenerator(path)
    if path.suffix == ".pth":
        import models
        checkpoint = models.load(path, models.MAKES_IMAGES)
        return TorchGenerator(checkpoint.model, checkpoint.classes)
    raise UserError(f"{path} is neither .pth nor .onnx: give a generator file of train.py")
