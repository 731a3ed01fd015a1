"""Learning how hands vary: the training of models.Deformer on scripts of which there are many images, for use on others.

    deformer = train_deformer([(images, labels), ...], steps=6000, seed=0)
    fields = other_hands(deformer, fields, 0.5, rng)           # half of these glyphs as others write them

A variational autoencoder of changes: the encoder sees two images of one class, the decoder must turn the one, the
support, into the other with what the code says. Width of pen is told to both, so that the code holds the hand alone.
"""
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import models
from training import distributed
from training.augment import to_fields
from training.gan import ema_copy, update_ema
from training.trainer import learning_rate, set_lr
from training.vae import KL_WARM_UP, kl_divergence
from utils.distance_field import SHARPNESS, pen_width, render, with_pen

DEFAULT_DEFORMER = Path(__file__).parent.parent / "saved_models" / "deformer.pth"
NEAR, AMONG = 60, 400      # a target is one of so many images most like the support, of so many of its class: another way of
                           # writing the character is not to be had by bending this one
ROUGHNESS = 0.1            # nats for a squared difference of one pixel between the flow at neighbouring knots
LEARNING_RATE, WARM_UP, BATCH, EMA = 1e-3, 100, 128, 0.999


def class_mates(images, labels, rng):
    """For every image the indices of NEAR others of its class that are most like it, among AMONG random ones, by means of 2
    x 2 pixels: int64 [N, NEAR], repeated where a class has fewer. uint8 [N, 28, 28], int64 [N], no class of one image."""
    small = F.avg_pool2d(torch.from_numpy(images).unsqueeze(1).float(), 2).flatten(1)
    mates = torch.zeros(len(images), NEAR, dtype=torch.int64)
    for members in np.split(np.argsort(labels, kind="stable"), np.flatnonzero(np.diff(np.sort(labels))) + 1):
        members = torch.from_numpy(members)
        for block in members.split(1000):
            among = members[torch.randperm(len(members), generator=rng)[:AMONG]]
            distance = torch.cdist(small[block], small[among])
            distance[block[:, None] == among] = math.inf
            nearest = distance.topk(min(NEAR, len(among) - 1), largest=False).indices
            mates[block] = among[nearest[:, torch.arange(NEAR) % nearest.shape[1]]]
    return mates


def roughness(flow):
    """Sum of squared differences between neighbouring knots of a flow float [N, 2, 7, 7], in pixels: float [N]."""
    down, across = flow.diff(dim=2), flow.diff(dim=3)
    return down.square().sum((1, 2, 3)) + across.square().sum((1, 2, 3))


def deformation_loss(deformer, support, target, target_image, more, noise, kl_weight):
    """(loss, its parts to log) of a batch: the negative evidence lower bound in nats an image, and the flow's roughness.

    support, target: fields float [B, 1, 28, 28]; target_image in [0, 1]; more: pixels that the target's pen is wider on
    either side, float [B]; noise: float [B, latent], standard normal."""
    mean, log_var = deformer.encoder(support, target)
    flow, affine = deformer.change(support, mean + noise * (log_var / 2).exp())
    drawn = SHARPNESS * with_pen(deformer.look_up(support, flow, affine), more)
    pixels = F.binary_cross_entropy_with_logits(drawn, target_image, reduction="sum") / len(support)
    kl, rough = kl_divergence(mean, log_var).mean(), roughness(flow).mean()
    parts = {"pixels": pixels.detach(), "KL": kl.detach(), "roughness": rough.detach()}
    return pixels + kl_weight * kl + ROUGHNESS * rough, parts


def train_deformer(sets, steps=6000, seed=0, batch=BATCH, say=None):
    """A models.Deformer trained on the images of `sets`, [(uint8 [N, 28, 28], int64 [N] labels), ...], `batch` pairs a step,
    in eval mode. Classes are seen as often as the square root of their size. say(text, done, total): progress."""
    images = np.concatenate([x for x, _ in sets])
    offsets = np.cumsum([0, *(int(y.max()) + 1 for _, y in sets)])
    labels = np.concatenate([y + offset for (_, y), offset in zip(sets, offsets)])
    kept = np.bincount(labels)[labels] > 1
    images, labels = images[kept], labels[kept]
    rng = torch.Generator().manual_seed(seed)
    fields, mates = to_fields(images), class_mates(images, labels, rng)
    widths = torch.cat([pen_width(render(part.float())) for part in fields.split(2000)])
    pixels = torch.from_numpy(images)
    weights = torch.from_numpy(np.bincount(labels)[labels] ** -0.5)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        deformer = models.Deformer(models.DeformerConfig())
    ema = ema_copy(deformer)
    optimizer = torch.optim.Adam(deformer.parameters(), betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        support = torch.multinomial(weights, batch, replacement=True, generator=rng)
        target = mates[support, torch.randint(0, NEAR, (batch,), generator=rng)]
        noise = torch.randn(batch, deformer.cfg.latent, generator=rng)
        set_lr(optimizer, learning_rate(step, steps, LEARNING_RATE, WARM_UP, 0.02))
        loss, parts = deformation_loss(deformer, fields[support].float(), fields[target].float(),
                                       models.from_uint8(pixels[target]), (widths[target] - widths[support]) / 2, noise,
                                       min(1.0, step / steps / KL_WARM_UP))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_ema(ema, deformer, EMA, step)
        if say and step % 100 == 99:
            say("  ".join(f"{name} {float(value):.1f}" for name, value in parts.items()), step + 1, steps)
    return ema


def load_deformer(path=DEFAULT_DEFORMER):
    """The Checkpoint of a deformer. Raises UserError for any other file."""
    return models.load(path, "deformer")


def other_hands(deformer, fields, share, rng):
    """Distance fields float [N, 1, 28, 28] of glyphs, the first `share` of them as other hands write them, the pen as it
    comes: the same shape. rng: a CPU torch.Generator. (Of several processes' batch it is the first of all their glyphs.)"""
    own, before = len(fields), distributed.rank * len(fields)
    noise = torch.randn(round(share * own * distributed.size), deformer.cfg.latent, generator=rng)[before:before + own]
    if not len(noise):
        return fields
    with torch.no_grad():
        return torch.cat([deformer.bend(fields[:len(noise)], noise.to(fields.device)), fields[len(noise):]])
