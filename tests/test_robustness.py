"""The robustness section: a classifier of the folder is attacked and corrupted, a study is resumed from its rows."""
import json
import pickle
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import ROOT

import attacks
import data
import models
from study import robustness
from study.context import Context
from utils.files import UserError

CLASSES = list("0123456789")


@pytest.fixture
def context(small_npz, tmp_path, monkeypatch):
    """A folder with an untrained classifier and an untrained CGAN, and a study of seconds."""
    monkeypatch.setattr(robustness, "QUICK", {"images": 4, "targeted": 2, "corrupted": 6, "steps": 2, "seeds": 2,
                                              "attacked": 3, "pool": 64, "eps": [0, 0.05, 0.1]})
    for name, attack in attacks.ATTACKS.items():                 # each once, but few steps
        few = {"pgd": {"steps": 3}, "square": {"queries": 8}}.get(name, {"steps": 3} if "apgd" in name else {})
        monkeypatch.setitem(attacks.ATTACKS, name, partial(attack, **few))
    monkeypatch.setattr(attacks, "apgd", partial(attacks.apgd, steps=3))
    monkeypatch.setattr(robustness, "BOUNDS", {"L-infinity 0.1": ("linf", 0.1)})
    torch.manual_seed(0)
    for name, kind, net in (("classifier", "classifier", models.Classifier(models.ClassifierConfig(10, 2))),
                            ("generator", "generator", models.Generator(models.GeneratorConfig(10, c0=4, c1=4)))):
        models.save(tmp_path / f"{name}.pth", models.Checkpoint(kind, net, CLASSES, np.zeros((10, 256))))
    return Context(data.load(small_npz), tmp_path, tmp_path / "out", say=lambda *_: None)


def test_section_and_its_rows(context, monkeypatch):
    section = robustness.measure(context)
    numbers = json.loads(json.dumps(section.numbers))
    assert section.answer.startswith("Attacked within L-infinity 0.1") and section.answer.count(". ") == 0
    assert "no gain could be shown" in section.answer, "two seeds prove nothing"
    assert any("CVAE" in text for text in section.paragraphs), "what is missing is named"
    attacked, corrupted, study, gains = section.tables
    assert len(attacked.rows) == 1 and len(corrupted.rows) == 17
    assert [row[0] for row in study.rows] == ["real", "+ classical", "+ CGAN", "+ all"]
    assert [row[0] for row in gains.rows] == ["+ classical", "+ CGAN", "+ all"]
    assert all(len(row) == len(table.columns) for table in section.tables for row in table.rows)
    assert [f.name for f in section.figures] == ["robustness_attacks", "robustness_corruptions", "robustness_eps",
                                                 "robustness_kinds"]
    clean = numbers["study"]["measures"]["clean"]
    assert numbers["study"]["differences"]["clean"]["+ CGAN"]["mean"] == pytest.approx(
        np.mean(clean["+ CGAN"]) - np.mean(clean["real"]))
    monkeypatch.setattr(robustness, "charts", Mock())            # which takes most of the time
    again = robustness.describe(numbers)                         # as read from a file
    assert again.tables == section.tables and again.answer == section.answer and len(again.figures) == 2
    assert len((context.out / "robustness.jsonl").read_text().splitlines()) == 8
    monkeypatch.setattr(robustness, "run_arm", None)             # rows are not computed again
    monkeypatch.setattr(robustness, "CLASSIFIERS", {})
    resumed = robustness.measure(context)
    assert resumed.tables == section.tables[2:] and resumed.answer.startswith("No gain")
    (context.models / "generator.pth").unlink()                  # rows without generated images still hold
    assert "not measured" in robustness.measure(context).answer


def test_key_of_a_row_is_that_of_earlier_results(context, monkeypatch):
    """Results that took an hour are found again: the fields of a key, and their values, are part of the file format."""
    keys = []
    monkeypatch.setattr(robustness, "open_generators", lambda *_: ({}, []))
    monkeypatch.setattr(robustness.RunCache, "get", lambda self, key: keys.append(key))
    monkeypatch.setattr(robustness, "run_arm", lambda *_: 1 / 0)
    monkeypatch.setattr(robustness.Study, "test", None)
    with pytest.raises(ZeroDivisionError):
        robustness.run_study(robustness.Study(context, {**robustness.FULL, "seeds": 5}))
    assert keys[:1] == [{"dataset": context.glyphs.name, "sha256": context.glyphs.sha256, "arm": "real", "seed": 0,
                     "steps": 600, "attacked": 300, "corrupted": 1000,
                     "eps": [0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4], "pool": 10_000, "severity": 3,
                     "generators": {}, "version": 1}]


def test_a_study_is_made_anew_in_a_worker(context):
    study = robustness.Study(context, robustness.QUICK)
    again = pickle.loads(pickle.dumps(study))
    assert again.key(1, "+ all") == study.key(1, "+ all") and "generators" in study.key(1, "+ all")
    assert (again.test[0] == study.test[0]).all() and (again.test[2]["fog"] == study.test[2]["fog"]).all()


def test_foreign_classifier_is_refused(context):
    context.glyphs.classes = CLASSES[::-1]
    with pytest.raises(UserError, match="classifier.pth"):
        robustness.measure(context)


def test_an_arm_trains_on_what_it_was_given_and_each_number_is_of_its_own_images(context, monkeypatch):
    """Accuracy is replaced by the mean of the images: that tells which images a number was measured on."""
    size = {"steps": 7, "attacked": 2, "eps": [0, 0.1]}
    x, corrupted = np.full((4, 28, 28), 10, np.uint8), {"fog": np.full((4, 28, 28), 20, np.uint8),
                                                        "blur": np.full((4, 28, 28), 40, np.uint8)}
    attacked, trained = [], []
    monkeypatch.setattr(robustness, "accuracy", lambda network, images, labels: float(images.mean()))
    monkeypatch.setattr(robustness, "train_classifier", lambda *data, **how: trained.append((data, how)))
    monkeypatch.setattr(attacks, "robust_accuracy_curve", lambda network, images, labels, eps:
                        attacked.append(len(images)) or [0.9, 0.5])
    synthetic = object()
    row = robustness.run_arm(context, (x, np.zeros(4), corrupted), size, "classical", synthetic, seed=3)
    (images, labels), how = trained[0]
    assert images is context.glyphs.x_train and labels is context.glyphs.y_train and attacked == [2]
    assert how["synthetic"] is synthetic and (how["augment"], how["steps"], how["seed"]) == ("classical", 7, 3)
    assert row["corruptions"] == {"fog": 20.0, "blur": 40.0} and row["corrupted"] == 30.0 and row["curve"] == [0.9, 0.5]
    assert row["clean"] == float(context.glyphs.x_test.mean())

    asked = []
    monkeypatch.setattr(attacks, "robust_accuracy", lambda network, images, labels, eps, norm, every:
                        asked.append((len(images), eps, norm, every["apgd-t"].keywords)) or {"robust": 0.5})
    found = robustness.measure_networks(context, {"it": None}, (x, np.zeros(4), corrupted), 3, targeted=11)
    assert found["corruptions"] == {"it": {"clean": 10.0, "fog": 20.0, "blur": 40.0, "mean": 30.0}}
    assert [row[:3] for row in asked] == [(3, 0.1, "linf")] and asked[0][3]["steps"] == 11


def test_numbers_of_the_study_are_those_of_its_rows(context, monkeypatch):
    """Planted rows: a column of the tables is the curve at its eps, and p is corrected for all comparisons."""
    size = {**robustness.QUICK, "eps": [0, 0.05, 0.1, 0.2], "seeds": 3}
    gain, given = {"none": 0.0, "classical": 0.1}, []

    def run_arm(context, test, size, augment, synthetic, seed):
        given.append((augment, synthetic))
        start = 0.8 + gain[augment] + 0.001 * seed * len(augment)
        return {"curve": [start, start - 0.1, start - 0.3, 0.0], "clean": start, "corrupted": start - 0.4,
                "corruptions": dict.fromkeys(robustness.CORRUPTIONS, 0.5), "train_seconds": 1, "test_seconds": 1}
    monkeypatch.setattr(robustness, "run_arm", run_arm)
    monkeypatch.setattr(robustness, "open_generators", lambda *_: ({}, []))
    monkeypatch.setattr(robustness.Study, "test", None)
    numbers = robustness.run_study(robustness.Study(context, size))
    assert given == [("none", None), ("classical", None)] * 3
    assert numbers["measures"]["eps 0.05"]["real"] == pytest.approx([0.7, 0.704, 0.708])
    assert numbers["measures"]["eps 0.1"]["+ classical"] == pytest.approx([0.6, 0.609, 0.618])
    assert numbers["measures"]["corrupted"]["real"] == pytest.approx([0.4, 0.404, 0.408])
    assert list(numbers["measures"]) == ["clean", "eps 0.05", "eps 0.1", "corrupted"]
    for by_arm in numbers["differences"].values():         # all four have the same p: each becomes four times as large
        assert by_arm["+ classical"]["p_holm"] == pytest.approx(4 * by_arm["+ classical"]["p"])
        assert by_arm["+ classical"]["mean"] == pytest.approx(0.105)


@pytest.fixture
def no_charts(monkeypatch):
    monkeypatch.setattr(robustness, "study_charts", lambda study, protocol: [])


def test_a_gain_in_clean_accuracy_or_of_two_seeds_is_none_in_robustness(no_charts):
    values = {"real": [0.5, 0.52, 0.51, 0.5], "+ CGAN": [0.6, 0.6201, 0.61, 0.6001]}       # two seeds: p = .0003
    for seeds, better in ((4, "clean"), (2, "eps 0.1")):
        measures = {m: {arm: values[arm if m == better else "real"][:seeds] for arm in values}
                    for m in ("clean", "eps 0.1")}
        numbers = {"protocol": {"seeds": seeds, "steps": 1, "attacked": 1},
                   "study": {"measures": measures, "differences": robustness.differences(measures)}}
        assert "no gain" in robustness.describe(numbers).answer.replace("No", "no"), better


def test_gain_is_claimed_only_where_it_is_significant(no_charts):
    values = {"real": [0.5, 0.52, 0.51, 0.5], "+ classical": [0.5, 0.5, 0.5, 0.5]}
    better, worse = [0.6, 0.62, 0.61, 0.6001], [0.4, 0.42, 0.41, 0.4001]
    for cgan, word in ((better, "images of the CGAN makes"), (worse, "no gain"), (values["real"], "no gain")):
        measures = {m: {**values, "+ CGAN": cgan} for m in ("clean", "eps 0.1")}
        numbers = {"protocol": {"seeds": 4, "steps": 1, "attacked": 1},
                   "study": {"measures": measures, "differences": robustness.differences(measures)}}
        assert word in robustness.describe(numbers).answer.replace("No", "no"), word


@pytest.mark.parametrize("change", [{"curve": [0.5]}, {"curve": None}, {"clean": "0.9"}, {"clean": 1.5},
                                    {"corruptions": {}}, {"eps": {}},
                                    {"corrupted": float("nan")}, {"train_seconds": -1}])
def test_rows_of_wrong_inner_types_are_refused(tmp_path, change):
    lines = (ROOT / "results" / "robustness.jsonl").read_text(encoding="utf-8").splitlines()
    row = {**(entry := json.loads(lines[0]))["key"], **entry["row"]}
    assert robustness.is_row(row) and not robustness.is_row({**row, **change})
    assert robustness.is_row({**row, **change, "version": 0}), "those of an earlier version are passed over"
