"""evaluate.py as people call it, on tiny untrained models, and with studies that give planted results."""
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import data
import evaluate
import models
from datasets import strokes
from study import context, epochs, generators
from study.report import Figure, Section, Table
from utils.files import UserError, exclusive


@pytest.fixture(scope="module")
def small_npz(tmp_path_factory):
    """A data set of 160 training and 40 test digits drawn as pen strokes."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    x, y = strokes.generate(200, seed=3, labels=np.arange(200) % 10)
    np.savez(path, x_train=x[:160], y_train=y[:160], x_test=x[160:], y_test=y[160:])
    return path


@pytest.fixture(scope="module")
def glyphs(small_npz):
    return data.load(small_npz)


@pytest.fixture(scope="module")
def place(glyphs, small_npz, tmp_path_factory):
    """A folder with saved_models/small, as evaluate.py looks for it from there."""
    folder = tmp_path_factory.mktemp("place")
    saved, k = folder / "saved_models" / "small", len(glyphs.classes)
    (saved / "generator_epochs").mkdir(parents=True)
    torch.manual_seed(0)
    generator = models.Generator(models.GeneratorConfig(k, 8, 8, 16, 8, 8))
    networks = {"generator": ("generator", generator),
                "classifier": ("classifier", models.Classifier(models.ClassifierConfig(k, width=4)))}
    table = data.width_table(glyphs.x_train, glyphs.y_train, k)
    record = {"dataset": "small", "dataset_sha256": glyphs.sha256, "training_seconds": 2.0, "epochs": 2}
    for name, (kind, network) in networks.items():
        info = {"figures": {"epoch": 2, "training_seconds": 2.0}}
        models.save(saved / f"{name}.pth", models.Checkpoint(kind, network.eval(), glyphs.classes, table, info))
        (saved / f"{name}.json").write_text(json.dumps(record))
    for epoch in (1, 2):
        (saved / "generator_epochs" / f"{epoch:05d}.pth").write_bytes((saved / "generator.pth").read_bytes())
    return folder


def load(folder, key):
    return json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def evaluated(place, small_npz):
    """The folder of results of the tiny models: samples, classifier, speed, epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(context, "CAS_PASSES", 2)
        patch.setattr(generators, "FLOOR_DRAWS", 2)
        patch.setattr(epochs, "TIMED", 256)
        evaluate.main(["--dataset", str(small_npz), "--only", "quality,classifier,epochs,runtime", "--seeds", "1"])
    return place / "results" / "small"


def test_results_hold_every_figure_with_its_protocol(evaluated, glyphs):
    for key in ("quality", "classifier", "epochs", "runtime"):
        stored = load(evaluated, key)
        p = stored["protocol"]
        assert p["dataset_sha256"] == stored["dataset"]["sha256"] == glyphs.sha256 and p["seeds"] == 1 and p["seconds"] >= 0
        assert p["versions"]["torch"] and p["machine"]["processor"] is not None and p["form"] == "quick"
        assert p["command"] == f"python evaluate.py --dataset small.npz --only {key} --seeds 1"
        assert stored["title"].endswith("?") and stored["numbers"] and stored["tables"]
        assert not re.search(r'"/[a-z]', json.dumps(stored))             # no local paths
        for figure in stored["figures"]:
            with Image.open(evaluated / figure["file"]) as image:
                image.load()
            assert len(figure["alt"]) > 20
    quality = load(evaluated, "quality")
    assert quality["protocol"]["models"].keys() == {"generator.pth", "generator.json"}
    assert quality["numbers"]["models"]["generator"]["fid"]["value"] > quality["numbers"]["floor"]["fid"] > 0
    assert not (evaluated / "mistakes.png").exists()                       # real images are shown only with --show-real


def test_pages_lie_where_they_are_expected(evaluated, place):
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    document = (place / "docs" / "results.md").read_text(encoding="utf-8")
    for key in ("quality", "classifier", "epochs", "runtime"):
        stored = load(evaluated, key)
        assert stored["title"] in page and f"### {stored['title']}" in document
    assert "../results/small/" in document and "There is no `acgan" not in document
    links = re.findall(r"\]\((.*?)\)", document)
    assert links and all((place / "docs" / link).is_file() for link in links)


def test_a_missing_generator_is_said(evaluated):
    text = " ".join(load(evaluated, "quality")["paragraphs"])
    assert "No ACGAN: there is no `acgan.onnx`" in text and "No CGAN" not in text


# ---- planted studies -----------------------------------------------------------------------------

def planted(key, form=None, image=None, fails=None):
    def measure(given):
        if fails:
            raise UserError(fails.format(models=given.models))
        section = Section(key, f"{key}?", [f"seen in {given.models}"], [Table("T", ["a"], [["b"]])], [], {"x": 1}, "Yes.")
        if image:
            section.figures.append(Figure(f"{key}_dot", image, "a dot"))
        section.protocol = {"form": form} if form else {}
        return section
    return measure


@pytest.fixture
def planned(place, small_npz, tmp_path, monkeypatch):
    """Call evaluate.main with planted studies; gives a function of the words and of further studies."""
    monkeypatch.chdir(place)
    dot = Image.new("RGB", (4, 4))
    studies = {key: planted(key, image=dot) for key in evaluate.STUDIES}

    def call(*words, **others):
        monkeypatch.setattr(evaluate, "STUDIES", {**studies, **others})
        evaluate.main(["--dataset", str(small_npz), "--out", str(tmp_path), *words])
        return tmp_path
    return call


def test_other_sections_stay_and_stale_ones_say_so(planned, place, capsys):
    out = planned("--only", "quality,runtime,classifier")
    before = (out / "runtime.json").read_bytes()
    path = place / "saved_models" / "small" / "classifier.pth"
    usual = path.read_bytes()
    path.write_bytes(usual + b"changed")
    try:
        planned("--only", "quality")
        assert "the earlier section classifier is stale: measured with other model files" in capsys.readouterr().out
        assert load(out, "classifier")["protocol"]["stale"] and (out / "runtime.json").read_bytes() == before
        assert "Stale: measured with other model files." in (out / "report.html").read_text(encoding="utf-8")
    finally:
        path.write_bytes(usual)
    planned("--only", "quality")
    assert "no longer stale" in capsys.readouterr().out and not load(out, "classifier")["protocol"]["stale"]
    stored = load(out, "runtime")
    stored["protocol"]["dataset_sha256"] = "ab" * 32
    (out / "runtime.json").write_text(json.dumps(stored))
    planned("--only", "quality")
    assert load(out, "runtime")["protocol"]["stale"] == "measured on other data"


def test_a_study_is_not_written_twice_at_once(planned):
    out = planned("--only", "quality")
    before = (out / "quality.json").read_bytes()
    with exclusive(out / "quality.lock"):
        with pytest.raises(UserError, match="quality.* is being written by process"):
            planned("--only", "classifier,quality")
        planned("--only", "runtime")                                      # beside it another study may run
    assert (out / "quality.json").read_bytes() == before
    assert not (out / "classifier.json").exists() and not list(out.glob("*.lock"))


def test_with_jobs_a_study_may_be_run_twice_at_once(planned, capsys):
    with exclusive(planned("--only", "quality") / "ocr.lock", shared=True) as is_alone:
        assert is_alone()
    with exclusive(planned("--only", "quality") / "ocr.lock", shared=True):
        out = planned("--only", "ocr,runtime", "--jobs", "3")
        with pytest.raises(UserError, match="ocr.* is being written by process"):
            planned("--only", "ocr")
    ocr, runtime = (load(out, key)["protocol"] for key in ("ocr", "runtime"))
    assert (ocr["machine"]["jobs"], ocr["machine"]["threads"]) == (3, 1) and "jobs" not in runtime["machine"]
    assert ocr["command"] == "python evaluate.py --dataset small.npz --jobs 3 --only ocr --seeds 3"
    assert "--jobs" not in runtime["command"] and "3 processes of one thread" in (out / "report.html").read_text()


def test_snapshots_may_be_removed_without_a_change_of_what_was_measured(planned, place, capsys):
    out = planned("--only", "epochs,quality")
    path = place / "saved_models" / "small" / "generator_epochs" / "00001.pth"
    usual = path.read_bytes()
    path.unlink()
    try:
        planned("--only", "quality")
        assert not load(out, "epochs")["protocol"].get("stale")
        path.write_bytes(usual + b"changed")
        planned("--only", "quality")
        assert load(out, "epochs")["protocol"]["stale"]
    finally:
        path.write_bytes(usual)


def test_real_images_are_not_passed_on_unknowingly(planned, capsys):
    out = planned("--only", "classifier,quality", "--show-real")
    planned("--only", "quality", "--show-real")
    assert (out / "classifier.json").is_file()
    planned("--only", "runtime")
    assert "removed the earlier section classifier: it shows real images" in capsys.readouterr().out
    assert sorted(p.name for p in out.glob("*.json")) == ["runtime.json"] and not (out / "classifier_dot.png").exists()


def test_a_full_study_is_replaced_only_where_it_is_named(planned, capsys):
    out = planned("--only", "robustness", "--full")
    planned("--only", "ocr", ocr=planted("ocr", form="full"))          # the quick form shows an earlier full study
    planned()
    assert "keeps the full study of ocr" in capsys.readouterr().out
    assert [load(out, key)["protocol"]["form"] for key in ("robustness", "ocr", "quality")] == ["full", "full", "quick"]
    planned("--only", "robustness")
    assert load(out, "robustness")["protocol"]["form"] == "quick"


def test_figures_that_an_earlier_measurement_left_are_removed(planned):
    out = planned("--only", "quality")
    assert (out / "quality_dot.png").is_file()
    planned("--only", "quality", quality=planted("quality"))
    assert not (out / "quality_dot.png").exists() and load(out, "quality")["figures"] == []


def test_a_study_that_cannot_be_measured_is_a_line_and_no_failure(planned, place, capsys):
    saved = str(place / "saved_models" / "small")
    broken = planted("epochs", fails="no snapshots in {models}")
    out = planned("--models", saved, "--only", "quality,epochs", epochs=broken)
    assert load(out, "epochs")["answer"] == "Not measured: no snapshots in small" and not load(out, "epochs")["numbers"]
    assert load(out, "quality")["paragraphs"] == ["seen in small"]        # no local paths
    planned("--models", saved, "--only", "quality,runtime", quality=planted("quality", fails="gone"))
    assert "gone; the earlier figures are kept" in capsys.readouterr().out and load(out, "quality")["numbers"]
    with pytest.raises(UserError, match="quality: gone"):
        planned("--only", "quality", quality=planted("quality", fails="gone"))


# ---- mistakes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, says", [
    (["--models", "none"], "none.*train.py"), (["--only", "quality,colour"], "colour.*robustness"),
    (["--per-class", "10,many"], "many"), (["--per-class", "0"], "per-class"), (["--seeds", "0"], "seeds"),
    (["--report", "--out", "none"], "no results in none"), (["--device", "tpu"], "tpu"), (["--arms", "real"], "--only ocr"),
    (["--only", "quality", "--generator-steps", "5"], "--generator-steps.*--only ocr"),
    (["--only", "ocr", "--arms", "magic"], "magic"), (["--only", "ocr", "--protocols", "fast"], "fast"),
    (["--jobs", "0"], "jobs: 0"), (["--only", "quality", "--jobs", "2"], "--jobs is for ocr and robustness"),
    (["--only", "ocr", "--tries", "5"], "5"), (["--only", "ocr", "--dataset", "nowhere"], "nowhere")])
def test_mistakes_of_the_user(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        evaluate.main(words)
    assert not list(tmp_path.iterdir())


def test_data_set_comes_from_the_records(place, tmp_path):
    with pytest.raises(UserError, match="small.*--dataset"):
        evaluate.main(["--models", str(place / "saved_models" / "small")])
    (tmp_path / "a.json").write_text('{"dataset": "mnist"}')
    (tmp_path / "b.json").write_text('{"dataset": "kmnist"}')
    with pytest.raises(UserError, match="kmnist, mnist.*--dataset"):
        evaluate.main(["--models", str(tmp_path)])
    (tmp_path / "b.json").write_text('["mnist"]')
    with pytest.raises(UserError, match="b.json"):
        evaluate.main(["--models", str(tmp_path)])


def test_broken_models_are_named(small_npz, tmp_path):
    (tmp_path / "generator.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="No CGAN: .*generator.onnx.* No ACGAN"):
        evaluate.main(["--models", str(tmp_path), "--dataset", str(small_npz), "--only", "quality", "--out", str(tmp_path / "o")])


def test_scores_of_an_untrained_classifier_are_those_of_chance(evaluated):
    assert np.isclose(load(evaluated, "classifier")["numbers"]["accuracy"], 0.1, atol=0.15)


@pytest.mark.parametrize("change", [{"dataset": 5}, {"training_seconds": "long"}, {"epochs": 1.5}, {"machine": []},
                                    {"parameters": {"a": None}},
                                    {"machine": {"processor": {}}}, {"dataset": "\ud800"},
                                    {"images_per_second": float("inf")}])
def test_records_of_wrong_inner_types_are_named(tmp_path, change):
    record = json.loads((ROOT / "saved_models" / "generator.json").read_text(encoding="utf-8"))
    path = tmp_path / "generator.json"
    path.write_text(json.dumps(record))
    assert context.read_record(path)["dataset"] == "mnist"
    path.write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match="generator.json is no record"):
        context.read_record(path)
