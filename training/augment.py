"""Classical augmentation of batches, on tensors of any device.

    x = warp(images, torch.Generator().manual_seed(0))       # float [N, 1, H, W] in [0, 1] -> the same
"""
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

import models
from training.distributed import draw
from utils.distance_field import REACH, distance_field, look_up, render, with_pen

SIGMA = 4          # smoothness of an elastic field in pixels (Simard et al. 2003)


def shift(images, pixels, rng):
    """Move every image by its own whole number of pixels in [-pixels, pixels] on each axis; what leaves it
    is lost.

    images float [N, 1, H, W], background 0; rng: a CPU torch.Generator. Differentiable, so it serves as the
    translation of differentiable augmentation too (Zhao et al. 2020, arXiv:2006.10738)."""
    n, _, height, width = images.shape
    moves = draw(functools.partial(torch.randint, 2 * pixels + 1), (2, n), dim=1, generator=rng).to(images.device)
    rows = moves[0, :, None] + torch.arange(height, device=images.device)                # [N, H]
    columns = moves[1, :, None] + torch.arange(width, device=images.device)              # [N, W]
    padded = F.pad(images, [pixels] * 4)[:, 0]
    sample = torch.arange(n, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def distortion(affine=1.0, elastic=8.0):
    """Options of warp(): its usual ranges of affine distortion times `affine`, and the strength of the elastic one."""
    return {"degrees": 15 * affine, "scale": 0.15 * affine, "shear": 0.15 * affine, "elastic": elastic}


def warp(images, rng, degrees=15, scale=0.15, shear=0.15, pixels=2, elastic=8.0):
    """Distort every image in its own way, affinely and elastically, by one bilinear resampling.

    images float [N, 1, H, W] in [0, 1], background 0; returns float32 of the same shape and range. In this
    order, each drawn uniformly: a move within +-`pixels` along each axis, then about the centre a stretch of
    each axis within 1 +- `scale`, a rotation within +-`degrees`, a horizontal shear within +-`shear`.
    `elastic` is the alpha of Simard et al. 2003 at sigma 4: 8 moves a pixel by 0.33 pixels (root mean
    square, along each axis), 20 by 0.81, 0 not at all. What leaves the frame is lost; nothing is flipped.
    rng: a CPU torch.Generator; all that is drawn comes from it."""
    n, _, height, width = images.shape
    u = (2 * draw(torch.rand, (6, n), dim=1, generator=rng) - 1).to(images.device)
    turn, lean = u[0] * math.radians(degrees), u[1] * shear
    across, down = 1 / (1 + u[2] * scale), 1 / (1 + u[3] * scale)
    cos, sin = turn.cos(), turn.sin()
    # where in the old image each place of the new one looks, in pixels from the centre: [N, 3, 2]
    rows = torch.stack([torch.stack([cos * across, sin * down], 1),
                        torch.stack([(lean * cos - sin) * across, (lean * sin + cos) * down], 1),
                        u[4:6].T * pixels], 1)
    flow = elastic_field(n, height, width, elastic, rng).to(images.device) if elastic else 0.0
    return look_up(images, rows, flow, padding="zeros")


def to_fields(images):
    """uint8 [N, 28, 28] -> distance fields float16 [N, 1, 28, 28], for redraw(); in pieces, which bounds the memory."""
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(200)
    return torch.cat([distance_field(models.from_uint8(part)).half() for part in parts])


def redraw(fields, rng, pen=1.0, **distortion):
    """Distort glyphs given as distance fields, each in its own way, and write them with another pen: up to `pen` pixels
    added to or taken from either side of its strokes, uniformly.

    fields float [N, 1, H, W] (utils/distance_field.py); distortion: as of warp(), whose ranges hold here, too. Returns images
    float32 [N, 1, H, W] in [0, 1]. rng: a CPU torch.Generator; all that is drawn comes from it."""
    more = pen * (2 * draw(torch.rand, (len(fields),), generator=rng) - 1).to(fields.device)
    return render(with_pen(warp(fields + REACH, rng, **distortion) - REACH, more))


def add_noise(images, rng, noise):
    """Images float [N, 1, H, W] with a normal deviate added to every pixel, cut to [0, 1]; its standard deviation is drawn for each
    image, uniformly in [0, noise]. rng: a CPU torch.Generator; all that is drawn comes from it."""
    n = len(images)
    std = noise * draw(torch.rand, (n, 1, 1, 1), generator=rng).to(images.device)
    return (images + std * draw(torch.randn, (n, *images.shape[1:]), generator=rng).to(images.device)).clamp(0, 1)


@functools.cache
def bumps(size):
    """Gaussians of SIGMA around knots SIGMA pixels apart, 2 SIGMA beyond both ends; unit rows: float32
    [size, knots].

    White noise on the knots times these is smooth noise of variance 1 at every pixel: what smoothing white
    noise on all pixels gives, for a tenth of the numbers."""
    knots = torch.arange(-2 * SIGMA, size + 2 * SIGMA, SIGMA)
    return F.normalize(torch.exp(-(torch.arange(size)[:, None] - knots) ** 2 / (2 * SIGMA ** 2)), dim=1)


def elastic_field(n, height, width, alpha, rng):
    """Displacements in pixels, float32 [n, height, width, 2]: uniform noise in [-1, 1] smoothed by a
    Gaussian of SIGMA and unit sum, times alpha. That has the root mean square alpha / sqrt(3) / sqrt(4 pi
    SIGMA^2), which is set here."""
    rms = alpha / math.sqrt(12 * math.pi) / SIGMA
    by_row, by_column = bumps(height), bumps(width)
    noise = draw(torch.randn, (n, 2, by_row.shape[1], by_column.shape[1]), generator=rng)
    return (rms * by_row @ noise @ by_column.T).permute(0, 2, 3, 1)
