"""Data sets in files -> images, labels, classes: a folder, a table of files, an .npz, a .csv, an idx file, a zip.

    images, labels, classes, thickness, notes = read_folder("letters/")  # one sub-folder of images per class
    images, labels, classes, thickness, notes = read_npz_images("letters.npz")

All that is given back was checked: images uint8 [N,28,28], labels whole numbers or text, thickness in [0, 1], within
the limits of utils/limits.py. What cannot be used raises a UserError that names the file; what is left out of a
folder is named in `notes`. The files themselves are taken apart in formats.py.
"""
import contextlib
import csv
import hashlib
import io
import os
import re
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

from datasets import formats
from datasets.formats import Form, read_csv, read_idx, read_npz, reading
from datasets.normalize import SIDE, left_out, normalize_images, normalize_pictures, open_picture
from utils.files import UserError, atomic
from utils.limits import MAX_CLASSES, MAX_IMAGES, MAX_LINE, MAX_NAME, check_class_names

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm", ".tga"}
CACHE_NAME = ".glyphs-cache.npz"
NAMES_FILE = "classes.txt"


# ---- files of arrays -----------------------------------------------------------------------------

def read_csv_images(path, center=True):
    """As read_folder of a .csv with labels: no thickness, and the classes are what the labels say. Kept in a cache."""
    formats.check_regular(path)
    forms = {"labels": Form(("U",), (None,)), "pixels": Form(("u1",), (None, SIDE * SIDE))}
    key = stat_digest(path.parent, [path.name])
    arrays = cached(path.with_name(f".{path.name}.glyphs-cache.npz"), key, lambda: read_csv(path), forms)
    images, _, notes = normalize_images(arrays["pixels"], path.name, center)
    return images, arrays["labels"], None, None, notes


def read_npz_images(path, center=True, exact=False, part="train"):
    """As read_folder of one part of an .npz (or .npy): x_train, images or arr_0, [y_train or labels], [thickness],
    [chars or classes]; with part="test" x_test and [y_test]. Images are None where the file holds none; labels are
    int64, or names of classes."""
    keys = [("x_train", "images", "arr_0"), ("y_train", "labels"), ("thickness",), ("chars", "classes")]
    if part == "test":
        keys = [("x_test",), ("y_test",), (), ()]
    forms, has = (formats.IMAGES, formats.LABELS, formats.THICKNESS, formats.NAMES), formats.names_in_npz(path)
    keys = [next((key for key in choice if key in has), None) for choice in keys]
    arrays = read_npz(path, {key: form for key, form in zip(keys, forms) if key})
    x, y, t, classes = map(arrays.get, keys)
    classes = None if classes is None else check_class_names(classes.astype(str).ravel().tolist(), path)
    if x is None:
        return None, y, classes, t, []
    for a in (y, t):
        if a is not None and a.shape != x.shape[:1]:
            raise UserError(f"{path}: labels or thickness of shape {list(a.shape)} for images of shape {list(x.shape)}")
    x, ok, notes = normalize_images(x, f"{Path(path).name}, {part}", center, exact)
    x, y, t = leave_out_broken(path, ok, notes, exact, x, y, t)
    return x, y, classes, t, notes


def read_idx_images(path, center=True, exact=False):
    """As read_folder of an idx file, which holds images alone."""
    path = Path(path)
    images, ok, notes = normalize_images(read_idx(path), path.name, center, exact)
    return *leave_out_broken(path, ok, notes, exact, images), None, None, None, notes


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


def lines_of(f):
    """The lines of a text file; ValueError for one longer than any row of a table is."""
    for line in iter(lambda: f.readline(MAX_LINE), ""):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE:,} characters")
        yield line


def list_labels_csv(root):
    """The images that root/labels.csv names, with columns file and label [class] [thickness], as generate_digits.py
    writes: (names relative to root, labels int64 [N], classes, thickness float32 [N] or None, no notes)."""
    path, rows, classes = root / "labels.csv", {}, {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            for row in csv.DictReader(lines_of(f)):
                name, label = row["file"], int(row["label"])
                is_inside = not Path(name).is_absolute() and ".." not in Path(name).parts and (root / name).is_file()
                if not is_inside or name in rows or not 0 <= label < MAX_CLASSES or len(rows) == MAX_IMAGES:
                    raise ValueError(f"file {name[:200]!r}, label {label}, in row {len(rows) + 1:,}")
                classes[label] = row.get("class")
                rows[name] = label, float(row.get("thickness") or "-1")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as e:
        raise UserError(f"cannot use {path}: {str(e)[:300]}; expected columns file, label [class, thickness], each "
                        f"file once and regular, labels below {MAX_CLASSES:,}, up to {MAX_IMAGES:,} rows") from e
    if not rows:
        raise UserError(f"{path} names no image")
    labels, thickness = map(np.array, zip(*rows.values()))
    thickness = None if (thickness == -1).any() else formats.unit_interval(thickness, path)
    return [*rows], labels, [classes.get(i) or str(i) for i in range(max(classes) + 1)], thickness, []


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
    if classes is not None:
        check_class_names(classes, root)

    def build():
        images, ok, faults = normalize_pictures(
            len(names), lambda i: open_picture(root / names[i]), lambda i: readable(names[i]), center, as_is)
        return {"images": images, "ok": ok, "notes": np.array(faults, str)}

    n = len(names)
    forms = {"images": Form(("u1",), (n, SIDE, SIDE)), "ok": Form(("b",), (n,)), "notes": formats.NOTES}
    arrays = cached(root / CACHE_NAME, key, build, forms)
    notes += arrays["notes"].tolist()
    images, labels, thickness = leave_out_broken(root, arrays["ok"], notes, exact, arrays["images"], labels, thickness)
    return images, labels, classes, thickness, notes


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
            if match and info.file_size <= 1 << 20 and info.compress_type in formats.PACKINGS:
                members.append((int(match[1]), int(match[2]), info))
            elif not info.is_dir():
                stray.append(info.filename)
        if not 0 < len(members) <= MAX_IMAGES:
            raise UserError(f"{path}: {len(members):,} pictures named id_<n>_label_<d>.png, not 1 to {MAX_IMAGES:,}")
        members.sort(key=lambda member: member[0])

        def open_one(i):
            with z.open(members[i][2]) as f:
                return open_picture(io.BytesIO(f.read(members[i][2].file_size)))    # not more: its header may lie

        images, ok, notes = normalize_pictures(
            len(members), open_one,
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


def cached(path, key, build, forms):
    """`build()`'s dict of arrays, of these `forms`, kept in the .npz `path` as long as `key` (anything with a repr)
    stays the same. Where nothing can be written, or the cache is damaged, the arrays are simply built."""
    key = hashlib.sha256(repr(("3", key)).encode("utf-8", "surrogateescape")).hexdigest()
    with contextlib.suppress(UserError, KeyError):
        if read_npz(path, {"key": Form(("U",), ())})["key"] == key:
            arrays = read_npz(path, forms)
            return {name: arrays[name] for name in forms}
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
