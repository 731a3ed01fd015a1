"""Named data sets: the table of sources, files on disk, mirrors and the faults of a network."""
import gzip
import hashlib
import http.server
import socket
import threading
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_data import check_sound, some_glyphs
from test_readers import idx_bytes, seven

import data
from datasets import download, strokes
from utils.files import UserError


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
    source = replace(download.SOURCES["mnist"], mirrors=(), forms=(tuple(form),))
    monkeypatch.setitem(download.SOURCES, "mnist", source)
    return served


def put(folder, served):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in served.items():
        (folder / name).write_bytes(content)


class Mirror(http.server.BaseHTTPRequestHandler):
    """/good/, /wrong/ (altered), /short/ (truncated), /stall/ (half, then silence), /drip/, /flood/, /gone/ (404),
    /loop/ (redirects to itself), /garbage/ (no HTTP)."""
    served, requests, over = {}, [], None

    def do_GET(self):
        _, kind, name = self.path.split("/")
        self.requests.append(kind)
        content = self.served[name]
        if kind == "gone":
            return self.send_error(404)
        if kind == "garbage":
            return self.wfile.write(b"\x1b[2J\r\n\r\nhello")
        if kind == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            return self.end_headers()
        self.send_response(200)
        if kind != "flood":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write({"good": content, "wrong": content[:-1] + b"?", "short": content[:half],
                          "stall": content[:half], "drip": b"", "flood": content + bytes(1 << 20)}[kind])
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
    monkeypatch.setattr(download, "MAX_DOWNLOAD", 1 << 19)
    monkeypatch.setattr(Mirror, "served", small_mnist)
    monkeypatch.setattr(Mirror, "requests", [])
    monkeypatch.setattr(Mirror, "over", threading.Event())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.handle_error = lambda *args: None  # clients that hang up are part of the test
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    Mirror.over.set()
    server.shutdown()
    server.server_close()


def set_mirrors(monkeypatch, *urls, name="mnist"):
    monkeypatch.setitem(download.SOURCES, name, replace(download.SOURCES[name], mirrors=urls))


# ---- mnist: files and mirrors --------------------------------------------------------------------

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
        for name_or_none in ("mnist", None):
            with pytest.raises(UserError, match=word) as fault:
                data.load(name_or_none, tmp_path)
            assert name in str(fault.value)


@pytest.mark.parametrize("bad", ["wrong", "short", "stall", "drip", "flood", "gone", "loop", "garbage"])
def test_next_mirror_when_one_fails(mirror, small_mnist, tmp_path, monkeypatch, bad):
    set_mirrors(monkeypatch, f"{mirror}{bad}/", f"{mirror}good/")
    start = time.monotonic()
    g = data.load(None, tmp_path)
    assert time.monotonic() - start < 5 and g.name == "mnist" and len(g.x_train) == 165
    requests = Mirror.requests if bad != "loop" else ["loop", *Mirror.requests[-4:]]  # it was asked several times
    assert requests == [bad] + ["good"] * 4  # a mirror that failed is left for good
    assert {p.name: p.read_bytes() for p in (tmp_path / "mnist").iterdir()} == small_mnist  # whole files, nothing else


def test_only_what_is_missing_is_downloaded(mirror, small_mnist, tmp_path, monkeypatch):
    set_mirrors(monkeypatch, f"{mirror}good/")
    put(tmp_path / "mnist", dict(list(small_mnist.items())[:3]))
    assert len(data.load("mnist", tmp_path).x_test) == 60 and Mirror.requests == ["good"]


def test_no_mirror_delivers(mirror, tmp_path, monkeypatch):
    set_mirrors(monkeypatch, f"{mirror}wrong/", f"{mirror}short/")
    with pytest.raises(download.Missing, match="wrong sha256.*truncated"):
        data.load("mnist", tmp_path)
    assert not list(tmp_path.rglob("*"))  # no half-written file stays


@pytest.mark.parametrize("bad", ["loop", "garbage"])
def test_what_a_broken_server_says_stays_on_one_line(mirror, tmp_path, monkeypatch, bad):
    set_mirrors(monkeypatch, f"{mirror}{bad}/")
    with pytest.raises(download.Missing) as fault:
        data.load("mnist", tmp_path)
    assert str(fault.value).isprintable() and "put the files into" in str(fault.value)


def black_hole():
    """A port that takes connections and never says a word."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s


def hanging_look_up(*args, **kwargs):
    time.sleep(3)
    raise socket.gaierror("no such name")


def small_strokes(monkeypatch):
    monkeypatch.setattr(download, "STROKES", {"train": (120, 0), "test": (40, 1)})


@pytest.mark.parametrize("kind", ["refused", "black hole", "hanging names"])
def test_missing_network_is_noticed_soon(small_mnist, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    small_strokes(monkeypatch)
    with black_hole() as s:
        port = 1 if kind == "refused" else s.getsockname()[1]
        set_mirrors(monkeypatch, f"http://127.0.0.1:{port}/", f"http://localhost:{port}/")
        if kind == "hanging names":
            monkeypatch.setattr(socket, "getaddrinfo", hanging_look_up)
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
    assert all(download.ANSWER_SECONDS * len(source.mirrors) < 10 for source in download.SOURCES.values())


# ---- strokes, kuzushiji, arabic ------------------------------------------------------------------

@pytest.mark.parametrize("name", ["strokes", "strokes-arabic"])
def test_strokes_are_drawn_once(tmp_path, monkeypatch, name):
    small_strokes(monkeypatch)
    g = data.load(name, tmp_path)
    check_sound(g)
    assert g.synthetic and not g.notice and (len(g.x_train), len(g.x_val), len(g.x_test)) == (110, 10, 40)
    assert g.classes == strokes.CLASSES["arabic" if "arabic" in name else "digits"]
    monkeypatch.setattr(strokes, "generate", None)
    assert data.load(name, tmp_path).sha256 == g.sha256


@pytest.mark.parametrize("name, classes, first", [("kmnist", 10, "お"), ("k49", 49, "あ")])
def test_official_kuzushiji_files(tmp_path, monkeypatch, name, classes, first):
    x, y = some_glyphs(400, classes)
    arrays = official(x, y, 300)
    folder = tmp_path / name
    folder.mkdir()
    for f in download.SOURCES[name].forms[0]:
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
    with pytest.raises(download.Missing, match=f"no {name}-train-imgs.npz in"):  # named, and never replaced
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
    with pytest.raises(download.Missing, match="csvTestLabel 10k x 1.csv missing"):
        data.load("arabic", tmp_path / "csv")
    (tmp_path / "zip" / "arabic" / "Train Images.zip").unlink()
    set_mirrors(monkeypatch, "http://127.0.0.1:1/", name="arabic")
    with pytest.raises(download.Missing, match="no Train Images.zip in .*Train%20Images.zip"):
        data.load("arabic", tmp_path / "zip")


def test_table_of_sources():
    assert list(download.SOURCES) == ["mnist", "kmnist", "k49", "arabic", "strokes", "strokes-arabic"]
    assert len(download.SOURCES["k49"].classes) == len(set(download.SOURCES["k49"].classes)) == 49
    for source in download.SOURCES.values():
        for f in source.forms[0]:
            kind, _, digest = (f.digest or "md5:" + "0" * 32).partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[kind] and len(f.content or "0" * 64) == 64
