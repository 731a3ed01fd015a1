"""The models that come with the repository: that they work after a clone, and are as good as the README says."""
import json
import os

import numpy as np
import pytest
from conftest import ROOT

import data
import export_onnx
import models
from generate_digits import open_generator, sample_all
from metrics.features import Extractor
from metrics.frechet_distance import fid
from metrics.statistics import expected_calibration_error
from utils.onnx_session import open_session

SHIPPED = ROOT / "saved_models"


@pytest.fixture(scope="module")
def samples():
    return sample_all(open_generator(SHIPPED / "generator.onnx"), 2000, seed=77)


def test_files_keep_the_contract_and_belong_together(monkeypatch):
    monkeypatch.setattr(export_onnx, "VERIFY_BATCHES", (1, 7, 64))         # export itself has larger ones
    shipped = sorted(p for p in SHIPPED.rglob("*.onnx") if p.stem != "deformer")       # see test_deformation.py
    assert {f"{n}.onnx" for n in ("generator", "acgan", "cvae", "classifier", "classifier-tiny")} <= {p.name for p in shipped}
    for path in shipped:
        kind, meta = export_onnx.check(path)
        trained = path.with_name(path.stem.removesuffix("-gradient"))          # the run it comes from
        record = json.loads(trained.with_suffix(".json").read_text(encoding="utf-8"))
        assert meta["classes"] == record["classes"] and meta["dataset"] == record["dataset"]
        assert kind.startswith("classifier") is path.stem.startswith("classifier")
        if kind == "classifier":
            assert path.with_name(f"{path.stem}-gradient.onnx") in shipped
        if kind != "classifier-gradient":
            assert path.stat().st_size == record["onnx"]["bytes"]
        if trained.with_suffix(".pth").is_file():
            checkpoint = models.load(trained.with_suffix(".pth"))
            made = export_onnx.with_gradient(checkpoint) if kind == "classifier-gradient" else checkpoint
            difference, limit = export_onnx.verify(path, made)
            assert difference <= limit
    models.load(SHIPPED / "discriminator.pth", "discriminator")


def test_files_are_small():
    for name, most in (("generator", 800_000), ("acgan", 800_000), ("cvae", 800_000), ("classifier", 600_000),
                       ("classifier-tiny", 100_000), ("classifier-gradient", 1_200_000),
                       ("classifier-tiny-gradient", 130_000)):
        assert (SHIPPED / f"{name}.onnx").stat().st_size <= most
    assert models.n_parameters(models.load(SHIPPED / "classifier-tiny.pth").model) <= 25_000


def test_classifiers_are_calibrated_as_their_records_say():
    records = [json.loads(p.read_text(encoding="utf-8"))["metrics"] for p in SHIPPED.rglob("classifier*.json")]
    assert len(records) == 5 and all(r["test_ece"] <= 0.005 and r["temperature_images"] > 600 for r in records)


def test_samples_are_what_was_asked(samples):
    images, labels, t = samples
    assert export_onnx.accuracy(SHIPPED / "classifier.onnx", images, labels) > 0.99
    drawn = data.thickness(images, labels, models.load(SHIPPED / "generator.pth").width_table)
    assert np.mean(data.style(drawn) == data.style(t)) > 0.92
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.skipif(not os.environ.get("GLYPHS_DATA"), reason="needs real MNIST: set GLYPHS_DATA to its folder")
def test_on_real_mnist(samples):
    glyphs = data.load("mnist")
    extractor = Extractor(SHIPPED / "classifier.onnx")
    test, real, drawn = (extractor.measure(x) for x in (glyphs.x_test, glyphs.x_train[:2000], samples[0]))
    assert np.mean(test.answers == glyphs.y_test) >= 0.997
    # the first half of the test images is the harder one
    for name, n, wanted in (("classifier", 4000, 0.995), ("classifier-tiny", 10_000, 0.994), ("classifier-adversarial", 4000, 0.99)):
        session, _ = open_session(SHIPPED / f"{name}.onnx", "classifier")
        parts = [session.run(["probabilities"], {"image": images})[0] for images in np.array_split(glyphs.x_test[:n], 10)]
        probabilities = np.concatenate(parts)
        right = probabilities.argmax(1) == glyphs.y_test[:n]
        assert right.mean() >= wanted
        assert expected_calibration_error(probabilities.max(1), right) <= 0.006        # 0.001 by chance
    # 2,000 of each: mostly bias, the same for both
    assert fid(test.moments, drawn.moments) < 1.6 * fid(test.moments, real.moments)
