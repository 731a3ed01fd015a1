"""Pre-training of classifiers on characters that nobody writes, so that a few images of real ones are enough to learn to
read them.

    backbone = pretrain(BACKBONES["classifier"], draw, n_classes=5000, steps=3000, seed=0)
    start_from(network, load_backbone("classifier"))

With thousands of classes the network must learn what hands leave alone, which is much the same in all scripts. As it is
to tell characters apart that it has not seen, directions of the features count and not their length: the logits are
cosines between them and a prototype of each class (normalised softmax, Wang et al. 2017, arXiv:1704.06369).
"""
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import models
from training.augment import redraw, to_fields, warp
from training.trainer import has_bf16, learning_rate, set_lr

BACKBONES = {"classifier": models.BackboneConfig(), "classifier-tiny": models.BackboneConfig(width=8, last=40),
             "small-classifier": models.BackboneConfig(width=16, small=True)}        # the last is that of the studies
FOLDER = Path(__file__).parent.parent / "saved_models" / "backbones"
POOL_STEPS = 1000          # steps between two pools of fresh images
LEARNING_RATE, WARM_UP, BATCH = 1e-2, 100, 256
SCALE = 20.0               # of the cosines
LABEL_SMOOTHING = 0.05
ELASTIC = 15.0             # see augment.warp
VARIED = {"pen": 0.5, "elastic": 12.0}     # see augment.redraw


def pretrain(config, draw, n_classes, steps=3000, seed=0, batch=BATCH, say=None):
    """A models.Backbone trained to tell `n_classes` characters apart, in eval mode.

    draw(i) -> pool i of images to learn from: uint8 [N, 28, 28], labels int64 [N]; asked for every POOL_STEPS steps. Every
    image is warped anew at each step. say(text, done, total): progress. The global random state is left as it was."""
    rng, bf16 = torch.Generator().manual_seed(seed), has_bf16(torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = models.Backbone(config).to(memory_format=torch.channels_last).train()
        for layer in backbone.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0                      # there is more to learn than it can hold
        centre = nn.BatchNorm1d(backbone.n_features, affine=False)       # as they are not negative, all point much alike
        prototypes = nn.Linear(backbone.n_features, n_classes, bias=False)
        optimizer = torch.optim.AdamW([*backbone.parameters(), *prototypes.parameters()], weight_decay=0.02, fused=True)
        right = 0.0
        for step in range(steps):
            if step % POOL_STEPS == 0:
                images, labels = map(torch.from_numpy, draw(step // POOL_STEPS))
            chosen = torch.randint(len(labels), (batch,), generator=rng)
            inputs = warp(models.from_uint8(images[chosen]), rng, elastic=ELASTIC)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                features = backbone(inputs.contiguous(memory_format=torch.channels_last))
            logits = SCALE * F.normalize(centre(features.float())) @ F.normalize(prototypes.weight).T
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=LABEL_SMOOTHING)
            set_lr(optimizer, learning_rate(step, steps, LEARNING_RATE, WARM_UP))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += float((logits.argmax(1) == labels[chosen]).float().mean()) / 100
            if step % 100 == 99:
                if say:
                    say(f"{100 * right:.1f} % of {n_classes:,} classes right, loss {float(loss.detach()):.2f}", step + 1, steps)
                right = 0.0
    return backbone.eval().requires_grad_(False)


@torch.no_grad()
def note_variation(backbone, images, labels, seed=0):
    """Set backbone.within, the covariance of its features within a class: of images uint8 [N, 28, 28] with labels int64 [N]
    of characters that it has not learned, which vary more, each written with another pen and warped."""
    rng, y = torch.Generator().manual_seed(seed), torch.from_numpy(labels)
    features = torch.cat([backbone(redraw(to_fields(part).float(), rng, **VARIED)) for part in np.array_split(images, 50)])
    count = torch.bincount(y)[:, None].clamp(min=1)
    apart = features - (torch.zeros(len(count), features.shape[1]).index_add_(0, y, features) / count)[y]
    backbone.within.copy_(apart.T @ apart / len(apart))


def backbone_file(name):
    """Where the backbone for this classifier, a key of BACKBONES, lies where there is one."""
    return FOLDER / f"{name}.pth"


def load_backbone(name):
    """The backbone that comes along for this classifier, a key of BACKBONES. Raises UserError where there is none."""
    return models.load(backbone_file(name), "backbone").model


def start_from(network, backbone):
    """Give a classifier the weights of a backbone of the same layers, below its head."""
    network.net.load_state_dict(backbone.net.state_dict())
