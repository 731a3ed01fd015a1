"""Data sets: splits and subsets, style, one's own images, sets of images for measuring, the command."""
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_readers import idx_bytes, make_folder

import data
from datasets import download, readers, strokes
from utils.files import UserError


def some_glyphs(n=60, classes=10, seed=0):
    """Random images whose ink grows with a per-image width, labels 0, 1, ... in turn."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 28, 28), np.uint8)
    for a in x:
        a[4:24, 8:9 + rng.integers(1, 12)] = rng.integers(128, 256)
    return x, np.arange(n) % classes


def check_sound(g):
    """What holds for every data set."""
    for split in ("train", "val", "test"):
        x, y = getattr(g, "x_" + split), getattr(g, "y_" + split)
        assert x.dtype == np.uint8 and x.shape == (len(y), 28, 28) and y.dtype == np.int64 and x.flags.writeable
        assert len(y) == 0 or 0 <= y.min() <= y.max() < len(g.classes)
    assert set(np.unique(g.y_train)) == set(range(len(g.classes)))
    assert len(g.sha256) == 64 and "/" not in g.source.replace("/ ", "") and g.license


# ---- style ---------------------------------------------------------------------------------------

def bars(widths, length=20):
    """Upright bars of whole widths in pixels and one length: uint8 [N, 28, 28]."""
    x = np.zeros((len(widths), 28, 28), np.uint8)
    for image, width in zip(x, widths):
        image[4:4 + length, 4:4 + width] = 255
    return x


def test_thickness_is_the_mid_rank_of_the_pen_in_the_class():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 3000)
    sizes = rng.integers(1, 12, 3000) + 2 * y
    x = bars(sizes)
    table = data.width_table(x, y, 5)
    assert table.shape == (5, 256) and table.dtype == np.float32 and (np.diff(table, axis=1) >= 0).all()
    t = data.thickness(x, y, table)
    assert t.dtype == np.float32 and 0 <= t.min() and t.max() <= 1
    for c in range(5):
        of_class, widths = sizes[y == c], np.sort(data.pen_width(x[y == c]))
        exact = ((of_class[:, None] > of_class).sum(1) + (of_class[:, None] >= of_class).sum(1)) / 2 / len(of_class)
        assert np.abs(exact - t[y == c]).max() < 1 / 128
        assert np.array_equal(table[c], widths[np.ceil((np.arange(256) + .5) / 256 * len(widths)).astype(int) - 1])
    assert data.thickness(bars([0, 24]), np.array([3, 3]), table).tolist() == [0, 1]
    assert data.style(np.array([0, .49, .5, 1])).tolist() == [0, 0, 1, 1]


def test_thick_means_the_pen_and_not_the_size():
    x = np.concatenate([bars([2, 4, 6]), bars([3])])
    y = np.array([0, 0, 0, 2])
    table = data.width_table(x, y, 3)
    t = data.thickness(x, y, table)
    assert t[0] < t[1] == 0.5 < t[2] and t[3] == 0.5  # one image is its own median
    assert table[1].tolist() == data.width_table(x, np.zeros(4, int), 1)[0].tolist()  # an empty class: all images
    large, small = bars([3], 24), bars([5], 12)
    assert (large > 0).sum() > (small > 0).sum()
    assert data.thickness(large, [0], table) < data.thickness(small, [0], table)


def test_thickness_of_the_last_of_many_classes():
    """One number line holds the quantiles of all classes: those of the last lie far out."""
    n = 50_000
    table = np.tile(data.width_table(bars([2, 4, 6]), np.zeros(3, int), 1), (n, 1))
    x = bars([2, 4, 6, 5])
    assert np.array_equal(data.thickness(x, np.full(4, n - 1), table), data.thickness(x, np.zeros(4, int), table))


# ---- splits and subsets --------------------------------------------------------------------------

def test_splits_are_stratified_disjoint_and_keep_every_class():
    y = np.repeat(np.arange(6), [1, 2, 3, 30, 300, 3000])
    kept, held = data.stratified_split(y, 1 / 12, seed=0)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert np.bincount(y[held], minlength=6)[[0, 2]].tolist() == [0, 1]
    assert len(data.stratified_split(np.repeat(np.arange(12), 2), 1 / 12, 0)[1]) == 2
    assert len(data.stratified_split(np.arange(12), 0.5, 0)[1]) == 0
    assert np.abs(np.bincount(y[held])[3:] - np.array([30, 300, 3000]) / 12).max() <= 1
    again, other = data.stratified_split(y, 1 / 12, seed=0)[1], data.stratified_split(y, 1 / 12, seed=1)[1]
    assert np.array_equal(held, again) and not np.array_equal(held, other)
    assert len(data.stratified_split(np.arange(60_000) % 7, 1 / 12, 0)[1]) == 5_000


def test_subset_is_seeded_nested_and_leaves_val_and_test():
    g = data.split_up("some", list("0123456789"), *some_glyphs(240), None, None, 0, source="s", license="l", warnings=[])
    few, more = g.subset(3, seed=5), g.subset(6, seed=5)
    assert np.bincount(few.y_train).tolist() == [3] * 10 and np.bincount(more.y_train).tolist() == [6] * 10
    assert few.sha256 == g.subset(3, seed=5).sha256 != g.subset(3, seed=6).sha256
    rows = {a.tobytes() for a in more.x_train}
    assert all(a.tobytes() in rows for a in few.x_train)
    assert few.x_val is g.x_val and few.x_test is g.x_test and "3 training images per class" in few.source
    assert len(g.subset(1000, seed=0).x_train) == len(g.x_train)


# ---- one's own images ----------------------------------------------------------------------------

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
    ({"x_train": np.zeros((4, 28, 28), np.uint8)}, "lacks images or their labels.*x_train y_train"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(3)}, "labels or thickness of shape"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "chars": list("abc")}, "labels must be"),
    ({"x_train": np.zeros((4, 28, 28)), "y_train": np.arange(4) - 1, "chars": list("abcd")}, "labels must be"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "chars": list("abca")}, "same name"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.zeros(4, int)}, "possible are 2 to"),
    ({"x_train": np.zeros((4, 28, 28), np.uint8), "y_train": np.arange(4), "x_test": np.zeros((1, 28, 28))}, "lacks"),
    ({"x_train": np.zeros((4, 29)), "y_train": np.arange(4)}, "no array of images")])
def test_own_npz_faults(tmp_path, arrays, word):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=word):
        data.load(tmp_path / "a.npz")


def test_own_csv(tmp_path):
    x, y = some_glyphs(40, 4)
    with open(tmp_path / "letters.csv", "w", encoding="utf-8") as f:
        f.writelines("アイウエ"[label] + "," + ",".join(map(str, a.ravel())) + "\n" for a, label in zip(x, y))
    g = data.load(tmp_path / "letters.csv")
    check_sound(g)
    assert g.name == "letters" and g.classes == list("アイウエ")
    assert data.load(tmp_path / "letters.csv").sha256 == g.sha256  # from the cache


@pytest.mark.parametrize("name, data_dir, words", [
    ("minst", None, "no data set 'minst': choose mnist, kmnist"), ("mnist.npz", None, "no data set 'mnist.npz'"),
    ("", None, "empty name"), ("mnist", "", "empty name"), (None, "", "empty name")])
def test_names_of_nothing_are_errors(name, data_dir, words, tmp_path, monkeypatch):
    make_folder(tmp_path)
    monkeypatch.chdir(tmp_path)  # an empty path is never the current folder
    with pytest.raises(UserError, match=words):
        data.load(name, data_dir)


def test_many_classes_of_one_image_each():
    n = 5000
    x, y = some_glyphs(n, n)
    g = data.split_up("many", [str(i) for i in range(n)], x, y, None, None, 0, source="s", license="l", warnings=[])
    assert len(g.x_train) == n and len(g.x_val) == len(g.x_test) == 0 and "5,000 classes with a single" in g.warnings[0]
    assert (data.thickness(g.x_train, g.y_train, data.width_table(g.x_train, g.y_train, n)) == 0.5).all()


# ---- read_images ---------------------------------------------------------------------------------

def test_read_images_of_every_kind(tmp_path):
    x, y = some_glyphs(20)
    t = np.linspace(0, 1, 20, dtype=np.float32)
    np.savez(tmp_path / "drawn.npz", images=255 - x, labels=y, thickness=t, classes=list("abcdefghij"))
    images, labels, thickness, classes = data.read_images(tmp_path / "drawn.npz")
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
    g = data.load(tmp_path / "split.npz")
    for split in ("train", "val", "test"):
        images, labels, thickness, classes = data.read_images(f"{tmp_path / 'split.npz'}:{split}")
        assert np.array_equal(images, getattr(g, "x_" + split)) and len(labels) == len(thickness) == len(images)


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
    with pytest.raises(UserError, match="one sub-folder of images per class"):
        data.load(tmp_path / "flat")
    (tmp_path / "flat" / "7.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="7.png"):
        data.read_images(tmp_path / "flat")
    for missing in ("nothing.npz", "mnist:all", tmp_path / "gone"):
        with pytest.raises(UserError, match="no images at"):
            data.read_images(missing)


# ---- the command, and what is imported -----------------------------------------------------------

def test_summary(tmp_path, capsys):
    make_folder(tmp_path / "letters")
    data.main([str(tmp_path / "letters")])
    shown = capsys.readouterr().out
    assert "が" in shown and "sha256" in shown and "note:" in shown


def test_any_data_set_into_one_file(tmp_path, capsys):
    make_folder(tmp_path / "letters")
    g = data.load(tmp_path / "letters")
    for name in ("sheet.png", "letters.npz"):
        data.main([str(tmp_path / "letters"), "--out", str(tmp_path / name)])
        assert str(tmp_path / name) in capsys.readouterr().out
    assert min(Image.open(tmp_path / "sheet.png").size) > 3 * 28
    again = data.load(tmp_path / "letters.npz")
    assert again.classes == g.classes and np.array_equal(again.x_test, g.x_test)
    assert len(again.x_train) + len(again.x_val) == len(g.x_train) + len(g.x_val)
    for path in (tmp_path / "letters").glob("*/*"):                       # one of each class: nothing is held out
        if path != min(path.parent.iterdir()):
            path.unlink()
    data.main([str(tmp_path / "letters"), "--out", str(tmp_path / "few.npz")])
    few = data.load(tmp_path / "few.npz")
    assert len(few.x_train) == len(few.classes) and len(few.x_test) == 0


def test_simulators_draw_anew(tmp_path):
    out = tmp_path / "some.npz"
    data.main(["strokes-arabic", "--num", "30", "--seed", "4", "--out", str(out)])
    with np.load(out) as z:
        images, labels = strokes.generate(30, seed=4, kind="arabic")
        assert (z["images"] == images).all() and (z["labels"] == labels).all()
        assert list(z["classes"]) == list("٠١٢٣٤٥٦٧٨٩")
    data.main(["strokes", "--num", "40", "--per-class", "3", "--out", str(tmp_path / "sheet.png")])
    assert min(Image.open(tmp_path / "sheet.png").size) > 3 * 28


@pytest.mark.parametrize("words, message", [
    (["strokes", "--out", "a.gif"], "end in .png or .npz"), (["strokes", "--num", "0", "--out", "a.npz"], "above 0"),
    (["random-1", "--num", "9", "--out", "a.npz"], "2 to 5,000"), (["random-9", "--num", "9"], "file with --out"),
    (["random-9", "--out", "a.npz"], "no data set 'random-9'"),
    (["strokes", "--num", "9"], "file with --out"), (["mnist", "--seed", "9", "--out", "a.npz"], "strokes"),
    ([""], "empty name"), (["strokes", "--data-dir", ""], "empty")])
def test_mistakes_are_errors(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        data.main(words)
    assert not list(tmp_path.iterdir())


def test_command_and_what_it_imports(tmp_path):
    done = subprocess.run([sys.executable, data.__file__, str(tmp_path / "nothing")], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: no data set") and done.stderr.count("\n") == 1
    code = "import data, sys; sys.exit('torch' in sys.modules or 'utils.figures' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(data.__file__).parent, check=True)


# ---- real data, where it is ----------------------------------------------------------------------

REAL = Path(os.environ.get("GLYPHS_DATA", "nowhere"))


def needs(*names):
    missing = [name for name in names if not (REAL / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"$GLYPHS_DATA holds no {', '.join(missing)}")


@pytest.fixture(scope="module")
def real_mnist():
    start = time.monotonic()
    glyphs = data.load()
    assert time.monotonic() - start < 5
    return glyphs


@needs("mnist")
def test_real_mnist(real_mnist):
    g = real_mnist
    check_sound(g)
    assert (g.name, len(g.x_train), len(g.x_val), len(g.x_test)) == ("mnist", 55_000, 5_000, 10_000)
    assert len({a.tobytes() for x in (g.x_train, g.x_val, g.x_test) for a in x}) == 70_000  # disjoint
    t = data.thickness(g.x_train, g.y_train, data.width_table(g.x_train, g.y_train, 10))
    assert abs(t.mean() - 0.5) < 0.001 and abs(data.style(t).mean() - 0.5) < 0.02
    seven_mean = g.x_train[g.y_train == 7].mean(0)
    assert seven_mean[6:12, 6:22].mean() > 1.3 * seven_mean[18:24, 6:22].mean()  # upright: the bar of a 7 is at the top


@needs("mnist")
def test_real_digits_from_pictures_come_back_as_mnist_made_them(real_mnist, tmp_path):
    g = real_mnist
    for i, a in enumerate(g.x_test[:60]):
        big = np.pad(np.asarray(Image.fromarray(a).resize((112, 112), Image.Resampling.BICUBIC)), ((40, 5), (i, 80)))
        (tmp_path / str(g.y_test[i])).mkdir(exist_ok=True)
        Image.fromarray(255 - big if i % 2 else big).save(tmp_path / str(g.y_test[i]) / f"{i:02d}.png")
    images, labels, classes, _, notes = readers.read_folder(tmp_path)
    order = np.argsort(g.y_test[:60], kind="stable")
    assert [classes[i] for i in labels] == [str(i) for i in g.y_test[order]]
    assert np.abs(images.astype(int) - g.x_test[order]).mean() < 12  # about 60 without the centring
    assert "30 images are dark ink" in notes[0]


@needs("kkanji49.npz", "arabic/Test Images.zip", "kmnist/kmnist-test-imgs.npz")
def test_real_others(tmp_path):
    g = data.load(REAL / "kkanji49.npz")
    check_sound(g)
    assert len(g.classes) == 49 and g.warnings == [] and len(g.x_test) == 5_767
    with zipfile.ZipFile(REAL / "arabic" / "Test Images.zip") as z, zipfile.ZipFile(tmp_path / "some.zip", "w") as some:
        names = [name for name in z.namelist() if name.endswith(".png")]
        for name in names[::20]:
            some.writestr(name, z.read(name))
    x, y, notes = readers.read_labelled_zip(tmp_path / "some.zip")
    assert len(names) == 10_000 and x.shape == (500, 28, 28) and notes == [] and set(y) == set(range(10))
    assert len(data.read_images(REAL / "kmnist" / "kmnist-test-imgs.npz")[0]) == 10_000
    with pytest.raises(data.Missing, match="no Train Images.zip"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.SOURCES["arabic"], "mirrors", ())
        data.load("arabic", REAL)
