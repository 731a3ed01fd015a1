"""fuzz.py: the real files are read, some hundred mutated ones end well, and what ends badly is seen."""
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT

from utils.files import UserError

sys.path.append(str(ROOT / "benchmarks"))
import fuzz

INPUTS = 300


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    fuzz.make_files(folder)
    return folder


@pytest.fixture
def limits(monkeypatch):
    """Beside what the tests before have left in memory."""
    fuzz.reset_peak()
    monkeypatch.setattr(fuzz, "MEMORY", fuzz.peak_memory() + (1 << 30))
    monkeypatch.setattr(fuzz, "SECONDS", 20)


def test_real_files_of_every_kind_are_read(base, tmp_path, limits):
    assert {path.name for path in base.iterdir()} == set(fuzz.READERS)
    for kind, read in fuzz.READERS.items():
        for path in (base / kind).iterdir():
            shutil.copy(path, tmp_path / kind)
            assert fuzz.outcome(read, tmp_path / kind) == ("read", ""), path


def test_mutated_files_are_read_or_refused_with_one_line(base, tmp_path, limits):
    kinds, seen = list(fuzz.READERS), []
    for i in range(INPUTS):
        kind = kinds[i % len(kinds)]
        (tmp_path / kind).write_bytes(fuzz.make_input(base, kind, 42, i))
        result, text = fuzz.outcome(fuzz.READERS[kind], tmp_path / kind)
        assert result in ("read", "refused"), f"input {i} of seed 42, {kind}: {text}"
        seen.append(result)
    assert seen.count("read") > INPUTS / 20 and seen.count("refused") > INPUTS / 4


def test_an_input_is_the_same_again(base):
    assert fuzz.make_input(base, "generator.onnx", 1, 5) == fuzz.make_input(base, "generator.onnx", 1, 5)
    assert fuzz.make_input(base, "generator.onnx", 1, 5) != fuzz.make_input(base, "generator.onnx", 2, 5)


def stay(path):
    while True:
        pass


def take(path):
    return np.ones(1 << 25)                            # 256 MB


def fail(error):
    def read(path):
        raise error
    return read


@pytest.mark.parametrize("read, result", [
    (stay, "hang"), (take, "memory"), (fail(MemoryError()), "memory"), (fail(KeyError("a")), "traceback"),
    (fail(UserError("one line")), "refused"), (fail(OSError("gone")), "refused"),
    (fail(OSError("two\nlines")), "traceback"),
    (lambda path: None, "read")])
def test_outcomes(read, result, limits, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2 if read is stay else 20)
    if read is take:
        monkeypatch.setattr(fuzz, "MEMORY", fuzz.peak_memory() + (1 << 26))
    assert fuzz.outcome(read, "x")[0] == result


def test_the_command_goes_on_after_a_crash_and_keeps_the_file(base, tmp_path, monkeypatch, capsys):
    """The worker here ends at once, as a reader that kills it would make it."""
    monkeypatch.setattr(fuzz, "make_files", lambda folder: shutil.copytree(base, folder, dirs_exist_ok=True))
    monkeypatch.setattr(fuzz.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit) as end:
        fuzz.main(["--inputs", "3", "--kinds", "record.json", "--jobs", "1", "--out", str(tmp_path / "hits")])
    assert end.value.code == 1 and capsys.readouterr().out.splitlines()[1].split() == ["record.json", *"000003"]
    assert sorted(p.name for p in (tmp_path / "hits").glob("*.json")) == [f"record.json-0-{i}.json" for i in range(3)]


def test_the_command_runs_its_inputs_in_a_process(base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "make_files", lambda folder: shutil.copytree(base, folder, dirs_exist_ok=True))
    fuzz.main(["--inputs", "4", "--kinds", "record.json,images.npy", "--jobs", "1", "--out", str(tmp_path / "hits")])
    assert capsys.readouterr().out.splitlines()[3].split()[3:] == ["0"] * 4 and not (tmp_path / "hits").exists()
