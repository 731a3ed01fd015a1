"""Files -> arrays of glyphs: every format that is read here, its declared sizes checked before memory is taken.

    images = read_idx("train-images-idx3-ubyte.gz")        # MNIST's format, .gz or not
    arrays = read_npz("letters.npz")                       # {"x_train": uint8 [N,28,28], ...}; never a pickle
    labels, pixels = read_csv("letters.csv")               # a label, then 784 pixels a line
    images, labels, classes, thickness, notes = read_folder("letters/")  # one sub-folder of images per class

All images come out as this project's one truth: uint8 [N,28,28], ink 255 on background 0, upright. Images of another
size, mode or polarity are brought to it as MNIST was made (pictures.py). What is left out is named in `notes`, and a
file that cannot be used raises UserError. Images of one folder are decoded by a few threads into one array, and kept
in a cache (`cached`).
"""
import contextlib
import csv
import gzip
import hashlib
import io
import math
import os
import re
import time
import unicodedata
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from datasets.normalize import MAX_IMAGES, SIDE, few, grey, open_picture, progress, to_glyphs
from utils.files import UserError, atomic

MAX_CLASSES = 5_000
MAX_BYTES = 4 << 30            # of one array in a file
MAX_RATIO = 1032               # deflate cannot pack better than 1032 : 1, so a header that claims more is a lie
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm", ".tga"}
CACHE_NAME = ".glyphs-cache.npz"


# ---- arrays in files: idx, npy, npz, csv --------------------------------------------------------------------------

def read_exactly(stream, n, what):
    """`n` bytes of `stream` as a writable uint8 [n]; UserError if it ends earlier or later."""
    out = np.empty(n, np.uint8)
    done = 0
    while done < n:
        got = stream.readinto(memoryview(out)[done:done + (1 << 22)])  # by pieces: no second copy of a large file
        if not got:
            raise UserError(f"{what} is truncated: {done:,} of {n:,} bytes; get it again")
        done += got
    if stream.read(1):
        raise UserError(f"{what} is longer than its header says; get it again")
    return out


def check_size(n, packed, what):
    """Refuse `n` claimed bytes that the `packed` bytes on disk cannot hold, or that are too many."""
    if n > packed * MAX_RATIO + 1024:
        raise UserError(f"{what}: its header claims {n:,} bytes, more than the file can hold; the file is damaged")
    if n > MAX_BYTES:
        raise UserError(f"{what}: {n:,} bytes are more than the limit of {MAX_BYTES:,}; take a part of it")


def read_idx(path, sha256=None):
    """The array of an idx file (MNIST's format, unsigned bytes), `.gz` or not: uint8 [N], [N,H,W], ...

    `sha256`: hex digest that the decompressed file must have. Raises UserError for a foreign, truncated, oversized or
    altered file.
    """
    path = Path(path)
    size = path.stat().st_size
    packed = path.suffix == ".gz"
    try:
        with (gzip.open if packed else open)(path, "rb") as f:
            head = f.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
                raise UserError(f"{path} is not an idx file of unsigned bytes")
            dims = f.read(4 * head[3])
            shape = np.frombuffer(dims[:len(dims) // 4 * 4], ">u4").tolist()
            if len(shape) != head[3]:
                raise UserError(f"{path} is truncated in its header; get it again")
            n = math.prod(shape)
            check_size(n, size if packed else size / MAX_RATIO, path)
            body = read_exactly(f, n, path)
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"cannot read {path}: {e}; get it again") from e
    if sha256:
        found = hashlib.sha256(head + dims)
        found.update(body)
        if found.hexdigest() != sha256:
            raise UserError(f"{path} is not the official file: SHA-256 of its content is {found.hexdigest()}, expected "
                            f"{sha256}; delete it, it is then downloaded again")
    return body.reshape(shape)


def _read_npy(f, size, packed, what):
    """The array of an .npy stream of `size` bytes that take `packed` bytes on disk."""
    check_size(size, packed, what)
    version = np.lib.format.read_magic(f)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f"{what}: .npy version {version} is not read here")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(f)
    if dtype.hasobject or dtype.names:
        raise UserError(f"{what} holds Python objects, which are not read: save plain arrays")
    n = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or f.tell() + n != size:
        raise UserError(f"{what}: its header claims shape {shape} of {dtype}, {n:,} bytes, but the file holds "
                        f"{size - f.tell():,}; the file is damaged")
    flat = read_exactly(f, n, what).view(dtype) if n else np.empty(0, dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_npz(path, wanted=None):
    """The arrays of an .npz by name (of an .npy as "arr_0"), only those in `wanted` where given. No pickles."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.suffix == ".npy":
            with open(path, "rb") as f:
                return {"arr_0": _read_npy(f, size, size, path)}
        arrays = {}
        with zipfile.ZipFile(path) as z:
            members = [i for i in z.infolist() if i.filename.endswith(".npy")]
            if sum(i.file_size for i in members) > MAX_BYTES:
                raise UserError(f"{path} holds more than the limit of {MAX_BYTES:,} bytes; take a part of it")
            for info in members:
                name = info.filename.removesuffix(".npy")
                if wanted is None or name in wanted:
                    with z.open(info) as f:
                        arrays[name] = _read_npy(f, info.file_size, min(info.compress_size, size), f"{path}: {name}")
        return arrays
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(f"cannot read {path}: {e}; it is damaged or not a NumPy file") from e


def read_csv(path, labelled=True):
    """A text file of a label (any text), then 784 pixels 0..255 a line, header line optional.

    Returns (labels list[str], pixels uint8 [N,784]); with labelled=False the lines hold pixels alone and labels is [].
    """
    with open(path, "rb") as f:
        counts = [block.count(b"\n") for block in iter(lambda: f.read(1 << 22), b"")]  # 4 MB hold dozens of lines
        n_lines = 1 + sum(counts)
        if n_lines > MAX_IMAGES or 0 in counts[:-1]:
            raise UserError(f"{path} has more lines than the limit of {MAX_IMAGES:,}, or endless ones; take a part")
        f.seek(0)
        labels, pixels, n, number, start = [], np.empty((n_lines, SIDE * SIDE), np.uint8), 0, 0, time.monotonic()
        while lines := f.readlines(1 << 22):
            rows = []
            for line in lines:
                number += 1
                line = line.strip().removeprefix(b"\xef\xbb\xbf")  # a byte-order mark, as Excel writes
                if not line:
                    continue
                label, _, row = line.partition(b",") if labelled else (b"", b"", line)
                if number == 1 and not _is_number(row.rpartition(b",")[2]):
                    continue  # the header
                if row.count(b",") != SIDE * SIDE - 1:
                    raise UserError(f"{path}, line {number}: {row.count(b',') + 1} pixels, expected {SIDE * SIDE}"
                                    + (" after the label" if labelled else ""))
                rows.append(row)
                if labelled:
                    if not label.strip():
                        raise UserError(f"{path}, line {number}: no label before the pixels")
                    labels.append(label.decode("utf-8", "replace").strip(' "')[:64])
            if rows:
                values = _numbers(b",".join(rows))
                if (len(values) != len(rows) * SIDE * SIDE or not 0 <= values.min() <= values.max() <= 255
                        or (values % 1).any()):
                    raise UserError(f"{path}, lines {number - len(lines) + 1} to {number}: a pixel that is not a whole "
                                    "number from 0 to 255")
                pixels[n:n + len(rows)] = values.reshape(-1, SIDE * SIDE)
                n += len(rows)
                progress(f"reading {Path(path).name}", number, n_lines, start)
    return labels, pixels[:n]


def _numbers(text):
    """Comma-separated numbers as float64; fewer than there are commas where one cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return np.fromstring(text, sep=",")
        except ValueError:
            return np.empty(0)


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# ---- many pictures: folders and zip archives ------------------------------------------------------------------------

def list_folder(root):
    """What a folder of images holds: (names relative to root, labels int64 [N] or None, classes or None, thickness or
    None, notes, stamp). The stamp is a digest of names, sizes and times.

    With a labels.csv (columns file and label [class] [thickness], as generate_digits.py writes) that decides. Else one
    sub-folder per class, in natural order, hidden and stray files named in the notes. Without sub-folders: no labels.
    """
    root = Path(root)
    if (root / "labels.csv").is_file():
        return _list_labels_csv(root)
    stamp, names, labels, classes, flat, empty, stray = hashlib.sha256(), [], [], [], [], [], []

    def scan(folder, found):  # images to `found`, sub-folders returned, the rest is stray
        inner = []
        for entry in sorted(os.scandir(root / folder), key=lambda e: natural(e.name)):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir() and not folder and not entry.name.startswith("."):
                inner.append(name)
            elif entry.is_file() and Path(name).suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                found.append(name)
                stamp.update(os.fsencode(f"{name}\0{entry.stat().st_size}\0{entry.stat().st_mtime_ns}\n"))
            elif entry.name != CACHE_NAME:
                stray.append(readable(name))
        if len(found) > MAX_IMAGES:
            raise UserError(f"{root} has more than the limit of {MAX_IMAGES:,} images; take a part of it")
        return inner

    folders = scan("", flat)
    if len(folders) > MAX_CLASSES:
        raise UserError(f"{root} has {len(folders):,} sub-folders, more than the limit of {MAX_CLASSES:,} classes")
    for folder in folders:
        before = len(names)
        scan(folder, names)
        if len(names) > before:
            labels += [len(classes)] * (len(names) - before)
            classes.append(readable(folder))
        else:
            empty.append(readable(folder))
    if not names and not flat:
        raise UserError(f"{root} holds no image; expected one sub-folder of images per class "
                        f"({' '.join(sorted(SUFFIXES))})")
    if names:
        stray += [readable(name) for name in flat]
    notes = [few("sub-folders without an image, no class made of them", empty)] if empty else []
    notes += [few("stray files passed over (images belong in one sub-folder per class)", stray)] if stray else []
    if len(set(classes)) < len(classes):
        raise UserError(f"{root}: two sub-folders have the same name when written out; rename one")
    if not names:
        return flat, None, None, None, notes, stamp.hexdigest()
    return names, np.array(labels, np.int64), classes, None, notes, stamp.hexdigest()


def _list_labels_csv(root):
    stamp, names, labels, classes, thickness = hashlib.sha256(), [], [], {}, []
    path = root / "labels.csv"
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            for row in csv.DictReader(f):
                name, label = row["file"], int(row["label"])
                if Path(name).is_absolute() or ".." in Path(name).parts or not 0 <= label < MAX_CLASSES:
                    raise ValueError(f"file {name!r}, label {label}")
                stat = (root / name).stat()
                stamp.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "replace"))
                names.append(name)
                labels.append(label)
                classes[label] = row.get("class") or str(label)
                thickness.append(float(row.get("thickness") or "nan"))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as e:
        raise UserError(f"cannot use {path}: {e}; expected columns file, label [class, thickness] and the files") from e
    if not names:
        raise UserError(f"{path} names no image")
    thickness = None if np.isnan(thickness).any() else np.array(thickness, np.float32)
    classes = [classes.get(i, str(i)) for i in range(max(classes) + 1)]
    return names, np.array(labels, np.int64), classes, thickness, [], stamp.hexdigest()


def read_folder(root, center=True, exact=False):
    """A folder of images -> (images uint8 [N,28,28], labels, classes, thickness, notes); see list_folder.

    With `exact`, and with a labels.csv, grey 28 x 28 images are taken as they are; `exact` makes a broken one an error.
    """
    root = Path(root)
    names, labels, classes, thickness, notes, stamp = list_folder(root)
    as_is = exact or (root / "labels.csv").is_file()

    def build():
        images, ok, found = to_glyphs(len(names), lambda i: open_picture(root / names[i]), lambda i: readable(names[i]),
                                      center, as_is)
        return {"images": images, "ok": ok, "notes": np.array(found, str)}

    arrays = cached(root / CACHE_NAME, [stamp, center, as_is], build)
    images, ok, notes = arrays["images"], arrays["ok"], notes + arrays["notes"].tolist()
    if not ok.any() or (exact and not ok.all()):
        raise UserError(f"{root}: {'; '.join(notes)}")
    if not ok.all():
        images, labels, thickness = (None if a is None else a[ok] for a in (images, labels, thickness))
    return images, labels, classes, thickness, notes


def read_labelled_zip(path, n_classes):
    """A zip of 28 x 28 pictures named `.../id_<n>_label_<d>.png` -> (uint8 [N,28,28], int64 [N], notes), by n."""
    pattern = re.compile(r"(?:.*/)?id_(\d+)_label_(\d+)\.png")
    try:
        with zipfile.ZipFile(path) as z:
            members, stray = [], []
            for info in z.infolist():
                match = pattern.fullmatch(info.filename)
                if match and info.file_size <= 1 << 20 and int(match[2]) < n_classes:
                    members.append((int(match[1]), int(match[2]), info))
                elif not info.is_dir():
                    stray.append(info.filename)
            if not members:
                raise UserError(f"{path} holds no picture named id_<n>_label_<d>.png")
            if len(members) > MAX_IMAGES:
                raise UserError(f"{path} holds more than the limit of {MAX_IMAGES:,} images")
            members.sort(key=lambda m: m[0])
            images, start = np.zeros((len(members), SIDE, SIDE), np.uint8), time.monotonic()
            for i, (_, _, info) in enumerate(members):
                picture = open_picture(io.BytesIO(z.read(info)))
                if picture.size != (SIDE, SIDE):
                    raise UserError(f"{path}: {info.filename}: {picture.width} x {picture.height} pixels, not 28 x 28")
                images[i] = grey(picture)
                if i % 256 == 255:
                    progress(f"reading {Path(path).name}", i + 1, len(members), start)
    except UserError:
        raise
    except Exception as e:  # Pillow's plugins, zlib and zipfile raise almost anything on a broken file
        raise UserError(f"cannot read {path}: {e}; get it again") from e
    notes = [few("stray entries passed over", stray)] if stray else []
    return images, np.array([m[1] for m in members], np.int64), notes


# ---- helpers ---------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def reading():
    """Turn a file or folder that may not be opened into a UserError that names it; also a decorator."""
    try:
        yield
    except OSError as e:
        raise UserError(f"cannot read {e.filename or 'a file'}: {e.strerror or e}") from e


def cached(path, key, build):
    """`build()`'s dict of arrays, kept in the .npz `path` as long as `key` (anything with a repr) stays the same.

    Where nothing can be written, or the cache is damaged, the arrays are simply built.
    """
    key = hashlib.sha256(repr(("1", key)).encode("utf-8", "surrogateescape")).hexdigest()
    if path.is_file():
        try:
            if read_npz(path, ["key"])["key"] == key:
                return read_npz(path)
        except (UserError, KeyError):
            pass
    arrays = build()
    try:
        with atomic(path) as tmp, open(tmp, "wb") as f:
            np.savez(f, key=np.array(key), **arrays)
    except UserError:
        pass  # a read-only folder or a full disk
    return arrays


def natural(name):
    """Sort key with numbers in their order: 2 before 10."""
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", name)], name


def readable(name):
    """A file name as text that can be printed and stored as JSON: composed accents, undecodable bytes replaced."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))
