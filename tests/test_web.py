"""The browser page: its modules against the Python ones in Node, and the page itself in a headless Chromium."""
import base64
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import onnx
import pytest
from conftest import ROOT
from PIL import Image

import generate_digits
from datasets import normalize, strokes

WEB = ROOT / "examples" / "web"
MODELS = ROOT / "saved_models"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(not NODE, reason="needs node, 18 or later")


def node(*words, timeout=120):
    """Run a script of the page's tests: what it printed."""
    done = subprocess.run([NODE, *map(str, words)], cwd=WEB, capture_output=True, text=True, timeout=timeout,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def encoded(array):
    return base64.b64encode(np.ascontiguousarray(array, np.uint8).tobytes()).decode()


# ---- modules, in Node ----------------------------------------------------------------------------

def philox():
    cases = [(0, 0, 3, 4), (5, 63, 2, 68), (2 ** 64 - 1, 10 ** 6, 1, 20)]
    return [{"seed": str(seed), "start": start, "n": n, "words": words,
             "values": [str(word) for word in generate_digits.random_words(seed, start, n, words).ravel()]}
            for seed, start, n, words in cases]


def noise():
    cases = []
    for seed, start, n, latent in ((0, 0, 3, 64), (5, 64, 2, 17)):
        values, u = generate_digits.draw_noise(seed, start, n, latent)
        cases.append({"seed": seed, "start": start, "n": n, "latent": latent, "noise": values.ravel().tolist(),
                      "u": u.tolist()})
    return cases


def conditions():
    u, cases = np.array([0, 0.3, 0.999, 1 - 2 ** -53, 0.5]), []
    for style, dial in (("both", None), ("thin", None), ("thick", None), ("both", 0.8)):
        labels, thickness = generate_digits.sample_conditions(u, 7, [3, 1], style, dial)
        cases.append({"u": u.tolist(), "start": 7, "classes": [3, 1], "style": style, "dial": dial,
                      "labels": labels.tolist(), "thickness": thickness.tolist()})
    return cases


def pictures():
    """Digits of the simulator as they may lie on a canvas: large, small, off the centre, on grey, dark on light."""
    rng, cases = np.random.default_rng(0), []
    for i, glyph in enumerate(strokes.generate(6, seed=4)[0]):
        width, height = rng.integers(40, 300, 2).tolist()
        ink = np.asarray(Image.fromarray(glyph).resize((width, height), Image.Resampling.BILINEAR))
        top, right, bottom, left = rng.integers(0, 90, 4)
        cases.append((f"digit {i}", np.pad(ink, ((top, bottom), (left, right))), False))
    light = cases[0][1]
    cases += [("dark on light", 255 - light, False), ("grey on grey", 40 + light // 2, False),
              ("unclear border", np.tile(np.repeat([0, 255], 14).astype(np.uint8), (28, 1)), True),
              ("already a glyph", strokes.generate(1, seed=5)[0][0], False),
              ("blank", np.full((30, 30), 9, np.uint8), False)]
    return cases


def normalized(name, grey, dark_ink):
    try:
        glyph = encoded(normalize.normalize_image(grey, dark_ink)[0])
    except ValueError:
        glyph = None
    return {"name": name, "grey": encoded(grey), "width": grey.shape[1], "height": grey.shape[0], "dark_ink": dark_ink,
            "glyph": glyph}


def resized():
    rng, cases = np.random.default_rng(1), []
    sizes = [(280, 200, 20, 14), (80, 230, 7, 20), (7, 5, 20, 14), (33, 20, 20, 20), (1, 90, 1, 20)]
    for width, height, new_width, new_height in sizes:
        grey = rng.integers(0, 256, (height, width), dtype=np.uint8)
        small = np.asarray(Image.fromarray(grey).resize((new_width, new_height), Image.Resampling.BICUBIC))
        cases.append({"grey": encoded(grey), "width": width, "height": height, "new_width": new_width,
                      "new_height": new_height, "resized": encoded(small)})
    return cases


def metadata():
    paths = [MODELS / "classifier.onnx", MODELS / "cvae.onnx", MODELS / "kkanji49" / "classifier.onnx"]
    return [{"path": str(path), "metadata": {p.key: p.value for p in onnx.load(path).metadata_props}} for path in paths]


def test_modules_give_the_values_of_the_python_ones(tmp_path):
    expected = {"philox": philox(), "noise": noise(), "conditions": conditions(), "resized": resized(),
                "pictures": [normalized(*case) for case in pictures()], "metadata": metadata()}
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    assert node("test/unit.mjs", tmp_path).count("ok: ") == 8
    glyph = np.arange(28 * 20, dtype=int).reshape(20, 28) % 251
    with Image.open(tmp_path / "glyph.png") as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), glyph)
    with zipfile.ZipFile(tmp_path / "glyphs.zip") as archive:
        assert archive.testzip() is None and archive.namelist() == ["あ/glyph.png", "empty"]
        assert archive.read("あ/glyph.png") == (tmp_path / "glyph.png").read_bytes()


def test_build_is_one_folder_that_needs_nothing_else(tmp_path):
    if not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("needs npm install in examples/web")
    node("tools/build.mjs", tmp_path)
    files = json.loads((tmp_path / "files.json").read_text())["files"]
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*files, "files.json"}
    assert {"index.html", "ort/ort-wasm-simd-threaded.wasm", "models/classifier.onnx"} <= set(files)
    for name in files:
        if name.endswith((".html", ".css", ".js")):
            text = (tmp_path / name).read_text(encoding="utf-8")
            assert not re.search(r"""\w://|["'(`]//""", text), f"{name} loads from elsewhere"


# ---- the page, in a browser ----------------------------------------------------------------------

def test_page_in_a_browser(browsed, tmp_path):
    if isinstance(browsed, str):
        pytest.skip(browsed)
    done, folder = browsed
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((folder / "result.json").read_text())
    source = generate_digits.open_generator(MODELS / "generator.onnx")
    images, _, thickness = generate_digits.sample_all(source, 5, seed=5, digits=[3], style="thick")
    for width in ("1280", "390"):
        drawing = result[width]
        raster = np.array(drawing["raster"], np.uint8).reshape(drawing["height"], drawing["width"])
        glyph = normalize.normalize_image(raster, False)[0]
        assert np.abs(glyph.ravel().astype(int) - drawing["glyph"]).max() <= 1
        with zipfile.ZipFile(folder / f"samples-{width}.zip") as archive:
            archive.extractall(tmp_path / width)
        files = sorted((tmp_path / width).glob("*.png"))
        drawn = np.stack([np.asarray(Image.open(file)) for file in files]).astype(int)
        assert np.abs(drawn - images).max() <= 1
        table = (tmp_path / width / "labels.csv").read_text().splitlines()
        assert table[:2] == ["file,label,class,style,thickness", f"00000_3_thick.png,3,3,thick,{thickness[0]:.4f}"]
        assert [line.split(",")[0] for line in table[1:]] == [file.name for file in files]
