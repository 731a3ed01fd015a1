"""Files -> arrays: idx, npy, npz and csv, what they claim checked before memory is taken; nothing here runs a pickle.

    images = read_idx("train-images-idx3-ubyte.gz")                    # MNIST's format, .gz or not
    arrays = read_npz("letters.npz", {"x_train": IMAGES, "y_train": LABELS})     # those that it has, each of its form
    arrays = read_csv("letters.csv")                                   # a label, then 784 pixels a line

A file that cannot be used raises a UserError that names it. Limits: utils/limits.py.
"""
import contextlib
import gzip
import hashlib
import math
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.normalize import SIDE
from utils.cli import Progress
from utils.files import UserError
from utils.limits import MAX_BYTES, MAX_IMAGES, MAX_LINE, MAX_NAME, MAX_RATIO, SMALL_BYTES, SMALL_ROWS


def whole_numbers(a, what):
    """Labels [N] that are numbers of any type as int64; names as they are. Raises UserError for fractions, infinity,
    nan and what int64 cannot hold."""
    if a.dtype.kind not in "iuf":
        return a
    if a.size and not (-2 ** 53 <= float(a.min()) <= float(a.max()) <= 2 ** 53 and (a == np.floor(a)).all()):
        raise UserError(f"{what}: labels must be whole numbers (none beyond 2^53, no nan), or names of classes")
    return a.astype(np.int64)


def unit_interval(a, what):
    """Thickness [N] of any type as float32. Raises UserError for what does not lie in [0, 1], nan among it."""
    if not ((a >= 0) & (a <= 1)).all():
        raise UserError(f"{what}: thickness must lie in 0 .. 1, without nan")
    return a.astype(np.float32)


class Form(NamedTuple):
    """What an array from a file must be."""
    kinds: tuple               # beginnings of its dtype, without byte order: "u1", "f" of any size, "U" text, ...
    shape: tuple | None = None  # None, as a whole or of an axis: any
    width: int = MAX_NAME      # characters of each text
    least: int = 0             # bytes that a row takes on disk at least, however well it packs
    check: Callable | None = None  # (array, what it is) -> the array to use; UserError for values that cannot be


WORDS = {"b": "bool", "u": "uint", "i": "int", "f": "float", "U": "str", "S": "bytes", "u1": "uint8"}
ANY = Form(("b", "u", "i", "f", "U", "S"))
IMAGES = Form(("b", "u", "i", "f"), least=8)           # of any shape here: see normalize_images
LABELS = Form(("u", "i", "f", "b", "U", "S"), (None,), check=whole_numbers)
THICKNESS = Form(("f", "u", "i"), (None,), check=unit_interval)
NAMES = Form(("U", "S", "u", "i"))                     # of classes
NOTES = Form(("U",), (None,), 1 << 16)                 # of a cache
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of zip archives; the others unpack without bounds


@contextlib.contextmanager
def reading(path):
    """What opening or parsing a file raises, almost anything where it is broken, becomes a UserError that names it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what a parser has to say of odd headers
            yield
    except UserError:
        raise
    except Exception as e:
        reason = str(getattr(e, "strerror", None) or e) or type(e).__name__
        raise UserError(f"cannot read {path}: {reason[:200]}; get it again") from e      # some quote the whole file


def expand_home(path):
    """The Path with ~ as a user's folder. Raises UserError for one that no system takes."""
    try:
        path = Path(path).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError) as e:   # no such user, a zero byte, a name too long
        raise UserError(f"cannot use the path {str(path)[:200]!r}: {getattr(e, 'strerror', None) or e}") from e
    return path


def check_regular(path):
    """Refuse what is no regular file: opening a pipe would wait for ever, a device has no end."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is no regular file" if os.path.exists(path) else f"no such file: {path}")


def check_claim(n, stored, what, packed=True):
    """Refuse `n` claimed bytes that `stored` bytes on disk cannot hold (`packed`: with compression), or too many."""
    if n > (max(stored * MAX_RATIO, SMALL_BYTES) if packed else stored):
        raise UserError(f"{what}: its header claims {n:,} bytes in a file of {stored:,}: damaged, or made to fill the "
                        "memory" + ("; if neither, save it without compression" if packed else ""))
    if n > MAX_BYTES:
        raise UserError(f"{what}: {n:,} bytes are more than the limit of {MAX_BYTES:,}; take a part of it")


def read_idx(path, sha256=None):
    """The array of an idx file (MNIST's format, unsigned bytes), `.gz` or not: uint8 [N], [N,H,W], ... UserError for a
    foreign, truncated, oversized or altered one; `sha256`: hex digest that the decompressed file must have."""
    path = Path(path)
    is_packed = path.suffix == ".gz"
    check_regular(path)
    with reading(path), gzip.open(path) if is_packed else open(path, "rb") as f:
        head = f.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
            raise UserError(f"{path} is not an idx file of unsigned bytes")
        dims = f.read(4 * head[3])
        shape = np.frombuffer(dims, ">u4").tolist()
        n = math.prod(shape)
        check_claim(n, path.stat().st_size, path, is_packed)
        body = np.empty(n, np.uint8)
        if f.readinto(body) < n or len(shape) < head[3]:
            raise UserError(f"{path} is truncated; get it again")
        if f.read(1):
            raise UserError(f"{path} is longer than its header says; get it again")
        body = body.reshape(shape)
    if sha256 and hashlib.sha256(head + dims + body.data).hexdigest() != sha256:
        raise UserError(f"{path} is not the official file (wrong SHA-256); delete it, it is then downloaded again")
    return body


def check_form(dtype, shape, form, stored, what):
    """Refuse an array that is not of its form, or has more rows than any set has images."""
    if dtype.hasobject or dtype.kind == "V":
        raise UserError(f"{what} holds Python objects or records, which are not read: save plain arrays")
    fits = form.shape is None or len(form.shape) == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(form.shape, shape))
    is_odd = 0 in (dtype.itemsize, *shape[1:]) or dtype.str[1:] in ("f12", "f16")       # sizes that differ by machine
    if not dtype.str[1:].startswith(form.kinds) or not fits or is_odd:
        axes = "any" if form.shape is None else f"[{', '.join('any' if n is None else str(n) for n in form.shape)}]"
        kinds = ", ".join(WORDS.get(kind, kind) for kind in form.kinds)
        raise UserError(f"{what} is {dtype} {list(shape)}; expected {kinds} of shape {axes}")
    if dtype.kind in "US" and dtype.itemsize > 4 * form.width:
        raise UserError(f"{what} holds texts of {dtype.itemsize:,} bytes; the limit is {4 * form.width:,}")
    most = min(MAX_IMAGES, max(stored // form.least, SMALL_ROWS)) if form.least else MAX_IMAGES
    if shape and shape[0] > most:
        raise UserError(f"{what}: {shape[0]:,} rows are more than the limit of {most:,} in a file of {stored:,} bytes")


def read_npy(f, size, form, stored, what):
    """The array of a seekable .npy stream of `size` bytes, in a file of `stored` bytes. Text comes as str,
    bytes decoded as UTF-8."""
    if np.lib.format.read_magic(f) != (1, 0):  # the later ones are for headers above 64 kB, which no plain array has
        raise ValueError(f"{what} is no .npy of version 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(f)
    check_form(dtype, shape, form, stored, what)
    n = math.prod(shape) * dtype.itemsize
    if f.tell() + n != size:
        raise UserError(f"{what}: its header claims {n:,} bytes, it holds {size - f.tell():,}; the file is damaged")
    f.seek(0)
    a = np.lib.format.read_array(f, allow_pickle=False)
    a = a.astype(a.dtype.newbyteorder("="), copy=False)
    if dtype.kind in "SU":
        a = np.char.decode(a, "utf-8") if dtype.kind == "S" else a
        "".join(a.ravel().tolist()).encode()  # raises where this is no text
    return form.check(a, what) if form.check else a


def read_npz(path, forms=None):
    """The arrays of an .npz by name (of an .npy as "arr_0"): those of `forms`, {name: Form}, that it has, or all. Text
    comes as str. No pickles."""
    path, arrays = Path(path), {}
    check_regular(path)
    stored = path.stat().st_size
    if path.suffix == ".npy":
        check_claim(stored, stored, path, packed=False)
        forms = {"arr_0": ANY} if forms is None else forms
        with reading(path), open(path, "rb") as f:
            return {"arr_0": read_npy(f, stored, forms["arr_0"], stored, path)} if "arr_0" in forms else {}
    with reading(path), zipfile.ZipFile(path) as z:
        members = {i.filename.removesuffix(".npy"): i for i in z.infolist() if i.filename.endswith(".npy")}
        forms = dict.fromkeys(members, ANY) if forms is None else forms
        members = {name: members[name] for name in forms if name in members}
        check_claim(sum(i.file_size for i in members.values()), stored, path)
        for name, info in members.items():
            if info.compress_type not in PACKINGS:
                raise UserError(f"{path}: {name} is packed in a way that numpy does not use; save it with numpy")
            with z.open(info) as f:
                arrays[name] = read_npy(f, info.file_size, forms[name], stored, f"{path}: {name}")
    return arrays


def names_in_npz(path):
    """The names of the arrays of an .npz, a set; of an .npy {"arr_0"}."""
    check_regular(path)
    if Path(path).suffix == ".npy":
        return {"arr_0"}
    with reading(path), zipfile.ZipFile(path) as z:
        return {name.removesuffix(".npy") for name in z.namelist() if name.endswith(".npy")}


def read_csv(path):
    """A text file of a label (any text), then 784 pixels 0..255 a line, header line optional:
    {"labels": str [N], "pixels": uint8 [N,784]}."""
    labels, pixels, progress = [], bytearray(), Progress(sys.stderr, delay=1)
    check_regular(path)
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
            labels.append(label.decode("utf-8", "replace").strip(' "'))
            if len(labels[-1]) > MAX_NAME:
                raise UserError(f"{path}, line {number}: a label of {len(labels[-1]):,} characters; possible are {MAX_NAME}")
            pixels += values.astype(np.uint8).tobytes()
            if len(labels) > MAX_IMAGES:
                raise UserError(f"{path} has more lines than the limit of {MAX_IMAGES:,}; take a part of it")
            if number % 256 == 0:
                progress(f"reading {Path(path).name}, bytes", f.tell(), os.path.getsize(path))
    progress.close()
    return {"labels": np.array(labels, str), "pixels": np.frombuffer(pixels, np.uint8).reshape(-1, SIDE * SIDE)}
