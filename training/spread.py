"""How far from the middle of its classes a trained generator draws.

    network.cfg.spread = fit_spread(network, images, labels, thickness)

Where noise is truncated, samples get better and more alike (Brock et al. 2019, arXiv:1809.11096). Adversarial training on few or
simple images errs on that side by itself: samples are more often like a real image than real images are, and cover them less well.
So the noise is multiplied by a little more than 1, by what brings the samples' FID nearest to the training images, in features of
characters that nobody writes (pretraining.py), which know none of these.
"""
import torch

import models
from metrics.frechet_distance import fid, moments
from training.pretraining import backbone_file, load_backbone

JUDGE = "classifier-tiny"          # whose backbone makes the features
STEP, LARGEST = 0.025, 1.2
WORTH_IT = 0.98                    # of the distance before, at most, for one more step
FEWEST, MOST = 2000, 4000          # training images to compare with


@torch.no_grad()
def fit_spread(network, images, labels, thickness):
    """By what to multiply the noise of a network, a models.Generator or CVAE in eval mode, so that its samples are nearest to
    these training images uint8 [N, 28, 28] with labels int64 [N] and thickness float32 [N]: from 1 on in steps as long as the
    distance falls by what is WORTH_IT. 1 where there are fewer than FEWEST images, or no backbone."""
    if len(images) < FEWEST or not backbone_file(JUDGE).is_file():
        return 1.0
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(images), generator=rng)[:MOST].to(images.device)
    noise = torch.randn((len(chosen), network.cfg.latent), generator=rng).to(images.device)
    backbone = load_backbone(JUDGE).to(images.device)

    def measure(draw):
        return moments(torch.cat([backbone(draw(part)) for part in torch.arange(len(chosen)).split(500)]).cpu().numpy())

    def samples(part):
        at = chosen[part]
        return network(noise[part], labels[at], thickness[at])

    def distance(spread):
        network.cfg.spread = spread
        return fid(real, measure(samples))

    before, spread = network.cfg.spread, 1.0
    real = measure(lambda part: models.from_uint8(images[chosen[part]]))
    last = distance(spread)
    while spread < LARGEST and (now := distance(spread + STEP)) < WORTH_IT * last:
        spread, last = spread + STEP, now
    network.cfg.spread = before
    return round(spread, 3)
