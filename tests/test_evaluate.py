"""evaluate.py as people call it, on tiny models; how results are kept, and how README's tables are made of them."""
import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, command
from PIL import Image

import data
import evaluate
from study import report, results_file
from study.sections import Figure, Section, Table
from utils.files import UserError

REAL_FILES = (ROOT / "results" / "results.json", ROOT / "README.md")


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    """A copy of some of the tiny runs, which a test may change."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("copy") / "models",
                           ignore=shutil.ignore_patterns("acgan*", "cvae_epochs", "classifier_epochs"))


@pytest.fixture(scope="module")
def evaluated(models, small_npz, tmp_path_factory):
    """The folder of results of the tiny models: samples, classifier, speed, epochs."""
    out = tmp_path_factory.mktemp("results")
    done = command("evaluate.py", "--models", models, "--dataset", small_npz, "--only",
                   "quality,classifier,epochs,runtime", "--seeds", 1, "--out", out, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/4 quality" in done.stdout and "pictures  13/13" in done.stdout
    return out


def load(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_results_hold_every_figure_with_its_protocol(evaluated, models):
    found = load(evaluated)
    assert list(found["sections"]) == ["quality", "classifier", "epochs", "runtime"]
    for name, section in found["sections"].items():
        p = section["protocol"]
        assert p["dataset_sha256"] == found["dataset"]["sha256"] and p["seeds"] == 1 and p["seconds"] > 0
        assert p["versions"]["torch"] and p["machine"]["processor"] is not None and p["form"] == "quick"
        assert section["numbers"] and section["words"]
    quality = found["sections"]["quality"]
    assert quality["protocol"]["models"].keys() >= {"generator.onnx", "generator.pth", "classifier.onnx"}
    q = quality["numbers"]["models"]["generator"]
    assert quality["numbers"]["n"] == q["n_fake"] == 120
    assert q["fid"]["value"] > quality["numbers"]["floor"]["fid"] > 0      # four epochs make no real digits
    assert 0 <= q["label_accuracy"] <= 1 and 0 <= q["cas"]["mean"] <= 1 and q["copies"]["exact_copies"] == 0
    assert not any("/" in v for v in json.dumps(found).split('"') if v.startswith("/"))      # no local paths


def test_table_of_the_report_is_made_of_the_numbers(evaluated):
    section = load(evaluated)["sections"]["quality"]
    rows = {row[0]: row[1:] for row in section["tables"][0]["rows"]}
    numbers = section["numbers"]
    assert rows["FID"] == [*(f"{numbers['models'][m]['fid']['value']:.3f}" for m in ("generator", "cvae")),
                           f"{numbers['floor']['fid']:.3f}"]
    assert section["tables"][0]["columns"][1:] == ["CGAN", "CVAE", "Real images (floor)"]


def test_missing_models_are_said_in_the_report(evaluated):
    words = " ".join(load(evaluated)["sections"]["quality"]["words"])
    assert "No ACGAN" in words and "No CVAE" not in words
    assert "No ACGAN" in (evaluated / "report.html").read_text(encoding="utf-8")


def test_snapshots_become_a_line_for_each_epoch(evaluated):
    rows = load(evaluated)["sections"]["epochs"]["numbers"]["models"]["generator"]
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4] and rows[-1]["fid"] < rows[0]["fid"]


def test_pictures_lie_beside_the_page(evaluated):
    found = load(evaluated)
    for section in found["sections"].values():
        for picture in section["pictures"]:
            with Image.open(evaluated / picture["file"]) as image:
                image.load()
            assert len(picture["alt"]) > 20
    text = (evaluated / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < report.LIMIT and text.count("<img") == sum(
        len(s["pictures"]) for s in found["sections"].values())
    names = {p["file"] for s in found["sections"].values() for p in s["pictures"]}
    assert {"samples.png", "fid.png", "dial_generator.png", "generator_training.gif", "confusion.png"} <= names
    assert "mistakes.png" not in names                      # real images are shown only when asked for


def test_sections_not_asked_for_are_kept_while_their_models_are_the_same(evaluated, models, small_npz, tmp_path):
    out = shutil.copytree(evaluated, tmp_path / "results")
    before = load(out)
    other = shutil.copytree(models, tmp_path / "models")
    snapshot = next((other / "generator_epochs").glob("*.pth"))
    snapshot.write_bytes(snapshot.read_bytes() + b"changed")
    done = command("evaluate.py", "--models", other, "--dataset", small_npz, "--only", "classifier", "--show-real",
                   "--out", out)
    assert done.returncode == 0, done.stderr
    assert "dropped the earlier section epochs" in done.stdout and "section quality" not in done.stdout
    after = load(out)
    assert list(after["sections"]) == ["quality", "classifier", "runtime"]
    assert after["sections"]["quality"] == before["sections"]["quality"]
    assert not (out / "epochs.png").exists() and (out / "samples.png").is_file()
    assert after["sections"]["classifier"]["numbers"]["errors"] > 0 and (out / "mistakes.png").is_file()
    results = results_file.fresh(data.load(small_npz), [], "cpu")
    lines = results_file.keep(results, out / "results.json", other)
    assert len(lines) == 1 and "real images" in lines[0]               # not passed on without --show-real
    assert list(results["sections"]) == ["quality", "runtime"]
    results_file.write(results, out)
    assert not (out / "mistakes.png").exists() and (out / "samples.png").is_file()


def test_snapshots_may_be_removed_without_a_change_of_what_was_measured():
    before = {"cvae.pth": "1", "cvae_epochs/0001.pth": "2", "cvae_epochs/0002.pth": "3"}
    assert results_file.same_models(before, {"cvae.pth": "1"}) and results_file.same_models(before, before)
    for now in ({"cvae.pth": "4"}, {}, {**before, "cvae_epochs/0002.pth": "5"}, {**before, "acgan.pth": "6"}):
        assert not results_file.same_models(before, now)


def test_section_without_its_input_is_a_line_and_no_failure(models, small_npz, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("classifier.pth", "classifier.json"):
        shutil.copy(models / name, bare)
    done = command("evaluate.py", "--models", bare, "--dataset", small_npz, "--only", "quality,classifier,epochs",
                   "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = load(tmp_path / "out")["sections"]
    assert found["quality"]["words"][0].startswith("Not measured: no generator") and not found["quality"]["numbers"]
    assert "train.py --snapshots" in found["epochs"]["words"][0]
    assert found["classifier"]["numbers"]["accuracy"] > 0.5
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text()


def test_broken_models_end_with_one_line(models, small_npz, tmp_path):
    broken = shutil.copytree(models, tmp_path / "broken")
    (broken / "cvae.onnx").unlink()
    for name in ("generator.onnx", "cvae.pth"):
        (broken / name).write_bytes(b"not a model")
    done = command("evaluate.py", "--models", broken, "--dataset", small_npz, "--only", "quality", "--out", tmp_path)
    assert_one_line_error(done, "generator.onnx", "cvae.pth")


# ---- in process ------------------------------------------------------------------------------------------------------

DATASET = {"name": "ink", "sha256": "ab" * 32, "classes": ["0"], "images": {}, "notes": []}


def a_section(**changes):
    protocol = {"dataset": "ink", "dataset_sha256": "ab" * 32, "test_images": 1234, "models": {}, "form": "quick",
                "seeds": 3, "per_class": [10], "seconds": 60.0, "real_images": False, "versions": {"torch": "2.13"},
                "machine": {"processor": "Abacus", "threads": 2, "device": "cpu"}}
    table = {"title": "Scores", "columns": ["arm", "accuracy"], "rows": [["real | warped", "91.2 %"]], "note": "Sure."}
    return {"title": "OCR", "words": ["News."], "tables": [table], "pictures": [], "numbers": {"a": 1},
            "protocol": protocol, **changes}


def write_results(folder, **sections):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"version": 1, "dataset": DATASET, "sections": sections}))


def test_tables_of_a_text_come_from_the_results(tmp_path):
    write_results(tmp_path, ocr=a_section())
    kana = {"title": "Kana", "columns": ["a"], "rows": [["b"]], "note": ""}
    write_results(tmp_path / "kana", ocr=a_section(tables=[kana]))
    text = "# Title\n<!-- table ocr/1 -->\nold\n<!-- end -->\nbetween\n<!-- table kana/ocr/1 -->\n<!-- end -->\nlast\n"
    filled = results_file.fill_tables(text, tmp_path)
    assert "| real \\| warped | 91.2 % |" in filled and "|---|---:|" in filled and "old" not in filled
    assert "*Scores. Sure. ink (sha256 abababababab), 1,234 test images" in filled and "| b |" in filled
    assert filled.startswith("# Title\n<!-- table ocr/1 -->\n") and filled.endswith("last\n")
    assert "\nbetween\n" in filled
    assert results_file.fill_tables(filled, tmp_path) == filled
    assert results_file.fill_tables("no markers\n", tmp_path / "nowhere") == "no markers\n"


@pytest.mark.parametrize("text, words", [
    ("<!-- table ocr/2 -->\n<!-- end -->", "1 tables"), ("<!-- table ocr -->\n<!-- end -->", "no table ocr"),
    ("<!-- table quality/1 -->\n<!-- end -->", "0 tables"), ("<!-- table ocr/1 -->\n", "not closed"),
    ("<!-- table ocr/1 -->\n<!-- table ocr/1 -->\n<!-- end -->", "not closed")])
def test_tables_that_are_not_there(tmp_path, text, words):
    write_results(tmp_path, ocr=a_section())
    with pytest.raises(UserError, match=words):
        results_file.fill_tables(text, tmp_path)


@pytest.mark.skipif(not all(p.is_file() for p in REAL_FILES), reason="no results.json of a full evaluation here")
def test_tables_of_the_readme_are_those_of_the_results():
    text = REAL_FILES[1].read_text(encoding="utf-8")
    assert results_file.fill_tables(text, ROOT / "results") == text, "run `python evaluate.py --tables`"


@pytest.mark.parametrize("words, says", [
    (["--models", "none"], "none.*train.py"), (["--only", "quality,colour"], "colour.*robustness"),
    (["--per-class", "10,many"], "many"), (["--seeds", "0"], "seeds"), (["--report", "--out", "none"], "results.json"),
    (["--tables", "--out", "none"], "README.md"), (["--device", "tpu"], "tpu")])
def test_mistakes_of_the_user(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        evaluate.main(words)


def test_data_set_comes_from_the_records(trained, tmp_path):
    with pytest.raises(UserError, match="small.*--dataset"):
        evaluate.main(["--models", str(trained)])
    (tmp_path / "a.json").write_text('{"dataset": "mnist"}')
    (tmp_path / "b.json").write_text('{"dataset": "kmnist"}')
    with pytest.raises(UserError, match="kmnist, mnist.*--dataset"):
        evaluate.main(["--models", str(tmp_path)])
    (tmp_path / "b.json").write_text('["mnist"]')
    with pytest.raises(UserError, match="b.json"):
        evaluate.main(["--models", str(tmp_path)])


@pytest.mark.parametrize("text", ["{}", "[1]", "half a li", '{"version": 1, "sections": {"colour": {}}}',
                                  '{"version": 1, "sections": {"ocr": []}}'])
def test_damaged_results_are_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match="results.json is damaged"):
        results_file.read_results(tmp_path / "results.json")


def test_numbers_become_json():
    found = results_file.plain({1: np.float32(0.5), "a": np.array([1, 2]), "b": (np.int64(3), float("nan")), "c": None,
                            "d": [np.bool_(True), float("inf")], "e": np.array([np.nan])})
    assert found == {"1": 0.5, "a": [1, 2], "b": [3, None], "c": None, "d": [True, None], "e": [None]}
    json.dumps(found, allow_nan=False)


def test_part_is_stored_with_its_pictures(tmp_path):
    Image.new("P", (20, 10)).save(tmp_path / "film.gif")
    part = Section("ocr", "OCR", ["News."], [Table("T", ["a"], [["b"]])],
                [Figure("dot", Image.new("RGB", (4, 4)), "a dot"), Figure("film", tmp_path / "film.gif", "a film")],
                {"x": np.float64(1)})
    stored = results_file.store(part, {"seeds": 3}, tmp_path / "out")
    assert [p["file"] for p in stored["pictures"]] == ["dot.png", "film.gif"]
    assert (tmp_path / "out" / "film.gif").read_bytes() == (tmp_path / "film.gif").read_bytes()
    assert stored["numbers"] == {"x": 1.0} and stored["tables"][0]["rows"] == [["b"]]


def test_progress_guesses_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(evaluate.time, "monotonic", lambda: now[0])
    say = evaluate.Progress("1/2 ocr")
    say("arms", 0, 10)
    now[0] += 20
    say("arms", 1, 10)                   # 20 s each, 9 to go
    now[0] += 1
    say("arms", 2, 10)                   # too soon to say again
    say("arms", 10, 10)
    say("done")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "[1/2 ocr, 0:20] arms  1/10  ETA 3:00"
    assert [line.split("] ")[1] for line in lines] == ["arms  0/10", "arms  1/10  ETA 3:00", "arms  10/10", "done"]
