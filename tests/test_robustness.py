"""The robustness section: a classifier of the folder is attacked and corrupted, a study is resumed from its rows."""
import json
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
    monkeypatch.setattr(robustness, "QUICK", {"images": 4, "corrupted": 6, "steps": 2, "seeds": 2, "attacked": 3,
                                              "pool": 64, "eps": [0, 0.05, 0.1]})
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
    monkeypatch.setattr(robustness.RunCache, "get", lambda self, key: keys.append(key))
    monkeypatch.setattr(robustness, "run_arm", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        robustness.run_study(context, None, robustness.FULL, {})
    assert keys == [{"dataset": context.glyphs.name, "sha256": context.glyphs.sha256, "arm": "real", "seed": 0,
                     "steps": 600, "attacked": 300, "corrupted": 1000,
                     "eps": [0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4], "pool": 10_000, "severity": 3,
                     "generators": {}, "version": 1}]


def test_foreign_classifier_is_refused(context):
    context.glyphs.classes = CLASSES[::-1]
    with pytest.raises(UserError, match="classifier.pth"):
        robustness.measure(context)


def test_gain_is_claimed_only_where_it_is_significant():
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
