"""The examples, run as an app developer runs them: without torch, without this project's modules."""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import data
from datasets import strokes
from utils import onnx_session

EXAMPLES = ROOT / "examples"


def run(folder, *words):
    """infer_numpy.py in an empty folder, where importing torch or a module of the project fails."""
    blocked = folder / "blocked"
    blocked.mkdir(exist_ok=True)
    for module in ["torch", *(path.stem for path in ROOT.glob("*.py"))]:
        (blocked / f"{module}.py").write_text("raise ImportError('an example must not import this')")
    return subprocess.run([sys.executable, EXAMPLES / "infer_numpy.py", *map(str, words)], cwd=folder, text=True,
                          capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(blocked)})


@pytest.fixture(scope="module")
def example():
    """The module, to be called in this process."""
    spec = importlib.util.spec_from_file_location("infer_numpy", EXAMPLES / "infer_numpy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Three digits drawn by the example, uint8 [28, 84], and the folder."""
    folder = tmp_path_factory.mktemp("examples")
    done = run(folder, "--draw", "7,0,3", "--style", "thick", "--seed", 5, "--out", "digits.png")
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(folder / "digits.png")), folder


def test_draws_by_class_style_and_seed(drawn, example):
    image, folder = drawn
    assert image.shape == (28, 84) and image.dtype == np.uint8 and image.max() >= 252          # MNIST's full ink
    for name, *more in (("same", "--style", "thick", "--seed", "5"), ("thin", "--style", "thin", "--seed", "5"),
                        ("other", "--style", "thick", "--seed", "6")):
        example.main(["--draw", "7,0,3", *more, "--out", str(folder / f"{name}.png")])
    same, thin, other = (np.asarray(Image.open(folder / f"{name}.png")) for name in ("same", "thin", "other"))
    assert np.array_equal(same, image) and not np.array_equal(other, image)
    assert (thin > 127).sum() < 0.8 * (image > 127).sum()


def test_reads_pictures_of_any_size_and_polarity(drawn):
    image, folder = drawn
    seven, three = image[:, :28], image[:, 56:]
    Image.fromarray(seven).save(folder / "plain.png")
    large = np.full((200, 300), 230, np.uint8)                           # dark on grey paper, in a corner
    large[100:184, 200:284] = 230 - np.asarray(Image.fromarray(three).resize((84, 84))) * 0.8
    Image.fromarray(large).save(folder / "large.jpg")
    clear = np.full((28, 28, 4), 255, np.uint8)                          # white ink on nothing
    clear[..., 3] = seven
    Image.fromarray(clear).save(folder / "clear.png")
    done = run(folder, "plain.png", "large.jpg", "clear.png")
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert [words[:2] for words in said] == [["plain.png:", "7"], ["large.jpg:", "3"], ["clear.png:", "7"]]
    assert all(50 < float(words[2].strip("(")) <= 100 for words in said)


def test_faults_are_one_line(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (40, 40), 200).save("blank.png")
    Path("text.png").write_text("no picture")
    for words, expected in ((["blank.png"], "blank"), (["text.png"], "text.png"), (["none.png"], "none.png"),
                            (["--draw", "7,x"], "0,1,2,3,4,5,6,7,8,9"), ([], "--draw"), (["--draw", "7", "--seed", "-1"], "--seed -1"),
                            (["--draw", "7", "--style", "bold"], "--style")):
        with pytest.raises(SystemExit) as end:
            example.main(words)
        lines = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and expected in lines[0]


def test_other_hands_write_a_character_with_the_pen_that_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    import hands_numpy
    monkeypatch.chdir(tmp_path)
    glyphs = strokes.generate(2, seed=3, kind="random-9-1", labels=np.array([2, 5]))[0]
    for name, glyph in zip(("a.png", "b.png"), glyphs):
        Image.fromarray(255 - glyph).resize((200, 200)).save(name)
    sheets = {}
    for name, *words in (("sheet",), ("same",), ("thin", "--width", "1.5"), ("other", "--seed", "1")):
        hands_numpy.main(["a.png", "b.png", "--num", "6", "--out", f"{name}.png", *words])
        sheet = 255 - np.asarray(Image.open(f"{name}.png"))
        assert sheet.shape == (2 * 28, 7 * 28)
        sheets[name] = sheet.reshape(2, 28, 7, 28).transpose(0, 2, 1, 3)                    # [picture, support and hands]
    support, hands = sheets["sheet"][:, 0], sheets["sheet"][:, 1:]
    assert hands_numpy.pen_width(support[0]) == pytest.approx(data.pen_width(support)[0])
    assert np.array_equal(sheets["same"], sheets["sheet"]) and np.array_equal(sheets["other"][:, 0], support)
    assert len({hand.tobytes() for hand in [*hands[0], *sheets["other"][0]]}) == 6 + 7      # no two alike, nor as the support
    wide, thin = (data.pen_width(sheets[name][0, 1:]).mean() for name in ("sheet", "thin"))
    assert abs(wide - data.pen_width(support)[0]) < 0.5 and thin < wide - 0.6
    apart = [abs(hands[i] / 255.0 - support[j] / 255.0).mean() for i in (0, 1) for j in (0, 1)]
    assert max(apart[0], apart[3]) < min(apart[1], apart[2]), "each still looks most like its own"
    capsys.readouterr()
    for words in (["none.png"], ["a.png", "--width", "0"], ["a.png", "--out", "no/such/place.png"], ["a.png", "--num", "101"],
                  ["a.png", "--seed", "-3"]):
        with pytest.raises(SystemExit) as end:
            hands_numpy.main(words)
        assert end.value.code == 2 and capsys.readouterr().err.startswith("error: ")


def test_readme_names_all_of_the_contract():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for kind, ports in onnx_session.CONTRACT.items():
        for direction, names in zip(("in", "out"), ports):
            for name, (element, shape) in names.items():
                element = {"float": "float32"}.get(element[7:-1], element[7:-1])
                assert f"| {direction} | `{name}` | {element} [batch" in text, name
        assert all(f"| `{key}` |" in text for key in onnx_session.METADATA[kind])


def has_node_runtime():
    test = ["node", "--input-type=module", "-e", "import 'onnxruntime-node'"]
    return bool(shutil.which("node")) and subprocess.run(test, cwd=EXAMPLES, capture_output=True, check=False).returncode == 0


def test_javascript(tmp_path):
    if not has_node_runtime():
        pytest.skip("needs node, and in examples/: npm install")
    said = [subprocess.run(["node", EXAMPLES / "infer.mjs", *words], cwd=tmp_path, capture_output=True, text=True,
                           check=False)
            for words in (("7", "0.9", "5"), ("3", "0.1", "5"), ("10",), ("7", "thick"))]
    assert "drawn as 7, read as 7" in said[0].stdout and "drawn as 3, read as 3" in said[1].stdout, said[0].stderr
    assert said[2].returncode != 0 and "out of" in said[2].stderr        # label 10 of ten classes
    assert said[3].returncode == 2 and said[3].stderr.startswith("error: ")
    image = np.asarray(Image.open(tmp_path / "digit.pgm"))
    assert image.shape == (28, 28) and image.max() > 200
