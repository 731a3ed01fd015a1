"""Data sets: the table of sources, mirrors and faults of a network, splits and subsets, style, one's own images."""
import gzip
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_glyph_files import idx_bytes, make_folder, seven

import data
from datasets import download, readers
from utils.files import UserError


def some_glyphs(n=60, classes=10, seed=0):
    """Random images whose ink grows with a per-image width, labels 0, 1, ... in turn."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 28, 28), np.uint8)
    for a in x:
        a[4:24, 8:9 + rng.integers(1, 12)] = rng.integers(128, 256)
    return x, np.arange(n) % classes


def official(x, y, n_train):
    y = y.astype(np.uint8)
    return {"x_train": x[:n_train], "y_train": y[:n_train], "x_test": x[n_train:], "y_test": y[n_train:]}


@pytest.fixture
def small_mnist(monkeypatch):
    """The table's mnist with small files of the official format: {file name: bytes}; no mirrors."""
    x, y = some_glyphs(240)
    arrays = official(x, y, 180)
    served, form = {}, []
    for f in download.MNIST_FILES:
        raw = idx_bytes(arrays[f.part])
        served[f.name] = gzip.compress(raw)
        form.append(f._replace(digest="sha256:" + hashlib.sha256(served[f.name]).hexdigest(),
                               content=hashlib.sha256(raw).hexdigest()))
    source = data.replace(data.SOURCES["mnist"], mirrors=(), forms=(tuple(form),))
    monkeypatch.setitem(data.SOURCES, "mnist", source)
    return served


def put(folder, served):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in served.items():
        (folder / name).write_bytes(content)


class Mirror(http.server.BaseHTTPRequestHandler):
    """/good/, /wrong/ (altered), /short/ (truncated), /stall/ (half, then silence), /drip/, /gone/ (404)."""
    served, asked, over = {}, [], None

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        _, kind, name = self.path.split("/")
        self.asked.append(kind)
        content = self.served[name]
        if kind == "gone":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write({"good": content, "wrong": content[:-1] + b"?", "short": content[:half],
                          "stall": content[:half], "drip": b""}[kind])
        if kind == "stall":
            self.over.wait(20)
        while kind == "drip" and not self.over.wait(0.05):
            self.wfile.write(b".")

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(small_mnist, monkeypatch):
    """Base URL of a local server of small_mnist's files; set_mirrors("wrong", "good") puts its faces into the table."""
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(Mirror, "served", small_mnist)
    monkeypatch.setattr(Mirror, "asked", [])
    monkeypatch.setattr(Mirror, "over", threading.Event())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.handle_error = lambda *args: None  # clients that hang up are part of the test
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    Mirror.over.set()
    server.shutdown()
    server.server_close()


def set_mirrors(monkeypatch, *urls, name="mnist"):
    monkeypatch.setitem(data.SOURCES, name, data.replace(data.SOURCES[name], mirrors=urls))


def check_sound(g):
    """What holds for every data set."""
    for split in ("train", "val", "test"):
        x, y = getattr(g, "x_" + split), getattr(g, "y_" + split)
        assert x.dtype == np.uint8 and x.shape == (len(y), 28, 28) and y.dtype == np.int64 and x.flags.writeable
        assert len(y) == 0 or 0 <= y.min() <= y.max() < len(g.classes)
    assert set(np.unique(g.y_train)) == set(range(len(g.classes)))
    assert len(g.sha256) == 64 and "/" not in g.source.replace("/ ", "") and g.license


# ---- mnist: files and mirrors ----------------------------------------------------------------------------------------

def test_files_on_disk_gz_or_not(small_mnist, tmp_path):
    put(tmp_path / "a" / "mnist", small_mnist)
    put(tmp_path / "b" / "mnist", {k.removesuffix(".gz"): gzip.decompress(v) for k, v in small_mnist.items()})
    a, b = data.load("mnist", tmp_path / "a"), data.load("mnist", tmp_path / "b")
    check_sound(a)
    assert a.sha256 == b.sha256 and (len(a.x_train), len(a.x_val), len(a.x_test)) == (165, 15, 60)
    assert a.name == "mnist" and not a.synthetic and not a.notice and a.warnings == []
    assert data.load(None, tmp_path / "a").sha256 == a.sha256
    assert data.load("mnist", tmp_path / "a", seed=1).sha256 != a.sha256


def test_altered_and_truncated_files_are_errors_that_name_them(small_mnist, tmp_path):
    put(tmp_path / "mnist", small_mnist)
    name = "t10k-images-idx3-ubyte.gz"
    raw = bytearray(gzip.decompress(small_mnist[name]))
    raw[500] ^= 1
    for content, word in ((gzip.compress(raw), "not the official file"), (gzip.compress(raw[:-1]), "truncated"),
                          (small_mnist[name][:200], "cannot read")):
        (tmp_path / "mnist" / name).write_bytes(content)
        for asked in ("mnist", None):
            with pytest.raises(UserError, match=word) as fault:
                data.load(asked, tmp_path)
            assert name in str(fault.value)


@pytest.mark.parametrize("bad", ["wrong", "short", "stall", "drip", "gone"])
def test_next_mirror_when_one_fails(mirror, small_mnist, tmp_path, monkeypatch, bad):
    set_mirrors(monkeypatch, f"{mirror}{bad}/", f"{mirror}good/")
    start = time.monotonic()
    g = data.load(None, tmp_path)
    assert time.monotonic() - start < 5 and g.name == "mnist" and len(g.x_train) == 165
    assert Mirror.asked == [bad] + ["good"] * 4  # a mirror that failed goes to the end of the line
    assert {p.name: p.read_bytes() for p in (tmp_path / "mnist").iterdir()} == small_mnist  # whole files, nothing else


def test_only_what_is_missing_is_downloaded(mirror, small_mnist, tmp_path, monkeypatch):
    set_mirrors(monkeypatch, f"{mirror}good/")
    put(tmp_path / "mnist", dict(list(small_mnist.items())[:3]))
    assert len(data.load("mnist", tmp_path).x_test) == 60 and Mirror.asked == ["good"]


def test_no_mirror_delivers(mirror, tmp_path, monkeypatch):
    set_mirrors(monkeypatch, f"{mirror}wrong/", f"{mirror}short/")
    with pytest.raises(data.Missing, match="wrong sha256.*truncated"):
        data.load("mnist", tmp_path)
    assert [p for p in (tmp_path / "mnist").iterdir()] == []  # no half-written file stays


def black_hole():
    """A port that takes connections and never says a word."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s


def small_strokes(monkeypatch):
    monkeypatch.setattr(download, "STROKES_SIZES", {"train": 120, "test": 40})


@pytest.mark.parametrize("kind", ["refused", "black hole", "hanging names"])
def test_missing_network_is_noticed_soon(small_mnist, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    small_strokes(monkeypatch)
    with black_hole() as s:
        port = 1 if kind == "refused" else s.getsockname()[1]
        set_mirrors(monkeypatch, f"http://127.0.0.1:{port}/", f"http://localhost:{port}/")
        if kind == "hanging names":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kw: time.sleep(3))
        start = time.monotonic()
        with pytest.raises(UserError) as fault:
            data.load("mnist", tmp_path)
        assert time.monotonic() - start < 1.5
        for word in (f"http://127.0.0.1:{port}/train-images-idx3-ubyte.gz", str(tmp_path / "mnist"), "no download"):
            assert word in str(fault.value)
        g = data.load(None, tmp_path)  # nothing was named: strokes, said loudly
    assert g.name == "strokes" and g.synthetic and "STROKES" in g.notice and "MNIST" in g.notice
    check_sound(g)


def test_real_wait_is_below_ten_seconds():
    assert download.ANSWER_SECONDS < 10  # the mirrors are asked all at once


# ---- strokes, kuzushiji, arabic --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["strokes", "strokes-arabic"])
def test_strokes_are_drawn_once(tmp_path, monkeypatch, name):
    small_strokes(monkeypatch)
    g = data.load(name, tmp_path)
    check_sound(g)
    assert g.synthetic and not g.notice and (len(g.x_train), len(g.x_val), len(g.x_test)) == (110, 10, 40)
    from datasets import strokes
    assert g.classes == strokes.CLASSES["arabic" if "arabic" in name else "digits"]
    monkeypatch.setattr(strokes, "generate", None)
    assert data.load(name, tmp_path).sha256 == g.sha256


@pytest.mark.parametrize("name, classes, first", [("kmnist", 10, "お"), ("k49", 49, "あ")])
def test_official_kuzushiji_files(tmp_path, monkeypatch, name, classes, first):
    x, y = some_glyphs(400, classes)
    arrays = official(x, y, 300)
    folder = tmp_path / name
    folder.mkdir()
    for f in data.SOURCES[name].forms[0]:
        np.savez_compressed(folder / f.name, arrays[f.part])
    g = data.load(name, tmp_path)
    check_sound(g)
    assert len(g.classes) == classes and g.classes[0] == first and np.array_equal(g.x_test, x[300:])
    assert "unofficial" in g.source and "kmnist-train-imgs.npz".replace("kmnist", name) in g.warnings[0]
    np.savez(folder / f"{name}-train-labels.npz", np.full(300, classes, np.uint8))
    with pytest.raises(UserError, match="labels"):
        data.load(name, tmp_path)
    (folder / f"{name}-train-imgs.npz").unlink()
    set_mirrors(monkeypatch, "http://127.0.0.1:1/", name=name)
    with pytest.raises(data.Missing, match=f"no {name}-train-imgs.npz in"):  # named, and never replaced
        data.load(name, tmp_path)


def arabic_arrays():
    x = np.stack([np.roll(seven(), i % 3, 1) for i in range(60)])
    y = np.arange(60) % 10
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}


def test_arabic_zips_and_csvs_give_the_same_upright_images(tmp_path, monkeypatch):
    arrays = arabic_arrays()
    for folder in ("zip", "csv"):
        (tmp_path / folder / "arabic").mkdir(parents=True)
    for split, title, sizes in (("train", "Train", "60k"), ("test", "Test", "10k")):
        with zipfile.ZipFile(tmp_path / "zip" / "arabic" / f"{title} Images.zip", "w") as z:
            z.writestr(f"{split}/", "")
            for i in reversed(range(len(arrays["x_" + split]))):
                with z.open(f"{split}/id_{i + 1}_label_{arrays['y_' + split][i]}.png", "w") as f:
                    Image.fromarray(arrays["x_" + split][i]).save(f, "PNG")
            z.writestr(f"{split}/readme.txt", "stray")
        csv = tmp_path / "csv" / "arabic"
        np.savetxt(csv / f"csv{title}Images {sizes} x 784.csv",
                   arrays["x_" + split].transpose(0, 2, 1).reshape(-1, 784), "%d", ",")
        np.savetxt(csv / f"csv{title}Label {sizes} x 1.csv", arrays["y_" + split], "%d")
    a, b = data.load("arabic", tmp_path / "zip"), data.load("arabic", tmp_path / "csv")
    check_sound(a)
    assert a.sha256 == b.sha256 == data.load("arabic", tmp_path / "zip").sha256 and a.classes[7] == "٧"
    assert np.array_equal(a.x_test, arrays["x_test"]) and any("readme.txt" in w for w in a.warnings)
    (tmp_path / "csv" / "arabic" / "csvTestLabel 10k x 1.csv").unlink()
    with pytest.raises(data.Missing, match="csvTestLabel 10k x 1.csv missing"):
        data.load("arabic", tmp_path / "csv")
    (tmp_path / "zip" / "arabic" / "Train Images.zip").unlink()
    set_mirrors(monkeypatch, "http://127.0.0.1:1/", name="arabic")
    with pytest.raises(data.Missing, match="no Train Images.zip in .*Train%20Images.zip"):
        data.load("arabic", tmp_path / "zip")


def test_table_of_sources():
    assert list(data.SOURCES) == ["mnist", "kmnist", "k49", "arabic", "strokes", "strokes-arabic"]
    assert len(data.SOURCES["k49"].classes) == len(set(data.SOURCES["k49"].classes)) == 49
    for source in data.SOURCES.values():
        for f in source.forms[0]:
            kind, _, digest = (f.digest or "md5:" + "0" * 32).partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[kind] and len(f.content or "0" * 64) == 64


# ---- style -----------------------------------------------------------------------------------------------------------

def test_ink_counts_pixels_above_127():
    x = np.zeros((3, 28, 28), np.uint8)
    x[0, :2] = 127
    x[1, :2] = 128
    x[2] = 255
    assert data.ink(x).tolist() == [0, 56, 784] and data.ink(x).dtype == np.int64


def test_thickness_is_the_mid_rank_in_the_class():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 3000)
    amounts = rng.integers(20, 60, 3000) + 100 * y
    table = data.ink_table(amounts, y, 5)
    assert table.shape == (5, 256) and (np.diff(table, axis=1) >= 0).all()
    t = data.thickness(amounts, y, table)
    assert t.dtype == np.float32 and 0 <= t.min() and t.max() <= 1
    for c in range(5):
        inks = amounts[y == c]
        exact = ((inks[:, None] > inks).sum(1) + (inks[:, None] >= inks).sum(1)) / 2 / len(inks)
        assert np.abs(exact - t[y == c]).max() < 1 / 128
        assert np.array_equal(table[c], np.sort(inks)[np.ceil((np.arange(256) + .5) / 256 * len(inks)).astype(int) - 1])
    assert data.thickness(np.array([0, 784]), np.array([3, 3]), table).tolist() == [0, 1]
    assert data.style(np.array([0, .49, .5, 1])).tolist() == [0, 0, 1, 1]


def test_thick_means_more_ink_and_small_classes_work():
    x = np.zeros((4, 28, 28), np.uint8)
    for i, width in enumerate((2, 4, 6, 3)):
        x[i, 4:24, 10:10 + width] = 255
    y = np.array([0, 0, 0, 2])
    table = data.ink_table(x, y, 3)
    t = data.thickness(x, y, table)
    assert t[0] < t[1] == 0.5 < t[2] and t[3] == 0.5  # one image is its own median
    assert table[1].tolist() == data.ink_table(x, np.zeros(4, int), 1)[0].tolist()  # an empty class: all images


# ---- splits and subsets ----------------------------------------------------------------------------------------------

def test_splits_are_stratified_disjoint_and_keep_every_class():
    y = np.repeat(np.arange(6), [1, 2, 3, 30, 300, 3000])
    kept, held = data.hold_out(y, 1 / 12, seed=0)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert np.bincount(y[held], minlength=6)[[0, 2]].tolist() == [0, 1]
    assert len(data.hold_out(np.repeat(np.arange(12), 2), 1 / 12, 0)[1]) == 2
    assert len(data.hold_out(np.arange(12), 0.5, 0)[1]) == 0
    assert np.abs(np.bincount(y[held])[3:] - np.array([30, 300, 3000]) / 12).max() <= 1
    again, other = data.hold_out(y, 1 / 12, seed=0)[1], data.hold_out(y, 1 / 12, seed=1)[1]
    assert np.array_equal(held, again) and not np.array_equal(held, other)
    assert len(data.hold_out(np.arange(60_000) % 7, 1 / 12, 0)[1]) == 5_000


def test_subset_is_seeded_nested_and_leaves_val_and_test(small_mnist, tmp_path):
    put(tmp_path / "mnist", small_mnist)
    g = data.load("mnist", tmp_path)
    few, more = g.subset(3, seed=5), g.subset(6, seed=5)
    assert np.bincount(few.y_train).tolist() == [3] * 10 and np.bincount(more.y_train).tolist() == [6] * 10
    assert few.sha256 == g.subset(3, seed=5).sha256 != g.subset(3, seed=6).sha256
    rows = {a.tobytes() for a in more.x_train}
    assert all(a.tobytes() in rows for a in few.x_train)
    assert few.x_val is g.x_val and few.x_test is g.x_test and "3 training images per class" in few.source
    assert len(g.subset(1000, seed=0).x_train) == len(g.x_train)
    with pytest.raises(UserError):
        g.subset(0, seed=0)


# ---- one's own images ------------------------------------------------------------------------------------------------

def test_own_folder(tmp_path):
    g = data.load(make_folder(tmp_path / "letters"))
    check_sound(g)
    assert g.name == "letters" and g.classes == ["2", "10", "が"] and str(tmp_path) not in g.source
    assert np.bincount(g.y_test, minlength=3).tolist() == [1, 1, 0] and np.bincount(g.y_train)[2] == 1
    assert any("single training image" in w and "が" in w for w in g.warnings)
    assert data.load(str(tmp_path / "letters")).sha256 == g.sha256


def test_own_npz_all_forms(tmp_path):
    x, y = some_glyphs(60)
    np.savez(tmp_path / "a.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:], chars=list("零一二三四五六七八九"))
    np.savez(tmp_path / "b.npz", images=x, labels=y, thickness=np.zeros(60, np.float32), classes=list("abcdefghij"))
    np.savez(tmp_path / "c.npz", x_train=255 - x, y_train=np.array(list("bacdefghij") * 6))
    a, b, c = (data.load(tmp_path / name) for name in ("a.npz", "b.npz", "c.npz"))
    for g in (a, b, c):
        check_sound(g)
    assert a.classes[7] == "七" and np.array_equal(a.x_test, x[40:])
    assert len(b.x_test) == 10 and len(b.x_train) + len(b.x_val) == 50
    every = {s.tobytes() for s in x}
    assert all(s.tobytes() in every for s in (*c.x_train, *c.x_val, *c.x_test)) and "dark ink" in c.warnings[0]
    np.savez(tmp_path / "gap.npz", images=x, labels=np.where(y == 3, 4, y), classes=list("abcdefghij"))
    assert data.load(tmp_path / "gap.npz").classes == list("abcefghij")


@pytest.mark.parametrize("arrays, word", [
    ({"x_train": np.zeros((4, 28, 28), np.uint8)}, "expected x_train y_train"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(3)}, "y_train has shape"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "chars": list("abc")}, "labels must be"),
    ({"x_train": np.zeros((4, 28, 28)), "y_train": np.arange(4) - 1, "chars": list("abcd")}, "labels must be"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "chars": list("abca")}, "same name"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.zeros(4, int)}, "from 2 to"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "x_test": np.zeros((1, 28, 28))}, "without"),
    ({"x_train": np.zeros((4, 29)), "y_train": np.arange(4)}, "no array of images")])
def test_own_npz_faults(tmp_path, arrays, word):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=word):
        data.load(tmp_path / "a.npz")


def test_own_csv(tmp_path):
    x, y = some_glyphs(40, 4)
    with open(tmp_path / "letters.csv", "w", encoding="utf-8") as f:
        for a, label in zip(x, y):
            f.write("アイウエ"[label] + "," + ",".join(map(str, a.ravel())) + "\n")
    g = data.load(tmp_path / "letters.csv")
    check_sound(g)
    assert g.name == "letters" and g.classes == list("アイウエ")
    assert data.load(tmp_path / "letters.csv").sha256 == g.sha256  # from the cache


def test_unknown_name_lists_what_is_possible():
    with pytest.raises(UserError, match="no data set 'minst': choose mnist, kmnist"):
        data.load("minst")


def test_many_classes_of_one_image_each():
    n = 5000
    x, y = some_glyphs(n, n)
    g = data.split_up("many", [str(i) for i in range(n)], x, y, None, None, 0, source="s", license="l", warnings=[])
    assert len(g.x_train) == n and len(g.x_val) == len(g.x_test) == 0 and "5,000 classes with a single" in g.warnings[0]
    assert (data.thickness(g.x_train, g.y_train, data.ink_table(g.x_train, g.y_train, n)) == 0.5).all()


# ---- read_images -----------------------------------------------------------------------------------------------------

def test_read_images_of_every_kind(small_mnist, tmp_path):
    put(tmp_path / "mnist", small_mnist)
    x, y = some_glyphs(20)
    t = np.linspace(0, 1, 20, dtype=np.float32)
    np.savez(tmp_path / "made.npz", images=255 - x, labels=y, thickness=t, classes=list("abcdefghij"))
    images, labels, thickness, classes = data.read_images(tmp_path / "made.npz")
    assert np.array_equal(images, 255 - x)  # measured as it is, whatever it is
    assert np.array_equal(labels, y) and np.array_equal(thickness, t) and classes == list("abcdefghij")
    np.savez(tmp_path / "split.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    images, labels, thickness, classes = data.read_images(tmp_path / "split.npz")
    assert len(images) == 20 and labels.dtype == np.int64 and thickness is None and classes is None
    np.savez(tmp_path / "official.npz", x)
    np.save(tmp_path / "plain.npy", x)
    (tmp_path / "idx").write_bytes(idx_bytes(x))
    for name in ("official.npz", "plain.npy", "idx"):
        images, *rest = data.read_images(tmp_path / name)
        assert np.array_equal(images, x) and rest == [None] * 3
    g = data.load("mnist", tmp_path)
    for split in ("train", "val", "test"):
        images, labels, thickness, classes = data.read_images(f"mnist:{split}", tmp_path)
        assert np.array_equal(images, getattr(g, "x_" + split)) and len(labels) == len(thickness) == len(images)
    assert len(data.read_images(f"{tmp_path / 'made.npz'}:test")[0]) == 3


def test_read_images_of_folders(tmp_path):
    x, y = some_glyphs(6, 2)
    for i in range(6):
        (tmp_path / "classes" / "ab"[y[i]]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.fromarray(x[i]).save(tmp_path / "classes" / "ab"[y[i]] / f"{i}.png")
        Image.fromarray(x[i]).save(tmp_path / "flat" / f"{i}.png")
    images, labels, _, classes = data.read_images(tmp_path / "classes")
    assert np.array_equal(images, x[[0, 2, 4, 1, 3, 5]]) and labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert classes == ["a", "b"]
    images, labels, _, classes = data.read_images(tmp_path / "flat")
    assert np.array_equal(images, x) and labels is None and classes is None
    with pytest.raises(UserError, match="no sub-folders"):
        data.load(tmp_path / "flat")
    (tmp_path / "flat" / "7.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="7.png"):
        data.read_images(tmp_path / "flat")
    for missing in ("nothing.npz", "mnist:all", tmp_path / "gone"):
        with pytest.raises(UserError, match="no images at"):
            data.read_images(missing)


# ---- the command, and what is imported -------------------------------------------------------------------------------

def command(*args, **env):
    return subprocess.run([sys.executable, *args], cwd=Path(data.__file__).parent, env={**os.environ, **env},
                          capture_output=True, text=True, encoding="utf-8")


def test_summary_and_one_line_error(tmp_path):
    make_folder(tmp_path / "letters")
    done = command("data.py", str(tmp_path / "letters"), PYTHONIOENCODING="utf-8")
    assert done.returncode == 0 and "が" in done.stdout and "sha256" in done.stdout and "note:" in done.stdout
    done = command("data.py", str(tmp_path / "nothing"))
    assert done.returncode == 2 and done.stderr.startswith("error: no data set") and done.stderr.count("\n") == 1


def test_no_torch():
    assert command("-c", "import data, sys; assert 'torch' not in sys.modules").returncode == 0


# ---- real data, where it is ------------------------------------------------------------------------------------------

REAL = Path(os.environ.get("GLYPHS_DATA", "nowhere"))


def needs(*names):
    missing = [name for name in names if not (REAL / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"$GLYPHS_DATA holds no {', '.join(missing)}")


@needs("mnist")
def test_real_mnist():
    start = time.monotonic()
    g = data.load()
    assert time.monotonic() - start < 5
    check_sound(g)
    assert (g.name, len(g.x_train), len(g.x_val), len(g.x_test)) == ("mnist", 55_000, 5_000, 10_000)
    assert len({a.tobytes() for x in (g.x_train, g.x_val, g.x_test) for a in x}) == 70_000  # disjoint
    t = data.thickness(g.x_train, g.y_train, data.ink_table(g.x_train, g.y_train, 10))
    assert abs(t.mean() - 0.5) < 0.001 and abs(data.style(t).mean() - 0.5) < 0.02
    seven_mean = g.x_train[g.y_train == 7].mean(0)
    assert seven_mean[6:12, 6:22].mean() > 1.3 * seven_mean[18:24, 6:22].mean()  # upright: the bar of a 7 is at the top


@needs("mnist")
def test_real_digits_from_pictures_come_back_as_mnist_made_them(tmp_path):
    g = data.load("mnist")
    for i, a in enumerate(g.x_test[:60]):
        big = np.pad(np.asarray(Image.fromarray(a).resize((112, 112), Image.Resampling.BICUBIC)), ((40, 5), (i, 80)))
        (tmp_path / str(g.y_test[i])).mkdir(exist_ok=True)
        Image.fromarray(255 - big if i % 2 else big).save(tmp_path / str(g.y_test[i]) / f"{i:02d}.png")
    own, labels, classes, _, notes = data.read_folder(tmp_path)
    order = np.argsort(g.y_test[:60], kind="stable")
    assert [classes[i] for i in labels] == [str(i) for i in g.y_test[order]]
    assert np.abs(own.astype(int) - g.x_test[order]).mean() < 12  # about 60 without the centring
    assert "30 images are dark ink" in notes[0]


@needs("kkanji49.npz", "arabic/Test Images.zip", "kmnist/kmnist-test-imgs.npz")
def test_real_others():
    g = data.load(REAL / "kkanji49.npz")
    check_sound(g)
    assert len(g.classes) == 49 and g.warnings == [] and len(g.x_test) == 5_767
    x, y, notes = readers.read_labelled_zip(REAL / "arabic" / "Test Images.zip", 10)
    assert np.bincount(y).tolist() == [1000] * 10 and notes == [] and x.shape == (10_000, 28, 28)
    assert len(data.read_images(REAL / "kmnist" / "kmnist-test-imgs.npz")[0]) == 10_000
    with pytest.raises(data.Missing, match="no Train Images.zip"), pytest.MonkeyPatch.context() as patch:
        set_mirrors(patch, "http://127.0.0.1:1/", name="arabic")
        data.load("arabic", REAL)
