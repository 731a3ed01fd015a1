"""Sections as functions of stored numbers: text, tables and charts without measuring anything again."""
import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from metrics import statistics
from study import classifier, epochs, generators, robustness, saliency_checks
from study.context import join_names

RESULTS = ROOT / "results"
DESCRIBE = {"quality": generators.describe, "classifier": partial(classifier.describe, classes=list("0123456789")),
            "epochs": epochs.describe, "runtime": epochs.describe_runtime, "robustness": robustness.describe,
            "saliency": saliency_checks.describe}


@pytest.mark.parametrize("key", DESCRIBE)
def test_stored_results_can_be_described(key):
    section = DESCRIBE[key](json.loads((RESULTS / f"{key}.json").read_text(encoding="utf-8"))["numbers"])
    assert section.key == key and section.title.endswith("?")
    assert section.answer.endswith(".") and section.answer.count(". ") == 0, "one sentence"
    assert section.tables and all(len(row) == len(t.columns) for t in section.tables for row in t.rows)
    assert all(isinstance(cell, str) for t in section.tables for row in t.rows for cell in row)
    assert all(len(f.alt) > 20 for f in section.figures)


def result(fid):
    return {"d": 4, "fid": {"value": fid, "interval": [fid - 1, fid + 1]}, "depths": {"depth 1": {"fid": fid / 2}},
            "kid": {"value": 0.1}, "precision": 0.5, "recall": 0.5, "density": 0.5, "coverage": 0.5,
            "intra_fid": {"mean": 3.0, "worst": 4.0, "worst_class": "7"}, "copies": {"near_copies": 0.01},
            "cas": {"mean": 0.9, "half": 0.02, "steps": 10}}


def test_quality_compares_generators_with_the_floor():
    numbers = {"n": 100, "features": {"model": "a.onnx", "sha256": "ab"}, "classifier_on_test": None, "cas_seeds": 3,
               "floor": {**result(2.0), "draws": [result(1.5), result(2.5)], "fid": 2.0, "fid_spread": 0.5},
               "models": {"generator": result(8.0), "cvae": {**result(4.0), "label_accuracy": 0.75}}}
    section = generators.describe(numbers)
    assert section.answer == ("Those of the CVAE are nearest to real ones: FID 4, 2 times the 2 of real training images "
                              "(CGAN 4 times).")
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    assert rows["FID"] == ["8.000", "4.000", "2.000"] and rows["FID / floor"] == ["4.00", "2.00", "1.00"]
    assert rows["Drawn as the class requested"] == ["-", "75.00 %", "-"], "what was not measured is a dash"
    assert rows["Worst class"] == ["7", "7", "-"]
    assert [f.name for f in section.figures] == ["fid", "fid_depths"]


def test_files_of_the_training_are_shown_as_they_are(tmp_path):
    Image.new("P", (20, 10)).save(tmp_path / "cvae_training.gif")
    (tmp_path / "generator_losses.png").write_bytes(b"as it is")
    context = SimpleNamespace(models=tmp_path)
    found = generators.training_figures(context, {"generator": None, "cvae": None})
    assert [(f.name, f.image) for f in found] == [("generator_losses", tmp_path / "generator_losses.png"),
                                                  ("cvae_training", tmp_path / "cvae_training.gif")]


def test_classifier_with_a_class_that_has_no_test_image():
    matrix = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    numbers = {**statistics.classification_scores(matrix), "wilson": [0.5, 0.98], "ece": 0.01, "errors": 1,
               "confusion": matrix.tolist(), "parameters": 5,
               "calibration": {"confidence": [0.5, 0.9], "accuracy": [0.5, 0.9], "images": [10, 20]}}
    section = classifier.describe(numbers, ["a", "b", "c"])
    assert "87.50 % of 8 test images correctly" in section.answer and "1 incorrectly" in section.answer
    assert section.tables[1].rows[2] == ["c", "0", "-", "-", "-"]
    assert "a as b (1)" in section.figures[0].caption and len(section.figures) == 2


def test_speed_without_a_record_and_with_one_file():
    row = {"training_seconds": None, "epochs": None, "training_images_per_second": None, "parameters": None}
    section = epochs.describe_runtime({"drawn": 64, "models": {"cvae": {**row, "pth": {"images_per_second": 5000.0,
                                                                                      "bytes": 9}}}})
    assert section.answer == "Drawing 10,000 images takes 2 s with the CVAE from its `.pth`."
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    assert rows["Drawing from .onnx, images/s"] == ["-"] and rows["Drawing from .pth, images/s"] == ["5,000"]


def test_names_are_joined():
    assert [join_names(n) for n in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["nothing", "a", "a and b", "a, b and c"]
