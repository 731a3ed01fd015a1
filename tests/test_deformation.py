"""The deformer: what it learns from, that it begins with no change and learns some, its file, and what it does to a batch."""
import numpy as np
import pytest
import torch

import export_onnx
import models
from datasets import strokes
from training import distributed
from training.augment import to_fields
from training.deformation import (
    DEFAULT_DEFORMER,
    NEAR,
    class_mates,
    deformation_loss,
    other_hands,
    roughness,
    train_deformer,
)
from utils.distance_field import pen_width, render
from utils.files import UserError


@pytest.fixture(scope="module")
def script():
    """Of classes with enough images for NEAR mates."""
    return strokes.generate(240, seed=2, kind="random-3")


@pytest.fixture(scope="module")
def deformer():
    """The one that comes with the repository."""
    return models.load(DEFAULT_DEFORMER, "deformer").model


def fresh():
    torch.manual_seed(0)
    return models.Deformer(models.DeformerConfig())


def test_training_begins_with_no_change(script):
    fields = to_fields(script[0][:20]).float()
    torch.testing.assert_close(fresh().bend(fields, torch.randn(20, 16)), fields, atol=1e-4, rtol=0)


def test_class_mates_are_the_most_alike_of_ones_class(script):
    images, labels = script
    mates = class_mates(images, labels, torch.Generator().manual_seed(0))
    assert mates.shape == (240, NEAR) and (labels[mates] == labels[:, None]).all()
    assert (mates != torch.arange(240)[:, None]).all()
    small = images.reshape(240, 14, 2, 14, 2).mean((2, 4)).reshape(240, -1)
    i, others = 17, np.flatnonzero((labels == labels[17]) & (np.arange(240) != 17))
    by_distance = others[np.argsort(np.linalg.norm(small[others] - small[i], axis=1))]
    assert set(mates[i].tolist()) == set(by_distance[:NEAR].tolist())


def test_small_classes_repeat_their_mates():
    images, labels = strokes.generate(6, seed=1, labels=np.array([3, 3, 3, 5, 5, 5]))
    mates = class_mates(images, labels, torch.Generator().manual_seed(0))
    assert set(mates[0].tolist()) == {1, 2} and set(mates[4].tolist()) == {3, 5}


def test_roughness_of_a_ramp():
    """Six differences of one pixel in each of seven columns of one of the two directions."""
    ramp = torch.zeros(1, 2, 7, 7)
    ramp[0, 0] = torch.arange(7.0)[:, None]
    assert roughness(ramp).tolist() == [42.0]


def loss(deformer, script, seed=0):
    images, labels = script
    fields, rng = to_fields(images).float(), torch.Generator().manual_seed(seed)
    target = class_mates(images, labels, rng)[:, 0]
    widths = pen_width(render(fields))
    return deformation_loss(deformer, fields, fields[target], models.from_uint8(torch.from_numpy(images))[target],
                            (widths[target] - widths) / 2, torch.randn(len(fields), 16, generator=rng), 1.0)


def test_the_shipped_one_knows_what_hands_do(deformer):
    other = strokes.generate(120, seed=8, kind="random-3-1")               # characters that it has not seen
    with torch.no_grad():
        before, after = (float(loss(network, other)[1]["pixels"]) for network in (fresh(), deformer))
    assert after < 0.9 * before


def test_every_weight_gets_a_gradient(script):
    network = fresh()
    for layer in (network.flow, network.affine):                           # zero at first: nothing behind them learns
        torch.nn.init.normal_(layer.weight, std=0.1)
    loss(network, script)[0].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_the_width_that_is_asked_for_is_drawn(deformer):
    support = models.from_uint8(torch.from_numpy(strokes.generate(40, seed=4)[0]))
    with torch.no_grad():
        drawn = [pen_width(deformer(support, torch.zeros(40, 16), torch.full((40,), w))).mean() for w in (2.0, 3.0, 4.0)]
    np.testing.assert_allclose(np.diff(drawn), 1, atol=0.2)
    assert 2 < float(drawn[0]) < 2.7               # a bent stroke is a little wider


def test_a_share_of_the_batch_is_written_by_other_hands(deformer, script):
    fields = to_fields(script[0][:10]).float()
    changed, again = (other_hands(deformer, fields, 0.3, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(changed, again) and torch.equal(changed[3:], fields[3:])
    assert all((changed[i] - fields[i]).abs().max() > 0.1 for i in range(3))


def test_two_processes_write_what_one_does(deformer, script, monkeypatch):
    """Each has its part of the batch, of which the first three are written by other hands."""
    fields = to_fields(script[0][:10]).float()
    whole, parts = other_hands(deformer, fields, 0.3, torch.Generator().manual_seed(3)), []
    monkeypatch.setattr(distributed, "size", 5)
    for rank in range(5):
        monkeypatch.setattr(distributed, "rank", rank)
        parts.append(other_hands(deformer, fields[2 * rank:2 * rank + 2], 0.3, torch.Generator().manual_seed(3)))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_training_repeats_and_changes_every_part(script):
    few = [(script[0][:60], script[1][:60])] * 2
    a, b = (train_deformer(few, steps=2, seed=4, batch=8).state_dict() for _ in range(2))
    changed = train_deformer(few, steps=5, seed=4, batch=8).state_dict()
    assert all(torch.equal(a[name], b[name]) and not torch.equal(a[name], changed[name]) for name in a)


def test_file(tmp_path):
    info = {"license": "MIT", "sources": {"random-6": "1a"}}
    models.save(tmp_path / "d.pth", models.Checkpoint("deformer", fresh(), ["random-6"], np.zeros((1, 0)), info))
    checkpoint = models.load(tmp_path / "d.pth", "deformer")
    assert checkpoint.classes == ["random-6"] and checkpoint.info["sources"] == {"random-6": "1a"}
    assert all(torch.equal(v, fresh().state_dict()[k]) for k, v in checkpoint.model.state_dict().items())
    with pytest.raises(UserError, match="holds a deformer"):
        models.load(tmp_path / "d.pth", "classifier")


def test_the_shipped_onnx_draws_the_same():
    path = DEFAULT_DEFORMER.with_suffix(".onnx")
    difference, limit = export_onnx.verify(path, models.load(DEFAULT_DEFORMER))
    assert difference <= limit == 1
    assert path.stat().st_size + DEFAULT_DEFORMER.stat().st_size < 3_000_000
