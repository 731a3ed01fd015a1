"""File formats: what is read, what is refused before memory is taken, and how any picture becomes a glyph."""
import gzip
import os
import signal
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

import data
from datasets import formats, normalize, readers
from utils.files import UserError


def idx_bytes(a):
    return b"\0\0\x08" + bytes([a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def seven(size=28):
    """A 7 with ink 255 on 0, no symmetry: its bar is at the top, its stem leans to the right."""
    a = np.zeros((28, 28), np.uint8)
    a[4:7, 8:20] = 255
    for row in range(7, 24):
        a[row, 19 - (row - 7) // 3:22 - (row - 7) // 3] = 255
    return np.asarray(Image.fromarray(a).resize((size, size)))


# ---- idx -----------------------------------------------------------------------------------------

def test_idx_round_trip_plain_and_gz(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    (tmp_path / "a").write_bytes(idx_bytes(a))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(a)))
    for name in ("a", "a.gz"):
        assert np.array_equal(readers.read_idx(tmp_path / name), a)
    assert readers.read_idx(tmp_path / "a").flags.writeable


@pytest.mark.parametrize("change, word", [
    (lambda b: b[:-1], "truncated"), (lambda b: b[:9], "cannot read"), (lambda b: b[:8], "truncated"), (lambda b: b + b"\0", "longer"),
    (lambda b: b"hello" + b, "not an idx"), (lambda b: b"", "not an idx"),
    (lambda b: b[:4] + b"\xff" * 12 + b[16:], "header claims")])
def test_idx_faults_are_named(tmp_path, change, word):
    raw = change(idx_bytes(np.zeros((3, 28, 28), np.uint8)))
    for name, content in (("a", raw), ("a.gz", gzip.compress(raw))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=word) as fault:
            readers.read_idx(tmp_path / name)
        assert str(tmp_path / name) in str(fault.value)


def test_idx_damaged_gzip_bomb_and_wrong_hash(tmp_path):
    raw = idx_bytes(np.zeros((3, 28, 28), np.uint8))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(raw)[:-9])
    with pytest.raises(UserError, match="cannot read"):
        readers.read_idx(tmp_path / "cut.gz")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(raw + bytes(30_000_000)))
    with pytest.raises(UserError, match="longer"):
        readers.read_idx(tmp_path / "bomb.gz")
    (tmp_path / "other.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(UserError, match="not the official file.*delete it"):
        readers.read_idx(tmp_path / "other.gz", sha256="00" * 32)


# ---- npz -----------------------------------------------------------------------------------------

def test_npz_reads_what_numpy_writes(tmp_path):
    arrays = {"x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "f": np.asfortranarray(np.eye(3)[:, :2]),
              "names": np.array(["あ", "い"]), "scalar": np.array("key"), "none": np.zeros((0, 28), np.float32)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = readers.read_npz(tmp_path / "a.npz")
        assert read.keys() == arrays.keys()
        for name, a in arrays.items():
            assert np.array_equal(read[name], a) and read[name].dtype == a.dtype
    assert list(readers.read_npz(tmp_path / "a.npz", {"x": formats.IMAGES})) == ["x"]
    np.save(tmp_path / "a.npy", arrays["x"])
    assert np.array_equal(readers.read_npz(tmp_path / "a.npy")["arr_0"], arrays["x"])


def test_npz_refuses_lies_objects_and_ruins(tmp_path):
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    lie = header + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 28, 28)}".ljust(117) + b"\n123"
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as z:
        z.writestr("arr_0.npy", lie)
    (tmp_path / "lie.npy").write_bytes(lie)
    for name in ("lie.npz", "lie.npy"):
        with pytest.raises(UserError, match="header claims"):
            readers.read_npz(tmp_path / name)
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="Python objects"):
        readers.read_npz(tmp_path / "objects.npz")
    np.savez_compressed(tmp_path / "good.npz", a=np.random.default_rng(0).random(1000))
    whole = (tmp_path / "good.npz").read_bytes()
    for ruin in (whole[:-30], b"no zip", whole[:300] + bytes(200) + whole[500:]):
        (tmp_path / "ruin.npz").write_bytes(ruin)
        with pytest.raises(UserError, match="ruin.npz"):
            readers.read_npz(tmp_path / "ruin.npz")
    claim = bytearray(whole)  # the archive's directory claims a giant for the few bytes it holds
    at = claim.rindex(b"PK\x01\x02")
    claim[at + 24:at + 28] = struct.pack("<I", 3_000_000_000)
    (tmp_path / "giant.npz").write_bytes(claim)
    with pytest.raises(UserError, match="claims 3,000,000,000 bytes"):
        readers.read_npz(tmp_path / "giant.npz")


def test_text_in_npz_is_text(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array(["あ".encode(), b"b"]), b=np.zeros(2, [("x", "u1")]))
    assert readers.read_npz(tmp_path / "a.npz", {"a": formats.NAMES})["a"].tolist() == ["あ", "b"]
    with pytest.raises(UserError, match="records"):
        readers.read_npz(tmp_path / "a.npz", {"b": formats.NAMES})
    for bad in (np.array([b"\xff"]), np.array([0x7FFFFFFF], "<u4").view("<U1")):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(UserError, match="bad.npy"):
            readers.read_npz(tmp_path / "bad.npy")


def test_npy_of_another_version_claims_no_memory(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr': '|u1'}")
    with pytest.raises(UserError, match="version 1.0"):
        readers.read_npz(tmp_path / "a.npy")


@pytest.mark.parametrize("header", [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (3, ", "{'descr': '|u1', 'shape': [(", "(" * 110, "{" * 110, "'",
    "\\",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': 'x', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '|u1', 'fortran_order': 3, 'shape': (3,), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }",
    "{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (3,), }", "\x00\xff", "9" * 110,
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 0), }"])
def test_npy_headers_of_any_kind_are_errors(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode("latin-1").ljust(117) + b"\n")
    with pytest.raises(UserError, match="a.npy") as error:
        readers.read_npz(tmp_path / "a.npy")
    assert "\n" not in str(error.value)


def test_small_files_do_not_become_large_arrays(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "labels.npz", labels=np.zeros(1_000_000, np.int64))      # sorted labels pack well
    assert len(readers.read_npz(tmp_path / "labels.npz")["labels"]) == 1_000_000
    np.savez_compressed(tmp_path / "rows.npz", images=np.zeros((20_000, 2, 2), np.uint8))
    with pytest.raises(UserError, match="20,000 rows are more than the limit of 10,000"):
        readers.read_npz(tmp_path / "rows.npz", {"images": formats.IMAGES})
    monkeypatch.setattr(formats, "SMALL_BYTES", 1 << 20)
    monkeypatch.setattr(np.lib.format, "read_array", None)                                  # it would take the memory
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((5000, 28, 28), np.uint8))
    with pytest.raises(UserError, match="claims 3,920,.* bytes in a file of"):
        readers.read_npz(tmp_path / "bomb.npz")
    with gzip.open(tmp_path / "bomb.gz", "wb") as f:
        f.write(idx_bytes(np.zeros((5000, 28, 28), np.uint8)))
    with pytest.raises(UserError, match="claims 3,920,000 bytes"):
        readers.read_idx(tmp_path / "bomb.gz")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "odd.npz", "w", method) as z:
            z.writestr("a.npy", b"")
        with pytest.raises(UserError, match="packed in a way that numpy does not use"):
            readers.read_npz(tmp_path / "odd.npz")


ODD_LABELS = [np.array([np.inf, 1] * 10), np.array([np.nan, 1] * 10), np.arange(20) + 0j,
              np.array([2 ** 64 - 1, 1] * 10, np.uint64),
              np.zeros(20, "V8"), np.zeros(20, "M8[s]"), np.array([{}] * 20, object), np.array(["\ud800", "b"] * 10),
              np.array([b"\xff", b"b"] * 10), np.arange(20) / 2, np.zeros((20, 1), int), np.zeros(20, np.longdouble),
              np.array(["a\nb", "c"] * 10), np.array(["x" * 300, "c"] * 10), np.array(["", "c"] * 10), np.array(3)]


@pytest.mark.parametrize("labels", ODD_LABELS, ids=lambda a: f"{a.dtype} {a.ravel()[0]!r:.10}")
def test_odd_labels_in_npz_are_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=np.tile(seven(), (20, 1, 1)), labels=labels)
    for read in (data.load, data.read_images):
        with pytest.raises(UserError, match="a.npz") as error:
            read(tmp_path / "a.npz")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, array", [
    ("classes", np.zeros(2)), ("classes", np.array(["a\n", "b"])), ("classes", np.array(["a", "\x1b[2J"])),
    ("classes", np.array(["a", ""])), ("classes", np.array(["x" * 1_000_000, "b"])), ("classes", np.zeros(5001, int)),
    ("classes", np.array(["a", "\udc80"])), ("classes", np.array([b"\xff", b"b"])), ("labels", np.full(20, 2)),
    ("labels", np.full(20, -1)), ("thickness", np.full(20, np.nan)), ("thickness", np.full(20, 1.5)),
    ("thickness", np.full(20, "thin")), ("thickness", np.zeros((20, 1))), ("images", np.full((20, 28, 28), np.nan)),
    ("images", np.zeros((20, 28, 28), complex)), ("images", np.array("image")), ("images", np.zeros((20, 0, 28)))])
def test_odd_arrays_in_npz_are_refused(tmp_path, name, array):
    sound = {"images": np.tile(seven(), (20, 1, 1)), "labels": np.arange(20) % 2, "classes": ["a", "b"]}
    np.savez(tmp_path / "a.npz", **sound)
    assert len(data.read_images(tmp_path / "a.npz")[0]) == 20
    np.savez(tmp_path / "a.npz", **sound | {name: array})
    with pytest.raises(UserError, match="a.npz") as error:
        data.read_images(tmp_path / "a.npz")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_not_opened(tmp_path):
    """A pipe without a writer would wait for ever: an alarm ends that."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waited for a pipe"))
    signal.alarm(20)
    try:
        for name in ("a.npz", "a.npy", "a.csv", "a.png", "a"):
            os.mkfifo(tmp_path / name)
            for read in (data.load, data.read_images):
                with pytest.raises(UserError, match="no regular file|nor a regular file|no data set"):
                    read(tmp_path / name)
        (tmp_path / "labels.csv").write_text("file,label\na.png,1\n")
        with pytest.raises(UserError, match="each file once and regular"):
            data.read_images(tmp_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_home_that_is_none():
    for read in (data.load, data.read_images):
        with pytest.raises(UserError, match="cannot use the path '~nosuchuser/x'"):
            read("~nosuchuser/x")


# ---- csv -----------------------------------------------------------------------------------------

def test_csv_with_and_without_header(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 784))
    lines = [f"{label}," + ",".join(map(str, row)) for label, row in zip(["7", "あ", '"B"'], x)]
    head = "label," + ",".join(f"pixel{i}" for i in range(784))
    for text in ("\n".join(lines), "\ufeff" + "\r\n".join([head, *lines, "", ""])):
        (tmp_path / "a.csv").write_text(text, "utf-8", newline="")
        arrays = readers.read_csv(tmp_path / "a.csv")
        assert arrays["labels"].tolist() == ["7", "あ", "B"] and np.array_equal(arrays["pixels"], x)
        assert arrays["pixels"].dtype == np.uint8


@pytest.mark.parametrize("line, word", [
    ("7," + "0," * 783 + "256", "0 to 255"), ("7," + "0," * 783 + "-1", "0 to 255"),
    ("7," + "0," * 783 + "0.5", "0 to 255"), ("," + "0," * 783 + "5", "a label and 784"),
    ("7," + "0," * 400 + "x," + "0," * 382 + "0", "0 to 255"), ("7," + "0," * 783 + "nan", "0 to 255"),
    ("7,1,2,3", "not these 3 values"), ("b" * 257 + ",0" * 784, "2: a label of 257")])
def test_csv_faults_name_the_line(tmp_path, line, word):
    good = "7," + "0," * 783 + "0"
    (tmp_path / "a.csv").write_text(good + "\n" + line + "\n")
    with pytest.raises(UserError, match=word) as fault:
        readers.read_csv(tmp_path / "a.csv")
    assert "a.csv" in str(fault.value) and "2" in str(fault.value)


# ---- folders -------------------------------------------------------------------------------------

def make_folder(root):
    for name, count in (("10", 4), ("2", 3), ("が", 1)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.pad(seven(50), 10 + i)).save(root / name / f"{i}.png")
    return root


def test_folder_order_names_and_cache(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "letters")
    images, labels, classes, thickness, notes = readers.read_folder(root)
    assert classes == ["2", "10", "が"] and labels.tolist() == [0] * 3 + [1] * 4 + [2] and images.shape == (8, 28, 28)
    assert thickness is None and notes == [] and (root / readers.CACHE_NAME).is_file()
    build = readers.normalize_pictures
    monkeypatch.setattr(readers, "normalize_pictures", None)  # the cache answers
    assert np.array_equal(readers.read_folder(root)[0], images)
    monkeypatch.setattr(readers, "normalize_pictures", build)
    (root / readers.CACHE_NAME).write_bytes(b"ruin")
    assert np.array_equal(readers.read_folder(root)[0], images)
    Image.fromarray(255 - np.pad(seven(50), 9)).save(root / "2" / "0.png")
    assert "polarity: 1 images are dark ink on light" in readers.read_folder(root)[4][0]  # a changed file is read again
    assert readers.read_folder(root, center=False)[0].shape == (8, 28, 28)


def test_folder_that_cannot_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "letters")

    def refuse(path):
        raise UserError("read-only")
    monkeypatch.setattr(readers, "atomic", refuse)
    assert len(readers.read_folder(root)[0]) == 8 and not (root / readers.CACHE_NAME).exists()


def test_nothing_is_dropped_in_silence(tmp_path):
    root = make_folder(tmp_path / "letters")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("stray")
    (root / "2" / "inner").mkdir()
    (root / "2" / ".hidden").write_text("")
    (root / "2" / "broken.png").write_bytes(b"\x89PNG broken")
    whole = (root / "10" / "0.png").read_bytes()
    (root / "10" / "cut.png").write_bytes(whole[:len(whole) // 2])
    Image.new("L", (30, 30)).save(root / "10" / "blank.png")
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    (root / "10" / "giant.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr +
                                            struct.pack(">I", zlib.crc32(ihdr)) + whole[33:])
    images, labels, classes, _, notes = readers.read_folder(root)
    assert len(images) == len(labels) == 8 and classes == ["2", "10", "が"]
    text = " | ".join(notes)
    for word in ("empty", "notes.txt", "2/inner", "2/.hidden", "2/broken.png", "10/cut.png", "10/blank.png (blank",
                 "10/giant.png"):
        assert word in text
    assert readers.read_folder(root)[4] == notes  # said again when the cache answers


def test_folder_faults(tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        readers.read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="broken images left out"):
        readers.read_folder(tmp_path)


def test_folder_with_labels_csv_is_taken_as_it_is(tmp_path):
    Image.fromarray(seven()).save(tmp_path / "0.png")
    Image.fromarray(seven()[:, ::-1]).save(tmp_path / "1.png")
    Image.new("L", (300, 300)).save(tmp_path / "sheet.png")
    (tmp_path / "labels.csv").write_text("file,label,class,thickness\n0.png,3,え,0.25\n1.png,0,あ,0.75\n", "utf-8")
    images, labels, classes, thickness, notes = readers.read_folder(tmp_path)
    assert np.array_equal(images, np.stack([seven(), seven()[:, ::-1]])) and labels.tolist() == [3, 0] and notes == []
    assert classes == ["あ", "1", "2", "え"] and thickness.tolist() == [0.25, 0.75]
    for bad in ("file,label\n../0.png,3\n", "file,label\ngone.png,3\n", "name,digit\n0.png,3\n", "file,label\n"):
        (tmp_path / "labels.csv").write_text(bad)
        with pytest.raises(UserError, match="labels.csv"):
            readers.read_folder(tmp_path)


@pytest.mark.parametrize("rows, said", [
    ("0.png,1\n0.png,1", "'0.png', label 1, in row 2"), ("0.png,5000", "label 5000"), ("0.png,-1", "label -1"),
    ("0.png," + "9" * 5000, "digits"), ("0.png,1,a,nan", "0 .. 1"), ("0.png,1,a,inf", "0 .. 1"),
    ("0.png,1,a,-0.5", "0 .. 1"),
    ("0.png,1," + "x" * 70_000, "a line is longer"), ("0.png,1," + "x" * 300, "1 to 256 characters"),
    ('0.png,1,"a\nb"', "a line end"), ("0.png,1,\x1b[2J", "control character"), ("0.png\0,1", "0.png"),
    ("0.png,1\n1.png,1\n2.png,1\n3.png,1", "in row 4")])
def test_tables_of_files_are_checked_row_by_row(tmp_path, monkeypatch, rows, said):
    monkeypatch.setattr(readers, "MAX_IMAGES", 3)
    for i in range(4):
        Image.fromarray(seven()).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("file,label,class,thickness\n" + rows, newline="")
    with pytest.raises(UserError, match=said) as error:
        readers.read_folder(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_cache_with_other_arrays_is_built_anew(tmp_path):
    root = make_folder(tmp_path / "letters")
    images = readers.read_folder(root)[0]
    with np.load(root / readers.CACHE_NAME) as z:
        arrays = dict(z)
    for name, odd in (("images", images[:3]), ("images", images.astype(float)), ("ok", np.ones(8)),
                      ("notes", np.zeros(3))):
        np.savez(root / readers.CACHE_NAME, **arrays | {name: odd})
        again = readers.read_folder(root)[0]
        assert again.dtype == np.uint8 and np.array_equal(again, images)


def test_a_zip_entry_gives_no_more_than_it_claims(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("id_1_label_1.png", bytes(30_000_000))
    lie = bytearray((tmp_path / "a.zip").read_bytes())
    at = lie.rindex(b"PK\x01\x02")
    lie[at + 24:at + 28] = struct.pack("<I", 1000)
    (tmp_path / "a.zip").write_bytes(lie)
    tracemalloc.start()
    with pytest.raises(UserError, match="id_1_label_1.png"):
        readers.read_labelled_zip(tmp_path / "a.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_large_pictures_are_reduced_first(tmp_path, monkeypatch, mode):
    paper = Image.fromarray(255 - np.pad(seven(140), 30))
    image = paper.convert("I").point(lambda v: v * 256).convert("I;16") if mode == "I;16" else paper.convert(mode)
    image.save(tmp_path / "a.tif" if mode in ("F", "CMYK") else tmp_path / "a.png")
    path, = tmp_path.iterdir()
    whole = data.read_images(path)[0]
    monkeypatch.setattr(normalize, "LARGE", 15_000)
    assert np.abs(data.read_images(path)[0].astype(int) - whole).mean() < 4
    assert normalize.shrink(image).width == 100


def test_helpers():
    assert sorted(["b10", "b2", "a", "B1", "٢", "١٠"], key=readers.natural) == ["٢", "١٠", "a", "B1", "b2", "b10"]
    assert readers.readable("か\u3099") == "が"


# ---- class names ---------------------------------------------------------------------------------

def make_classes(root, *names):
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.roll(seven(), i, 1)).save(root / name / "0.png")
    return root


def test_classes_are_named_by_code_point_or_by_a_file(tmp_path):
    root = make_classes(tmp_path, "a", "u+4e00", "U+3042", "U+110000", "U+0020", "い")
    assert readers.read_folder(root)[2] == ["a", "一", "U+0020", "あ", "U+110000", "い"]
    (root / "classes.txt").write_text("\ufeffa\talpha beta\r\n\r\nU+3042\tか\u3099\n", "utf-8", newline="")
    _, labels, classes, _, notes = readers.read_folder(root)
    assert classes == ["alpha beta", "一", "U+0020", "が", "U+110000", "い"] and labels.tolist() == [*range(6)]
    assert notes == []                                # classes.txt is no stray file


@pytest.mark.parametrize("content, word", [
    (b"a\tx\nb\tx\n", "line 2: the name 'x'"), (b"a\tx\na\ty\n", "line 2: the folder 'a'"),
    (b"c\tx\n", "line 1: there is no folder 'c'"), (b"a x\n", "line 1: expected a folder, a tab"),
    (b"a\t\n", "line 1: expected"), (b"a\t" + b"x" * 257, "at most 256"), (b"a\tx\ty", "no second tab"),
    (b"a\t\xff\n", "no UTF-8 text"), (b"\n" * (1 << 20) + b"\n", "larger than 1 MB"), (b"a\tb\n", "both stand for")])
def test_faults_of_classes_txt_are_named(tmp_path, content, word):
    root = make_classes(tmp_path, "a", "b")
    (root / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=word) as fault:
        readers.read_folder(root)
    assert "\n" not in str(fault.value) and str(root) in str(fault.value)


def test_two_folders_of_one_class(tmp_path):
    with pytest.raises(UserError, match="U\\+3042 and あ both stand for the class あ"):
        readers.read_folder(make_classes(tmp_path, "U+3042", "あ"))
