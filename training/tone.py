"""The grey levels of a trained generator's ink.

    network.set_tone(fit_tone(network, images, labels, thickness))

What scanners, and normalisation, call full ink differs: 253 in most of MNIST, 255 and nothing else where images are black and
white. A discriminator hardly sees such a difference, but every first layer does. So after training ink gets the levels that it
has in the training images, by a tone curve: histogram specification (Gonzalez and Woods, Digital Image Processing, chapter 3),
of levels from INK on alone. Of all levels it would move the edges of strokes, too, and so the width of the pen, which the dial
has to itself (docs/tried.md).
"""
import numpy as np
import torch

import models

INK, FULL = 160, 192       # grey levels: below the first the curve is the identity, from the second on it is all that was fitted
MOST = 4000                # images to compare


@torch.no_grad()
def fit_tone(network, images, labels, thickness):
    """The tone curve of a network, a models.Generator or CVAE in eval mode, without one so far, that gives its ink the grey levels
    of these training images uint8 [N, 28, 28] with labels int64 [N] and thickness float32 [N]: float32 [256] of [0, 1]."""
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(images), generator=rng)[:MOST].to(images.device)
    noise = torch.randn((len(chosen), network.cfg.latent), generator=rng).to(images.device)
    drawn = [models.to_uint8(network(noise[part], labels[chosen[part]], thickness[chosen[part]]))
             for part in torch.arange(len(chosen)).split(500)]
    counts = [torch.bincount(x.flatten(), minlength=256).cpu().numpy() for x in (torch.cat(drawn), images[chosen])]
    return torch.from_numpy(tone_curve(*counts) / 255).float()


def tone_curve(drawn, real):
    """The grey levels, ascending float64 [256], by which ink that was `drawn` gets the histogram of `real`; both count pixels by
    grey level, int [256]. A level becomes the mean of the real levels of its ranks; where either has no ink, itself."""
    levels, identity = np.arange(INK, 256), np.arange(256.0)
    drawn, real = drawn[INK:], real[INK:]
    if not drawn.any() or not real.any():
        return identity

    def from_zero(x):
        return np.append(0, np.cumsum(x))

    real = real / real.sum()
    ends = from_zero(drawn / drawn.sum())                                  # between which ranks a drawn level lies
    mass = np.interp(ends, from_zero(real), from_zero(real * levels))      # the sum of real levels below these ranks
    seen = drawn > 0
    fitted = np.interp(levels, levels[seen], np.diff(mass)[seen] / np.diff(ends)[seen])
    share = ((levels - INK) / (FULL - INK)).clip(max=1)
    curve = levels + share * (fitted - levels)
    return np.concatenate([identity[:INK], np.maximum.accumulate(curve).clip(max=255)])
