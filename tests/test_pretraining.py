"""Pre-training on characters that nobody writes: that it learns to tell them apart, its file, what starts from it, and what the
backbones that come along know of characters that they have not seen."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import export_onnx
import models
from datasets import strokes
from training.classifier import train_classifier
from training.pretraining import BACKBONES, FOLDER, backbone_file, load_backbone, note_variation, pretrain, start_from
from utils.files import UserError

SMALL = models.BackboneConfig(width=4, small=True)


def draw(pool, classes=4):
    labels = np.tile(np.arange(classes), 50)
    return strokes.generate(len(labels), seed=pool, kind=f"random-{classes}", labels=labels)


def read_by_one_image(backbone, kind, classes):
    """Share of ten images of each class that lie nearest, by the angle at the mean, to the one image of their class."""
    support = strokes.generate(classes, seed=1, kind=kind, labels=np.arange(classes))[0]
    images, labels = strokes.generate(10 * classes, seed=2, kind=kind, labels=np.tile(np.arange(classes), 10))
    with torch.inference_mode():
        prototypes, features = (backbone(models.from_uint8(torch.from_numpy(x))) for x in (support, images))
        centre = prototypes.mean(0)
        prototypes, features = F.normalize(prototypes - centre), F.normalize(features - centre)
    return np.mean((features @ prototypes.T).argmax(1).numpy() == labels)


def test_it_learns_and_repeats_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    before, said = torch.random.get_rng_state(), []
    a, b = (pretrain(SMALL, draw, 4, steps=200, seed=3, batch=16, say=lambda *words: said.append(words)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    shares = [float(text.split()[0]) for text, _, _ in said[:2]]
    assert [words[1:] for words in said[:2]] == [(100, 200), (200, 200)] and 25 < shares[0] < shares[1] <= 100
    assert not a.training and not any(p.requires_grad for p in a.parameters())


def test_pools_are_drawn_one_after_the_other(monkeypatch):
    monkeypatch.setattr("training.pretraining.POOL_STEPS", 2)
    drawn = []
    pretrain(SMALL, lambda pool: drawn.append(pool) or draw(pool), 4, steps=5, batch=4)
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("config", [SMALL, models.BackboneConfig(width=4, last=12)])
def test_its_file_and_a_classifier_that_starts_from_it(config, tmp_path):
    torch.manual_seed(1)
    path, backbone = tmp_path / "b.pth", models.Backbone(config).eval()
    models.save(path, models.Checkpoint("backbone", backbone, ["random-4"], np.zeros((1, 0))))
    loaded, images = models.load(path, "backbone").model, torch.rand(3, 1, 28, 28)
    network = models.SmallClassifier(7, 4) if config.small else models.Classifier(models.ClassifierConfig(7, 4, 12))
    start_from(network, loaded)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval().features(images), backbone(images))
    assert backbone(images).shape == (3, network.head.in_features)
    with pytest.raises(UserError, match="holds a backbone"):
        models.load(path, "classifier")
    with pytest.raises(UserError, match="no use outside training"):
        export_onnx.export(models.load(path), tmp_path / "b.onnx")


def test_no_training_is_needed_to_start_from_it():
    """After no step at all the network of a study is the backbone below its head."""
    backbone, (x, y) = load_backbone("small-classifier"), draw(0)
    network = train_classifier(x, y, steps=0, backbone=backbone)
    fresh = train_classifier(x, y, steps=0)
    assert all(torch.equal(v, backbone.net.state_dict()[k]) for k, v in network.net.state_dict().items())
    assert torch.equal(network.head.weight, fresh.head.weight)              # of the seed


@pytest.mark.parametrize("name, least", [("classifier", 0.9), ("classifier-tiny", 0.8), ("small-classifier", 0.85)])
def test_those_that_come_along_read_characters_that_they_have_not_seen(name, least):
    """Of another random script, by one image of each of 50: 2 % are right by chance."""
    backbone = load_backbone(name)
    assert backbone.cfg == BACKBONES[name]
    assert read_by_one_image(backbone, "random-50-77", 50) > least
    torch.manual_seed(0)
    assert read_by_one_image(models.Backbone(backbone.cfg).eval(), "random-50-77", 50) < least - 0.2


def test_backbones_are_small_and_have_seen_no_real_character():
    for name in BACKBONES:
        assert backbone_file(name).stat().st_size < 3_000_000
        assert list(models.load(backbone_file(name)).info["sources"]) == ["random-5000"]
    assert {p.stem for p in FOLDER.iterdir()} == set(BACKBONES)


def test_variation_within_a_class_is_that_about_its_mean():
    """What differs between classes has no part in it, and no feature varies where the backbone sees none."""
    torch.manual_seed(0)
    backbone = models.Backbone(SMALL).eval()
    note_variation(backbone, *draw(0))
    half = backbone.within.clone()
    assert torch.allclose(half, half.T, atol=1e-6) and torch.linalg.eigvalsh(half).min() > -1e-5 and half.diagonal().max() > 0
    images, labels = draw(0)
    note_variation(backbone, images, np.arange(len(labels)))            # each image a class of its own
    assert backbone.within.abs().max() < 1e-6
