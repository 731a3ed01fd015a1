"""The saliency section: what it measures of a small classifier, and that its text follows the numbers."""
import json
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import data
import models
import saliency
from datasets import strokes
from study import saliency_checks
from study.context import Context
from utils.files import UserError


@pytest.fixture(scope="module")
def glyphs():
    """Three classes: figures have a row for each."""
    x, y = strokes.generate(240, seed=5, labels=np.arange(240) % 3)
    return data.split_up("digits", list("012"), x[:180], y[:180], x[180:], y[180:], 0, source="strokes", license="none",
                         warnings=[])


@pytest.fixture(scope="module")
def network(glyphs):
    """A small classifier after a few steps."""
    torch.manual_seed(0)
    network = models.Classifier(models.ClassifierConfig(3, 4))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    images, labels = models.from_uint8(torch.from_numpy(glyphs.x_train[:60])), torch.from_numpy(glyphs.y_train[:60])
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def test_section_says_what_it_measured(glyphs, network, tmp_path, monkeypatch):
    small = {"images": 3, "ranked": 2, "steps": 2, "seeds": 2, "pool": 64, "epochs": 1}
    monkeypatch.setattr(saliency_checks, "QUICK", small)
    monkeypatch.setattr(saliency_checks, "TEST_IMAGES", 40)
    monkeypatch.setattr(saliency, "MAX_STEPS", 64)               # no refinement
    monkeypatch.setattr(saliency, "perturbation", partial(saliency.perturbation, points=5))
    monkeypatch.setitem(saliency_checks.COARSE, "SmoothGrad", partial(saliency.smoothgrad, samples=2))
    monkeypatch.setitem(saliency_checks.COARSE, "integrated gradients",
                        partial(saliency.integrated_gradients, steps=4, tolerance=np.inf))
    table = data.width_table(glyphs.x_train, glyphs.y_train, 3)
    context = Context(glyphs, tmp_path, tmp_path, seeds=2, say=lambda *a: None)
    with pytest.raises(UserError, match="no classifier.pth"):
        saliency_checks.measure(context)
    models.save(tmp_path / "classifier.pth", models.Checkpoint("classifier", network, glyphs.classes, table))
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        source = models.Generator(models.GeneratorConfig(3, c0=4, c1=4))
        saved = models.Checkpoint("generator", source, glyphs.classes, table)
        models.save(tmp_path / "generator_epochs" / f"{epoch:05d}.pth", saved)
    models.save(tmp_path / "generator.pth", saved)
    section = saliency_checks.measure(context)
    numbers = json.loads(json.dumps(section.numbers))
    assert numbers["completeness"]["images"] == 3 and 0 < numbers["completeness"]["max"] < 0.5
    assert set(numbers["perturbation"]["deletion"]) == {*saliency.METHODS, "random", "edges", "ink"}
    assert set(numbers["arms"]["accuracy"]) == {"real", "CGAN"} and len(numbers["arms"]["agreement"]) == 5
    assert set(numbers["epochs"]) == {"CGAN 1"}
    names = [f.name for f in section.figures]
    assert names[0] == "saliency_classes" and set(names) >= {
        "saliency_arms", "saliency_epochs_cgan", "saliency_deletion", "saliency_randomised_all", "saliency_agreement"}
    assert len(section.tables) == 4 and all(len(row) == len(t.columns) for t in section.tables for row in t.rows)
    assert any("CVAE" in text for text in section.paragraphs), "what is missing is named"
    monkeypatch.setattr(saliency_checks, "charts", Mock())       # which takes most of the time
    again = saliency_checks.describe(numbers)                    # as read from a file
    assert again.tables == section.tables and again.answer == section.answer


def numbers(falls, beats, areas):
    """What describe() takes, of maps whose likeness falls so, that beat these orders by these areas."""
    return {"protocol": {"ranked": 4, "seeds": 2}, "completeness": {"mean": 0, "max": 0, "images": 6}, "beats": beats,
            "loses_to": {kind: {} for kind in beats}, "perturbation": areas, "perturbation_curves": {},
            "randomisation": {"stages": ["linear 2", "conv 1"], **falls}, "randomisation_half": falls,
            "arms": {"agreement": []}}


def test_answer_follows_the_numbers(monkeypatch):
    monkeypatch.setattr(saliency_checks, "charts", Mock())

    def answer(ink, beats):
        falls = {m: {"all": [0.9, ink], "ink": [0.9, ink]} for m in saliency.METHODS}
        by_kind = {kind: dict.fromkeys(saliency.METHODS, beats) for kind in ("deletion", "insertion")}
        areas = {kind: {"Grad-CAM": {"mean": 0.5, "half": None}} for kind in by_kind}
        return saliency_checks.describe(numbers(falls, by_kind, areas)).answer
    assert answer(0.9, []).startswith("Maps of no method passed both")
    assert "Grad-CAM passed both" in answer(0.1, ["random", "edges"])


def test_a_method_must_fall_on_ink_and_on_all_pixels(monkeypatch):
    monkeypatch.setattr(saliency_checks, "charts", Mock())
    for every, ink, passes in ((0.1, 0.1, True), (0.1, 0.9, False), (0.9, 0.1, False)):
        falls = {m: {"all": [0.9, every], "ink": [0.9, ink]} for m in saliency.METHODS}
        beats = {kind: {m: ["random", "edges"] for m in saliency.METHODS} for kind in ("deletion", "insertion")}
        answer = saliency_checks.describe(numbers(falls, beats, {})).answer
        assert ("no method" not in answer) is passes


def test_an_order_beats_another_where_deletion_is_lower_and_insertion_higher(monkeypatch):
    """Curves are replaced by the mean of the order: .1 for every map, .5 for a random order, 1 for edges and ink."""
    monkeypatch.setattr(saliency, "perturbation", lambda network, x, y, order, insertion: (
        order.mean((1, 2)) + (2 + torch.arange(len(x)) / 100 if insertion else 0))[:, None].expand(-1, 3))
    monkeypatch.setattr(saliency, "sobel", lambda x: torch.ones(len(x), 8, 8))
    x = torch.ones(6, 1, 8, 8)
    jitter = torch.linspace(0, 0.01, 6)[:, None, None]
    maps = {m: torch.full((6, 8, 8), 0.1) + jitter for m in saliency.METHODS}
    found = saliency_checks.measure_perturbation(None, x, torch.zeros(6), maps)
    every = ["random", "edges", "ink"]
    assert found["beats"]["deletion"]["gradient"] == every == found["loses_to"]["insertion"]["gradient"]
    assert found["beats"]["insertion"]["gradient"] == [] == found["loses_to"]["deletion"]["gradient"]
    assert found["perturbation"]["insertion"]["ink"]["mean"] == pytest.approx(3.025, abs=1e-4)
    monkeypatch.setattr(saliency_checks, "holm", lambda p: [0.2] * len(p))
    found = saliency_checks.measure_perturbation(None, x, torch.zeros(6), maps)
    assert not any(v for by_kind in found["beats"].values() for v in by_kind.values()), "not without the correction"


def test_maps_at_random_are_compared_on_all_pixels_and_on_ink(monkeypatch):
    """The randomised network's maps are the same on ink, and others beside it."""
    rng = torch.Generator().manual_seed(0)
    first, other = torch.rand(2, 3, 8, 8, generator=rng)
    x = torch.zeros(3, 1, 8, 8)
    x[:, :, :4] = 1
    changed = torch.where(x[:, 0] > 0.5, first, other)
    monkeypatch.setattr(saliency, "cascading_randomization", lambda network, seed: [("linear 2", changed)])
    for m in saliency.METHODS:
        monkeypatch.setitem(saliency_checks.COARSE, m, lambda network, x, y: network)
    found = saliency_checks.measure_randomisation(first, x, None, seeds=2)["randomisation"]
    expected = saliency_checks.map_correlation(first, changed).mean()
    assert found["stages"] == ["linear 2"] and found["gradient"]["ink"] == [pytest.approx(1)]
    assert found["gradient"]["all"] == [pytest.approx(expected)] and expected < 0.9


def test_agreement_is_of_other_seeds_against_the_mean_of_both_arms(monkeypatch):
    """Networks are replaced by their maps: two of "real" are alike, two of "CGAN" less than real and CGAN."""
    for m in saliency.METHODS:
        monkeypatch.setitem(saliency_checks.COARSE, m, lambda network, x, y: network)
    rng, shape = torch.Generator().manual_seed(1), (12, 8, 8)
    a, b, c, d = (torch.rand(shape, generator=rng) for _ in range(4))
    arms = {"real": [a, a + 0.5 * d], "CGAN": [0.3 * a + b, c]}
    row = saliency_checks.measure_agreement(arms, torch.ones(12, 1, 8, 8), None)["agreement"][0]
    correlate = saliency_checks.map_correlation
    within = [correlate(*maps).mean() for maps in arms.values()]
    across = [correlate(arms["real"][i], arms["CGAN"][1 - i]).mean() for i in (0, 1)]
    assert row["floor"] == pytest.approx(np.mean(within)) and row["across"] == pytest.approx(np.mean(across))
    assert row["mean"] == pytest.approx(np.mean(across) - np.mean(within))
    assert row["p"] < 1e-4 and not row["below_floor"], "not under the pair of CGAN"
    apart = {"real": arms["real"], "CGAN": [b, b + 0.5 * c]}
    row = saliency_checks.measure_agreement(apart, torch.ones(12, 1, 8, 8), None)["agreement"][0]
    assert row["below_floor"] and row["p"] < 1e-4


def test_correlation_is_of_magnitudes_inside(glyphs, network):
    x, y = models.from_uint8(torch.from_numpy(glyphs.x_test[:8])), torch.from_numpy(glyphs.y_test[:8])
    maps = saliency.gradient(network, x, y)
    assert saliency_checks.map_correlation(maps, -maps) == pytest.approx(1)
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    assert np.abs(saliency_checks.map_correlation(maps, noise)).max() < 0.2
    inside = torch.zeros(maps.shape, dtype=torch.bool)
    inside[:, :14] = True
    half = torch.cat([maps[:, :14], noise[:, 14:]], 1)
    assert saliency_checks.map_correlation(maps, half, inside) == pytest.approx(1)
