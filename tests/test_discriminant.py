"""The head in closed form: what it decides by, that it sees sums alone, and what it reads by one image of each class."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import models
from datasets import strokes
from training import distributed
from training.classifier import ClassifierSettings, ClassifierTrainer, predict
from training.discriminant import SHRINK, Discriminant, discriminant_classifier
from training.pretraining import load_backbone
from training.trainer import Batch

CLASSES = 6


def a_backbone():
    torch.manual_seed(3)
    backbone = models.Backbone(models.BackboneConfig(width=4, small=True)).eval()
    spread = torch.randn(16, 16)
    backbone.within.copy_(spread @ spread.T / 16)
    return backbone


def few_images(n=60):
    x, y = strokes.generate(n, seed=1, kind="random-6", labels=np.arange(n) % CLASSES)
    return models.from_uint8(torch.from_numpy(x)), torch.from_numpy(y)


def fitted(parts, n_classes=CLASSES):
    discriminant = Discriminant(models.SmallClassifier(n_classes, 4), a_backbone())
    for x, y in parts:
        discriminant.add(x, y)
    return discriminant


def test_it_decides_by_the_angle_between_whitened_features_and_class_means():
    x, y = few_images()
    network = fitted([(x, y)]).network
    f = network.features(x).detach().double()
    means = torch.stack([f[y == k].mean(0) for k in range(CLASSES)])
    covariance = (a_backbone().within.double() + (f - means[y]).T @ (f - means[y]) / len(f)) / 2
    covariance += SHRINK * covariance.diagonal().mean() * torch.eye(16)
    values, vectors = torch.linalg.eigh(covariance)
    h, p = (v @ vectors / values.sqrt() for v in (f, means))            # another root of the inverse: turned, which changes no angle
    cosine = F.normalize(h - p.mean(0)) @ F.normalize(p - p.mean(0)).T
    ratio = network(x).double() / cosine
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)         # but for a length of each image
    assert (ratio > 0).all()


def test_images_may_come_in_any_parts():
    x, y = few_images()
    whole, parts = fitted([(x, y)]), fitted(zip(x.split(7), y.split(7)))
    torch.testing.assert_close(whole.network.head.weight, parts.network.head.weight, rtol=1e-4, atol=1e-5)
    assert torch.equal(whole.network.net[0].weight, a_backbone().net[0].weight)


def test_the_images_of_other_processes_count_as_much_as_its_own(monkeypatch):
    """As if a second process saw nothing, so that the average is half of this one's sums."""
    x, y = few_images(12)
    alone = fitted([(x, y)])
    monkeypatch.setattr(distributed, "size", 2)
    monkeypatch.setattr(distributed, "average", lambda tensors: [tensor.div_(2) for tensor in tensors])
    both = fitted([(x, y)])
    assert torch.equal(both.count, alone.count)
    torch.testing.assert_close(both.network.head.weight, alone.network.head.weight)


def test_a_class_without_images_is_never_the_answer():
    x, y = few_images()
    network = fitted([(x, y)], n_classes=CLASSES + 2).network
    assert network(x).isfinite().all() and network(x).argmax(1).max() < CLASSES


def test_by_one_image_of_each_it_reads_characters_that_nobody_has_learned():
    """More of them than by features of random weights, twice as many at least."""
    kind, labels = "random-50-77", np.tile(np.arange(50), 10)
    x = strokes.generate(50, seed=1, kind=kind, labels=np.arange(50))[0]
    images = strokes.generate(500, seed=2, kind=kind, labels=labels)[0]
    backbone, shares = load_backbone("small-classifier"), []
    torch.manual_seed(0)
    for of in (backbone, models.Backbone(backbone.cfg).eval()):
        network = discriminant_classifier(x, np.arange(50), of, views=1000, elastic=20.0)
        shares.append(np.mean(predict(network, images) == labels))
    assert shares[0] > 0.9 and shares[1] < shares[0] / 2


@pytest.mark.parametrize("tuned", [False, True])
def test_a_trainer_keeps_the_features_and_may_train_a_network_beside_them(tuned):
    x, y = few_images()
    trainer = ClassifierTrainer(ClassifierSettings(pretrained=True, tuned=tuned, warp=0.0), CLASSES, "cpu")
    for step in range(3):
        for optimizer, loss, _ in trainer.losses(Batch(x, y, torch.zeros(len(y)), step, 0.0, torch.Generator())):
            assert (optimizer is not None) == tuned
            if tuned:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    trainer.finish(None, None, None)
    fixed, shipped = trainer.discriminant.network, load_backbone("classifier")
    assert all(torch.equal(v, shipped.net.state_dict()[k]) for k, v in fixed.net.state_dict().items())
    changed = not torch.equal(trainer.classifier.net[0].weight, shipped.net[0].weight)
    expected = fixed(x) + trainer.classifier.eval()(x) if tuned else fixed(x)
    assert changed == tuned and trainer.rounded.cfg.groups == 1 + tuned
    torch.testing.assert_close(trainer.rounded(x), expected.detach(), rtol=0.02, atol=0.05)         # its weights are rounded
