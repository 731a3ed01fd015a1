"""Files -> arrays of glyphs: every format that is read here, its declared sizes checked before memory is taken.

    images = read_idx("train-images-idx3-ubyte.gz")        # MNIST's format, .gz or not
    arrays = read_npz("letters.npz")                       # {"x_train": uint8 [N,28,28], ...}; never a pickle
    arrays = read_csv("letters.csv")                       # a label, then 784 pixels a line
    images, labels, classes, thickness, notes = read_folder("letters/")  # one sub-folder of images per class

A file that cannot be used raises a UserError that names it; what is left out of a folder is named in `notes`.
"""
import contextlib
import csv
import gzip
import hashlib
import io
import math
import os
import re
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

from datasets.normalize import MAX_IMAGES, SIDE, left_out, normalize_images, normalize_pictures, open_picture
from utils.cli import Progress
from utils.files import UserError, atomic

MAX_CLASSES = 5_000
MAX_BYTES = 4 << 30            # of the arrays of one file
MAX_RATIO = 1032               # deflate cannot pack better than 1032 : 1, so a header that claims more is a lie
MAX_NAME = 64                  # characters of a class's name
MAX_LINE = 1 << 16             # bytes of a line of a .csv; 784 pixels take 3 kB
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm", ".tga"}
CACHE_NAME = ".glyphs-cache.npz"
NAMES_FILE = "classes.txt"


# ---- arrays in files: idx, npy, npz, csv ---------------------------------------------------------

@contextlib.contextmanager
def reading(path):
    """What opening or parsing a file raises, almost anything where it is broken, becomes a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        reason = getattr(e, "strerror", None) or e or type(e).__name__
        raise UserError(f"cannot read {path}: {reason}; get it again") from e


def check_size(n, packed, what):
    """Refuse `n` claimed bytes that the `packed` bytes on disk cannot hold, or that are too many."""
    if n > packed * MAX_RATIO + 1024:
        raise UserError(f"{what}: its header claims {n:,} bytes, more than the file can hold; the file is damaged")
    if n > MAX_BYTES:
        raise UserError(f"{what}: {n:,} bytes are more than the limit of {MAX_BYTES:,}; take a part of it")


def read_idx(path, sha256=None):
    """The array of an idx file (MNIST's format, unsigned bytes), `.gz` or not: uint8 [N], [N,H,W], ... UserError for a
    foreign, truncated, oversized or altered one; `sha256`: hex digest that the decompressed file must have."""
    path = Path(path)
    is_packed = path.suffix == ".gz"
    with reading(path), gzip.open(path) if is_packed else open(path, "rb") as f:
        head = f.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
            raise UserError(f"{path} is not an idx file of unsigned bytes")
        dims = f.read(4 * head[3])
        shape = np.frombuffer(dims, ">u4").tolist()
        n = math.prod(shape)
        check_size(n, path.stat().st_size / (1 if is_packed else MAX_RATIO), path)
        body = np.empty(n, np.uint8)
        if f.readinto(body) < n or len(shape) < head[3]:
            raise UserError(f"{path} is truncated; get it again")
        if f.read(1):
            raise UserError(f"{path} is longer than its header says; get it again")
    if sha256 and hashlib.sha256(head + dims + body.data).hexdigest() != sha256:
        raise UserError(f"{path} is not the official file (wrong SHA-256); delete it, it is then downloaded again")
    return body.reshape(shape)


def read_npy(f, size, packed, what):
    """The array of a seekable .npy stream of `size` bytes that take `packed` bytes on disk; never a pickle."""
    check_size(size, packed, what)
    if np.lib.format.read_magic(f) != (1, 0):  # the later ones are for headers above 64 kB, which no plain array has
        raise ValueError(f"{what} is no .npy of version 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(f)
    if dtype.kind not in "buifSU":
        raise UserError(f"{what} holds Python objects or records, which are not read: save plain arrays")
    n = math.prod(shape) * dtype.itemsize
    if f.tell() + n != size:
        raise UserError(f"{what}: its header claims {n:,} bytes, it holds {size - f.tell():,}; the file is damaged")
    f.seek(0)
    a = np.lib.format.read_array(f, allow_pickle=False)
    if dtype.kind in "SU":
        a = np.char.decode(a, "utf-8") if dtype.kind == "S" else a
        a.tolist()  # raises where this is no text
    return a


def read_npz(path, wanted=None):
    """The arrays of an .npz by name (of an .npy as "arr_0"), only those in `wanted` where given. No pickles."""
    path, arrays = Path(path), {}
    if path.suffix == ".npy":
        with reading(path), open(path, "rb") as f:
            return {"arr_0": read_npy(f, path.stat().st_size, path.stat().st_size, path)}
    with reading(path), zipfile.ZipFile(path) as z:
        members = {i.filename.removesuffix(".npy"): i for i in z.infolist() if i.filename.endswith(".npy")}
        check_size(sum(i.file_size for i in members.values()), path.stat().st_size, path)
        for name in members if wanted is None else [name for name in wanted if name in members]:
            with z.open(members[name]) as f:
                arrays[name] = read_npy(f, members[name].file_size, members[name].compress_size, f"{path}: {name}")
    return arrays


def read_csv(path):
    """A text file of a label (any text), then 784 pixels 0..255 a line, header line optional:
    {"labels": str [N], "pixels": uint8 [N,784]}."""
    labels, pixels, progress = [], bytearray(), Progress(sys.stderr, delay=1)
    with reading(path), open(path, "rb") as f:
        for number, line in enumerate(iter(lambda: f.readline(MAX_LINE), b""), 1):
            line = line.strip().removeprefix(b"\xef\xbb\xbf")  # a byte-order mark, as Excel writes
            label, *row = line.split(b",")
            if not line or (number == 1 and not re.fullmatch(rb".*,\s*[-+.e\d]*\d\s*", line)):
                continue  # an empty line or the header
            try:
                values = np.array(row, np.float64)
            except ValueError:
                values = np.array(np.nan)
            is_whole = (values >= 0) & (values <= 255) & (values % 1 == 0)
            if len(row) != SIDE * SIDE or not is_whole.all() or not label.strip():
                raise UserError(f"{path}, line {number}: expected a label and {SIDE * SIDE} whole numbers from 0 to "
                                f"255, not these {len(row)} values")
            labels.append(label.decode("utf-8", "replace").strip(' "')[:64])
            pixels += values.astype(np.uint8).tobytes()
            if len(labels) > MAX_IMAGES:
                raise UserError(f"{path} has more lines than the limit of {MAX_IMAGES:,}; take a part of it")
            if number % 256 == 0:
                progress(f"reading {Path(path).name}, bytes", f.tell(), os.path.getsize(path))
    progress.close()
    return {"labels": np.array(labels, str), "pixels": np.frombuffer(pixels, np.uint8).reshape(-1, SIDE * SIDE)}


def read_csv_images(path, center=True):
    """As read_folder of a .csv with labels: no thickness, and the classes are what the labels say. Kept in a cache."""
    key = stat_digest(path.parent, [path.name])
    arrays = cached(path.with_name(f".{path.name}.glyphs-cache.npz"), key, lambda: read_csv(path))
    images, _, notes = normalize_images(arrays["pixels"], path.name, center)
    return images, arrays["labels"], None, None, notes


# ---- many pictures: folders and zip archives -----------------------------------------------------

def list_folder(root):
    """The images of a folder: (names relative to root, labels int64 [N] or None, classes or None, None, notes). One
    sub-folder per class, in natural order; without them no labels. Empty ones, hidden and stray files are noted. A
    class is called as its folder, see class_of_folder and read_class_names."""
    folders = sorted((e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith(".")), key=natural)
    images, stray = {folder: [] for folder in ["", *folders]}, []
    for folder, names in images.items():
        for entry in sorted(os.scandir(root / folder), key=lambda e: natural(e.name)):
            name = f"{folder}/{entry.name}" if folder else entry.name
            is_image = entry.is_file() and Path(name).suffix.lower() in SUFFIXES
            if is_image and not entry.name.startswith("."):
                names.append(name)
            elif name not in images and name not in (CACHE_NAME, NAMES_FILE):
                stray.append(name)
    flat, empty = images.pop(""), [folder for folder in folders if not images[folder]]
    names = [name for folder in folders for name in images[folder]]
    if not names and not flat:
        raise UserError(f"{root} holds no image; expected sub-folders of images ({' '.join(sorted(SUFFIXES))})")
    if max(len(names), len(flat)) > MAX_IMAGES:
        raise UserError(f"{root} has more than the limit of {MAX_IMAGES:,} images; take a part of it")
    notes = left_out("sub-folders without an image, no class made of them", [*map(readable, empty)])
    notes += left_out("stray files passed over (images belong in one sub-folder per class)",
                      [*map(readable, stray + flat if names else stray)])
    if not names:
        return flat, None, None, None, notes
    used = [folder for folder in folders if images[folder]]
    labels = np.repeat(np.arange(len(used)), [len(images[folder]) for folder in used])
    given = read_class_names(root / NAMES_FILE, [*map(readable, folders)]) if (root / NAMES_FILE).is_file() else {}
    classes = [given.get(readable(folder)) or class_of_folder(readable(folder)) for folder in used]
    for i, name in enumerate(classes):
        if name in classes[:i]:
            raise UserError(f"{root}: the folders {readable(used[classes.index(name)])} and {readable(used[i])} both "
                            f"stand for the class {name}; put their images into one")
    return names, labels, classes, None, notes


def class_of_folder(name):
    """The class that a folder's name stands for: U+3042 is the character of this code point, else the name itself."""
    match = re.fullmatch(r"[Uu]\+([0-9A-Fa-f]{4,6})", name)
    code = int(match[1], 16) if match else 0
    is_character = code < 0x110000 and chr(code).isprintable() and not chr(code).isspace()
    return unicodedata.normalize("NFC", chr(code)) if match and is_character else name


def read_class_names(path, folders):
    """{folder: class name} of a classes.txt, a line "folder<tab>name" for each folder that is to be called otherwise.
    UserError, which names the line, for one that is not so, a folder that is not among `folders`, and names given twice."""
    names = {}
    with reading(path):
        if path.stat().st_size > 1 << 20:
            raise UserError(f"{path} is larger than 1 MB; expected a line for each class: the folder, a tab, the name")
        try:
            lines = path.read_text("utf-8-sig").split("\n")
        except UnicodeDecodeError as e:
            raise UserError(f"{path} is no UTF-8 text (byte {e.start:,}); save it as UTF-8") from e
    for number, line in enumerate(lines, 1):
        folder, _, name = (unicodedata.normalize("NFC", part).strip() for part in line.partition("\t"))
        fault = None
        if not line.strip():
            continue
        if "\t" not in line or not folder or not name:
            fault = "expected a folder, a tab and a name"
        elif len(name) > MAX_NAME or not name.isprintable():
            fault = f"a name has at most {MAX_NAME} printable characters and no second tab"
        elif folder not in folders:
            fault = f"there is no folder {folder[:MAX_NAME]!r} beside it"
        elif folder in names:
            fault = f"the folder {folder!r} has a name already"
        elif name in names.values():
            fault = f"the name {name!r} is given already"
        if fault:
            raise UserError(f"{path}, line {number}: {fault}")
        names[folder] = name
    return names


def list_labels_csv(root):
    """The images that root/labels.csv names, with columns file and label [class] [thickness], as generate_digits.py
    writes: (names relative to root, labels int64 [N], classes, thickness float32 [N] or None, no notes)."""
    path, rows, classes = root / "labels.csv", [], {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            for row in csv.DictReader(f):
                name, label = row["file"], int(row["label"])
                is_inside = not Path(name).is_absolute() and ".." not in Path(name).parts and (root / name).is_file()
                if not is_inside or not 0 <= label < MAX_CLASSES:
                    raise ValueError(f"file {name!r}, label {label}")
                classes[label] = row.get("class")
                rows.append((name, label, float(row.get("thickness") or "nan")))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as e:
        raise UserError(f"cannot use {path}: {e}; expected columns file, label [class, thickness] and the files") from e
    if not rows:
        raise UserError(f"{path} names no image")
    names, labels, thickness = zip(*rows)
    thickness = None if np.isnan(thickness).any() else np.array(thickness, np.float32)
    return names, np.array(labels), [classes.get(i) or str(i) for i in range(max(classes) + 1)], thickness, []


def read_folder(root, center=True, exact=False):
    """A folder of images, by its labels.csv or its sub-folders -> (images uint8 [N,28,28], labels int64 [N] or None,
    classes or None, thickness float32 [N] or None, notes). With a labels.csv, and with `exact`, grey 28 x 28 images are
    taken as they are; `exact` makes a broken one an error."""
    root = Path(root)
    has_table = (root / "labels.csv").is_file()
    as_is = exact or has_table
    with reading(root):
        names, labels, classes, thickness, notes = list_labels_csv(root) if has_table else list_folder(root)
        key = [stat_digest(root, names), center, as_is]

    def build():
        images, ok, faults = normalize_pictures(
            len(names), lambda i: open_picture(root / names[i]), lambda i: readable(names[i]), center, as_is)
        return {"images": images, "ok": ok, "notes": np.array(faults, str)}

    arrays = cached(root / CACHE_NAME, key, build)
    notes += arrays["notes"].tolist()
    images, labels, thickness = leave_out_broken(root, arrays["ok"], notes, exact, arrays["images"], labels, thickness)
    return images, labels, classes, thickness, notes


def read_npz_images(path, center=True, exact=False, part="train"):
    """As read_folder of one part of an .npz (or .npy): x_train, images or arr_0, [y_train or labels], [thickness],
    [chars or classes]; with part="test" x_test and [y_test]. Images are None where the file holds none."""
    keys = [("x_train", "images", "arr_0"), ("y_train", "labels"), ("thickness",), ("chars", "classes")]
    if part == "test":
        keys = [("x_test",), ("y_test",), (), ()]
    arrays = read_npz(path, sum(keys, ()))
    x, y, t, classes = (next((arrays[key] for key in choice if key in arrays), None) for choice in keys)
    classes = None if classes is None else classes.astype(str).ravel().tolist()
    if x is None:
        return None, y, classes, t, []
    for a in (y, t):
        if a is not None and a.shape != x.shape[:1]:
            raise UserError(f"{path}: labels or thickness of shape {list(a.shape)} for images of shape {list(x.shape)}")
    x, ok, notes = normalize_images(x, f"{Path(path).name}, {part}", center, exact)
    x, y, t = leave_out_broken(path, ok, notes, exact, x, y, t)
    return x, y, classes, t, notes


def leave_out_broken(path, ok, notes, exact, *arrays):
    """The `arrays` (or None) where `ok`. UserError where nothing is, or with `exact` not everything."""
    if not ok.any() or (exact and not ok.all()):
        raise UserError(f"{path}: {'; '.join(notes)}")
    return [a if a is None or ok.all() else a[ok] for a in arrays]


def read_labelled_zip(path):
    """A zip of 28 x 28 pictures named `.../id_<n>_label_<d>.png` -> (uint8 [N,28,28], int64 [N], notes), by n."""
    members, stray = [], []
    with reading(path), zipfile.ZipFile(path) as z:
        for info in z.infolist():
            match = re.fullmatch(r"(?:.*/)?id_(\d+)_label_(\d)\.png", info.filename)
            if match and info.file_size <= 1 << 20:
                members.append((int(match[1]), int(match[2]), info))
            elif not info.is_dir():
                stray.append(info.filename)
        if not 0 < len(members) <= MAX_IMAGES:
            raise UserError(f"{path}: {len(members):,} pictures named id_<n>_label_<d>.png, not 1 to {MAX_IMAGES:,}")
        members.sort(key=lambda member: member[0])
        images, ok, notes = normalize_pictures(
            len(members), lambda i: open_picture(io.BytesIO(z.read(members[i][2]))),
            lambda i: members[i][2].filename, as_is=True)
    leave_out_broken(path, ok, notes, exact=True)
    notes += left_out("stray entries passed over", stray)
    return images, np.array([label for _, label, _ in members]), notes


def stat_digest(folder, names):
    """Hex digest of the names, sizes and times of files in `folder`: what a cache depends on."""
    digest = hashlib.sha256()
    for name in names:
        stat = os.stat(os.path.join(folder, name))
        digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
    return digest.hexdigest()


def cached(path, key, build):
    """`build()`'s dict of arrays, kept in the .npz `path` as long as `key` (anything with a repr) stays the same. Where
    nothing can be written, or the cache is damaged, the arrays are simply built."""
    key = hashlib.sha256(repr(("2", key)).encode("utf-8", "surrogateescape")).hexdigest()
    with contextlib.suppress(UserError, KeyError):
        if read_npz(path, ["key"])["key"] == key:
            return read_npz(path)
    arrays = build()
    with contextlib.suppress(UserError), atomic(path) as tmp, open(tmp, "wb") as f:  # a read-only folder, a full disk
        np.savez(f, key=np.array(key), **arrays)
    return arrays


def natural(name):
    """Sort key with numbers in their order: 2 before 10."""
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", name)], name


def readable(name):
    """A file name as text that can be printed and stored as JSON: composed accents, undecodable bytes replaced."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))
