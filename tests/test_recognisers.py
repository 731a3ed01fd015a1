import argparse
import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import assert_one_line_error, command

import data
import models
import train
from datasets import strokes
from training.classifier import RECOGNISERS
from training.run import PRESETS, Run
from utils.files import UserError

CPU = torch.device("cpu")
EPS = RECOGNISERS["classifier-adversarial"].EPS


def recogniser(name, n_classes=10):
    torch.manual_seed(0)
    return RECOGNISERS[name](argparse.Namespace(bf16=False, warp=1.0), n_classes, CPU)


@pytest.fixture(scope="module")
def batch():
    x, y = strokes.generate(40, seed=2)
    return torch.from_numpy(np.array(x)).unsqueeze(1).float() / 255, torch.from_numpy(np.array(y))


def take_steps(r, x, y, n, lr=3e-3):
    return [float(r.step(x, y, None, lr, i, i / n, torch.Generator().manual_seed(i))["loss"]) for i in range(n)]


@pytest.mark.parametrize("name", RECOGNISERS)
def test_a_step_learns_and_repeats(name, batch):
    x, y = batch
    r, twin = recogniser(name), recogniser(name)
    losses = take_steps(r, x, y, 10)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert take_steps(twin, x, y, 10) == losses
    assert all(torch.equal(a, b) for a, b in zip(r.classifier.parameters(), twin.classifier.parameters()))
    assert r.classifier.training
    for p in r.classifier.parameters():
        assert p.grad is not None and p.grad.isfinite().all()


def test_without_warp_images_are_only_moved(batch, monkeypatch):
    x, y = batch
    x = x * F.pad(torch.ones(22, 22), [3] * 4)                     # no ink near the frame
    changes = {}
    for strength in (0.0, 1.0):
        r = recogniser("classifier")
        r.args.warp = strength
        monkeypatch.setattr(r, "update", lambda seen, *a, **k: seen)
        seen = r.step(x, y, None, 1e-3, 0, 0.0, torch.Generator().manual_seed(0))
        changes[strength] = (seen.sum((1, 2, 3)) / x.sum((1, 2, 3)) - 1).abs().max()
    assert changes[0.0] < 1e-4 and changes[1.0] > 0.05


def test_sizes():
    assert models.n_parameters(recogniser("classifier").classifier) <= 300_000
    assert models.n_parameters(recogniser("classifier-tiny").classifier) <= 25_000
    for name in RECOGNISERS:
        assert recogniser(name, 49).rounded.features(torch.zeros(2, 1, 28, 28)).shape[1] <= 128


@pytest.mark.parametrize("name", RECOGNISERS)
def test_settle_rounds_a_copy_to_half_precision(name, batch):
    r = recogniser(name)
    take_steps(r, *batch, 2)
    before = copy.deepcopy(r.classifier.state_dict())
    assert r.settle(None, None, None) == {}
    assert all(torch.equal(v, before[k]) for k, v in r.classifier.state_dict().items())   # training goes on as it was
    for k, v in r.rounded.state_dict().items():
        if v.ndim > 1:
            assert torch.equal(v, v.half().float()) and not torch.equal(v, before[k])
            torch.testing.assert_close(v, before[k], rtol=2 ** -11, atol=2 ** -25)
        else:
            assert torch.equal(v, before[k])
    kind, network = r.products[name]
    assert kind == "classifier" and network is r.rounded and not network.training


def test_attacked_images_stay_in_the_ball_and_mislead(batch):
    x, y = batch
    r = recogniser("classifier-adversarial")
    take_steps(r, x, y, 10)
    found = r.attacked(x, y, torch.Generator().manual_seed(0))
    assert (found - x).abs().max() <= EPS + 1e-6 and found.min() >= 0 and found.max() <= 1
    r.classifier.eval()
    noise = (x + EPS * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)).clamp(0, 1)
    with torch.no_grad():
        losses = [float(F.cross_entropy(r.classifier(images), y)) for images in (x, noise, found)]
    assert losses[2] > losses[0] and losses[2] > losses[1]
    assert all(p.grad is None or p.grad.isfinite().all() for p in r.classifier.parameters())


def test_contrast_resists_small_changes_and_leaves_a_slope():
    ramp = models.Contrast(0.3)
    grey = torch.linspace(-1, 1, 201, requires_grad=True)
    out = ramp(grey)
    torch.testing.assert_close(out[[0, 100, 200]], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert (out.diff() > 0).all()                                 # no flat part, where an attacker would lose the way
    out.sum().backward()
    assert grey.grad.min() == pytest.approx(0.1)
    black = 2 * torch.linspace(0, 0.3, 50) - 1                     # what +0.3 in [0, 1] can do to black
    assert ramp(black).max() - ramp(black).min() < 0.07


def test_a_checkpoint_of_before_the_last_width_loads(tmp_path):
    """Files of version 1 that know no `last` and no `margin`: width 32 meant 32, 64, 128 channels."""
    config = models.ClassifierConfig(10, 32)
    network = models.Classifier(config).eval()
    models.save(tmp_path / "c.pth", models.Checkpoint("classifier", network, list("0123456789"), np.zeros((10, 256))))
    content = torch.load(tmp_path / "c.pth", weights_only=True)
    content["config"] = {"n_classes": 10, "width": 32}
    torch.save(content, tmp_path / "old.pth")
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(models.load(tmp_path / "old.pth").model(images), network(images))


@pytest.mark.parametrize("words, name", [(["--model", "classifier-tiny"], "classifier-tiny"),
                                         (["--model", "classifier", "--adversarial"], "classifier-adversarial")])
def test_the_commands(small_npz, tmp_path, words, name):
    train.main([*words, "--dataset", str(small_npz), "--epochs", "2", "--per-class", "10", "--batch", "20", "--out",
                str(tmp_path), "--device", "cpu"])
    files = {p.name for p in tmp_path.iterdir()}
    assert files == {name + end for end in (".pth", ".onnx", ".json", ".log.jsonl", "_losses.png", "_confusion.png")}
    network = models.load(tmp_path / f"{name}.pth", "classifier").model
    assert all(torch.equal(v, v.half().float()) for v in network.state_dict().values() if v.ndim > 1)
    record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert record["model"] == name and record["steps"] == 2 * (100 // 20)
    assert set(record["metrics"]) == {f"{split}_{kind}" for split in ("val", "test")
                                      for kind in ("accuracy", "balanced_accuracy")}
    assert record["onnx"]["test_accuracy"] == record["metrics"]["test_accuracy"]


def test_adversarial_is_for_the_classifier(tmp_path):
    assert_one_line_error(command("train.py", "--adversarial", cwd=tmp_path), "--adversarial", "cgan")
    with pytest.raises(UserError, match="classifier-tiny"):
        train.parse_args(["--model", "classifier-tiny", "--adversarial"])


def test_few_images_do_not_take_all_steps(small_npz):
    """The default number of steps: so many images in all, but no more passes than a handful of images is worth."""
    glyphs = data.load(small_npz).subset(2, 0)
    args, _ = train.settle(train.parse_args(["--model", "classifier", "--dataset", str(small_npz), "--out", "unused"]))
    args.bf16 = False
    train.adapt(args, glyphs)
    r = Run(args, glyphs, CPU, 0.0)
    assert r.batch == 20 and r.steps == PRESETS["classifier"]["passes"]
