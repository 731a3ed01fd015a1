"""The models that come with the repository: that they work after a clone, and are as good as the README says."""
import json
import os

import numpy as np
import pytest

import data
import export_onnx
import models
import sampling
from conftest import ROOT
from features import Extractor
from fid import distance

SHIPPED = ROOT / "saved_models"


@pytest.fixture(scope="module")
def samples():
    return sampling.sample_all(sampling.open_generator(SHIPPED / "generator.onnx"), 2000, seed=77)


def test_files_keep_the_contract_and_belong_together():
    for name in ("generator", "classifier"):
        kind, meta = export_onnx.check(SHIPPED / f"{name}.onnx")
        record = json.loads((SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
        assert kind == name and meta["dataset"] == record["dataset"] == "mnist"
        assert export_onnx.prove(SHIPPED / f"{name}.onnx", models.load(SHIPPED / f"{name}.pth", name))[0] <= 1
    models.load(SHIPPED / "discriminator.pth", "discriminator")


def test_samples_are_what_was_asked(samples):
    images, labels, t = samples
    assert export_onnx.accuracy(SHIPPED / "classifier.onnx", images, labels) > 0.99
    drawn = data.thickness(images, labels, models.load(SHIPPED / "generator.pth").ink_table)
    assert np.mean(data.style(drawn) == data.style(t)) > 0.92
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.skipif(not os.environ.get("GLYPHS_DATA"), reason="needs real MNIST: set GLYPHS_DATA to its folder")
def test_on_real_mnist(samples):
    glyphs = data.load("mnist")
    assert export_onnx.accuracy(SHIPPED / "classifier.onnx", glyphs.x_test, glyphs.y_test) >= 0.995
    extractor = Extractor(SHIPPED / "classifier.onnx")
    test, real, made = (extractor.measure(x).moments for x in (glyphs.x_test, glyphs.x_train[:2000], samples[0]))
    assert distance(test, made) < 1.6 * distance(test, real)       # 2,000 of each: mostly bias, the same for both
