"""Every option of every command with values that cannot be: exit status 2, one line on stderr, nothing written.

A table in place of a test for each: what is refused is found by reading down a column. Commands run in this process.
"""
import sys

import numpy as np
import pytest
from conftest import ROOT

import attacks
import data
import evaluate
import export_onnx
import fid
import generate_digits
import saliency
import train
from utils.cli import run_command

MODELS = ROOT / "saved_models"
CLASSIFIER, GENERATOR = str(MODELS / "classifier-tiny.pth"), str(MODELS / "generator.onnx")
NAN, HUGE, LONG = "nan", "9" * 30, "x" * 5000
COUNTS = ["", "0", "-1", "1.5", NAN, "inf", "1e23", HUGE, "9" * 5000, "one", "0x10"]      # of what is counted from 1
SEEDS = ["", "-1", "0.5", NAN, "1e3", HUGE, "9" * 5000]
WEIGHTS = ["", "-1", NAN, "inf", "-inf", "1e23", "x"]
RATES = ["0", *WEIGHTS]
CHOICES = ["", "none of them", LONG]
PATHS = ["", " ", "nothing/here", "~nosuchuser/x", LONG, "a\nb", "a\0b", "\x1b[2J", "\udcff"]    # of what is to be read
FILES = [*PATHS, "folder", "empty", "noise"]                                # where a model file belongs
SETS = [*PATHS, "empty", "noise", "noise.npz", "noise.csv", "noise.png", "folder"]       # where a set of images belongs
OWN = ["", "~nosuchuser/x", LONG, "empty", "noise.npz", "noise.csv", "folder", "nothing", "mnist:test"]    # a data set
NEW_FILES = ["", " ", "folder", "new.txt"]
NEW_FOLDERS = ["", " ", "empty", "empty/below"]

TABLE = {       # command: (its main, words that are sound, {option: values that are not})
    "train": (train.main, ["--dataset", "strokes", "--dry-run"], {
        "--model": CHOICES, "--dataset": OWN, "--data-dir": ["", " "], "--font": FILES, "--out": NEW_FOLDERS, "--epochs": COUNTS,
        "--minutes": RATES, "--per-class": COUNTS, "--seed": SEEDS, "--batch": COUNTS, "--balance": ["2", *WEIGHTS],
        "--diffaugment": ["14", "-1", "1.5", ""], "--lr": [n for n in RATES if n != "1e23"],
        "--label-weight": WEIGHTS, "--g-label-weight": WEIGHTS,
        "--width-weight": WEIGHTS, "--gan-weight": WEIGHTS, "--gan-weight-end": RATES, "--r1": WEIGHTS, "--r1-end": WEIGHTS, "--ema": ["1", *RATES],
        "--warp": WEIGHTS, "--device": CHOICES, "--precision": CHOICES, "--save-every": RATES, "--threads": COUNTS,
        "--adversarial": [None], "--snapshots": COUNTS[1:], "--pen": ["5", *WEIGHTS],
        "--noise": ["2", *WEIGHTS], "--hands": ["2", *WEIGHTS], "--resume": [None]}),
    "train MODEL": (train.main, ["--model", "classifier", "--dataset", "strokes", "--dry-run", "--epochs", "1"], {
        "--minutes": ["1"], **{option: ["0.5"] for option in ("--r1", "--r1-end", "--gan-weight", "--gan-weight-end", "--width-weight")},
        "--diffaugment": ["2"], "--backbone": [None], "--no-backbone": [None]}),
    "train cgan": (train.main, ["--dataset", "strokes", "--dry-run"], {
        "--warp": ["1"], "--gan-weight": ["1"]}),
    "train --adversarial": (train.main, ["--adversarial", "--model", "classifier", "--dataset", "strokes", "--dry-run"], {
        option: ["0.5"] for option in ("--warp", "--pen", "--noise", "--hands")}),
    "train acgan": (train.main, ["--model", "acgan", "--dataset", "strokes", "--dry-run"], {"--plain": [None]}),
    "generate": (generate_digits.main, ["--generator", GENERATOR, "--num_digits", "1", "--out", "new"], {
        "--generator": FILES, "--num_digits": COUNTS, "--digits": ["", ",", "0,,1", "10", "-1", LONG, "\udcff", "a\nb"],
        "--style": CHOICES, "--thickness": ["-0.1", "1.1", NAN, "inf", "", "1e23"], "--seed": [*SEEDS, str(2 ** 64)],
        "--format": CHOICES, "--font": FILES, "--out": ["", " ", "empty", "empty/below", "new.npz"]}),
    "evaluate": (evaluate.main, ["--models", "folder", "--dataset", "strokes"], {
        "--models": ["", " ", "nothing", "empty", LONG], "--dataset": OWN, "--data-dir": ["", " "], "--font": FILES,
        "--out": NEW_FOLDERS, "--only": ["", "ocr,", *CHOICES], "--seeds": COUNTS, "--device": CHOICES,
        "--jobs": ["1001", *COUNTS],
        "--tries": ["0", "5", "", NAN],
        "--per-class": ["", "0", "-1", "10,,20", "1e3", HUGE], "--protocols": CHOICES, "--arms": CHOICES,
        "--steps": ["10", *COUNTS], "--generator-steps": COUNTS, "--report": ["--full", "--show-real", "--only=ocr", "--jobs=2"]}),
    "evaluate script": (evaluate.main, ["--models", "folder", "--dataset", "strokes", "--only", "ocr", "--protocols", "script",
                                        "--arms", "hands"], {"--deformer": FILES}),
    "fid": (fid.main, ["set.npz", "set.npz", "--features", "pixels", "--metrics", "prdc"], {
        "--features": FILES, "--output": ["", "x"], "--input-range": ["", "0-2", "0-1"],
        "--input-size": ["28", *COUNTS],
        "--metrics": ["fid,", *CHOICES], "--floor": SETS, "--train": ["set.npz", ""], "--pairs": NEW_FILES,
        "--bootstrap": ["1", *[n for n in COUNTS if n != "0"]], "--save-stats": NEW_FILES, "--data-dir": ["", " "],
        "--seed": SEEDS}),
    "fid REAL": (fid.main, ["--features", "pixels", "--metrics", "fid"], {
        text: ["set.npz"] for text in SETS if not text.startswith("-")}),
    "fid FAKE": (fid.main, ["--features", "pixels", "set.npz"], {text: [None] for text in SETS}),
    "export": (export_onnx.main, [CLASSIFIER, "--out", "new.onnx"], {
        "--out": NEW_FILES, "--data-dir": ["", " "], "--check": [None], "--on": [*SETS, "set.npz"], "--dataset": OWN, "--int8": ["--check"],
        "--gradient": ["--check", "--int8"]}),
    "export FILE": (export_onnx.main, [], {text: [None] for text in FILES}),
    "export --check": (export_onnx.main, ["--check"], {text: [None] for text in FILES}),
    "attacks": (attacks.main, [CLASSIFIER, "--on", "set.npz", "--n", "2"], {
        "--on": SETS, "--n": [n for n in COUNTS if n != HUGE], "--eps": ["-1", "1001", "", NAN, "inf", "1e23"],
        "--norm": CHOICES,
        "--attacks": ["fgsm,", *CHOICES], "--data-dir": ["", " "], "--seed": SEEDS}),
    "attacks FILE": (attacks.main, ["--on", "set.npz"], {text: [None] for text in FILES}),
    "saliency": (saliency.main, [CLASSIFIER, "set.npz", "--out", "new.png"], {
        "--out": NEW_FILES, "--method": CHOICES, "--class": CHOICES, "--n": ["101", *COUNTS], "--data-dir": ["", " "],
        "--font": FILES}),
    "saliency IMAGES": (saliency.main, [CLASSIFIER], {text: [None] for text in SETS}),
    "data": (data.main, ["strokes", "--out", "new.npz", "--num", "2"], {
        "--data-dir": ["", " "], "--out": ["folder.npz", "new.gif", *NEW_FILES], "--per-class": ["101", "5", *COUNTS],
        "--num": COUNTS, "--seed": [*SEEDS, str(2 ** 64)], "--font": FILES}),
    "data --form": (data.main, ["--form", "01", "--out", "new.png"], {
        "--form": ["", "nothing.txt", "11", LONG], "--copies": COUNTS, "--samples": ["", "nothing", "empty"],
        "--out": ["", " ", "new.gif", "new", "folder"], "strokes": [None]}),
    "data --scan": (data.main, ["--form", "nothing.json", "--out", "new"], {
        "--scan": ["", "nothing.png", "empty", "noise.png", "folder", LONG]}),
    "data NAME": (data.main, [], {text: [None] for text in OWN}),
}
CASES = [(name, option, value) for name, (_, _, options) in TABLE.items() for option, values in options.items()
         for value in dict.fromkeys(values)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder of all cases: some files, sound ones and others."""
    path = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    for name in ("folder", "folder.npz"):
        (path / name).mkdir()
    (path / "empty").touch()
    for name in ("noise", "noise.npz", "noise.csv", "noise.png"):
        (path / name).write_bytes(rng.bytes(500))
    np.savez(path / "set.npz", images=rng.integers(0, 256, (20, 28, 28), np.uint8), labels=np.arange(20) % 10)
    return path


def files(folder):
    return {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*")}


def short(text):
    return repr(text if len(text) < 20 else f"{text[:9]}...")


@pytest.mark.parametrize("name, option, value", CASES, ids=lambda x: "" if x is None else short(x))
def test_bad_values_end_with_one_line_and_write_nothing(name, option, value, folder, monkeypatch, capsys):
    main, words, _ = TABLE[name]
    added = [option] if value is None else [f"{option}={value}"] if option.startswith("--") and value[:2] != "--" else [
        option, value]
    before = files(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [f"{name.split()[0]}.py"])
    with pytest.raises(SystemExit) as end:
        run_command(lambda: main([*words, *added]))
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    assert len(lines[0]) < 8000 and "Traceback" not in lines[0]
    assert files(folder) == before


def test_the_table_has_every_option(monkeypatch):
    """Flags aside (--json, --full, ...), of which no value can be wrong."""
    flags = {"--help", "--no-center", "--dry-run", "--full", "--show-real", "--report", "--infinity",
             "--json", "--alone", "--num-digits"}
    seen = {}

    def parse_args(parser, argv=None, namespace=None):
        seen[name] = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
        raise SystemExit
    monkeypatch.setattr("argparse.ArgumentParser.parse_args", parse_args)
    for name, (main, _, _) in TABLE.items():
        with pytest.raises(SystemExit):
            main([])
    for name, options in seen.items():
        tried = {option for key in TABLE if key.split()[0] == name.split()[0] for option in TABLE[key][2]}
        assert options - flags <= tried, name
