"""How far from the middle of its classes a trained generator draws.

    network.scale_noise(fit_spread(network, images, labels, thickness))

Noise is often truncated: samples get better and more alike (Brock et al. 2019, arXiv:1809.11096). A trained generator may err on
that side by itself, and cover real images less well than it could. So its noise is multiplied by a little more than 1, as long as
that brings the samples' FID nearer to the training images, in features of characters that nobody writes (pretraining.py), which
know none of these.
"""
import copy
import math

import numpy as np
import torch

import models
from metrics.frechet_distance import fid, moments
from training.pretraining import load_backbone
from utils.files import UserError

FEATURES = "classifier-tiny"       # whose backbone makes the features
STEP, STEPS = 0.025, 8
WORTH_IT = 0.98                    # of the distance before, at most, for one more step
FEWEST, MOST = 2000, 4000          # training images to compare with


@torch.no_grad()
def fit_spread(network, images, labels, thickness):
    """By what to scale the noise of a network, a models.Generator or CVAE in eval mode, so that its samples are nearest to
    these training images uint8 [N, 28, 28] with labels int64 [N] and thickness float32 [N]: 1 and more, in steps as long as
    the distance falls by what is WORTH_IT. 1 where there are fewer than FEWEST images, or no backbone."""
    try:
        backbone = load_backbone(FEATURES).to(images.device)
    except UserError:                  # a long training should not end for want of it
        return 1.0
    if len(images) < FEWEST:
        return 1.0
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(images), generator=rng)[:MOST].to(images.device)
    noise = torch.randn((len(chosen), network.cfg.latent), generator=rng).to(images.device)

    def features(draw):
        return torch.cat([backbone(draw(part)) for part in torch.arange(len(chosen)).split(500)]).cpu().numpy()

    def distance(spread):
        scaled = copy.deepcopy(network)
        scaled.scale_noise(spread)
        made = features(lambda part: scaled(noise[part], labels[chosen[part]], thickness[chosen[part]]))
        return fid(real, moments(made)) if np.isfinite(made).all() else math.inf          # of weights that are no numbers

    real = moments(features(lambda part: models.from_uint8(images[chosen[part]])))
    spread, last = 1.0, distance(1.0)
    for step in range(1, STEPS + 1):
        now = distance(1 + step * STEP)
        if not now < WORTH_IT * last:
            break
        spread, last = 1 + step * STEP, now
    return round(spread, 3)
