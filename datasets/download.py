"""Where the named data sets come from: one table of mirrors, files, hashes, readers, classes; and the download.

    paths, warnings = download("mnist", "data")             # {part: Path}, missing files downloaded and checked
    arrays = SOURCES["mnist"].read(paths)                   # x_train, y_train, x_test, y_test
"""
import hashlib
import io
import os
import sys
import threading
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import strokes
from datasets.formats import NOTES, Form, read_idx, read_npz, reading
from datasets.normalize import SIDE
from datasets.readers import CACHE_NAME, cached, read_labelled_zip, stat_digest
from utils.cli import Progress
from utils.files import UserError, atomic
from utils.limits import MAX_DOWNLOAD, MAX_IMAGES

ANSWER_SECONDS = 4             # for a mirror to answer, and for each block of a transfer
BLOCK = 1 << 14                # bytes
STROKES = {"train": (60_000, 0), "test": (10_000, 1)}  # images, seed
PARTS = ("x_train", "y_train", "x_test", "y_test")
FORMS = {part: Form(("u1",), (None, SIDE, SIDE)) if part[0] == "x" else Form(("u", "i"), (None,)) for part in PARTS}


class Missing(UserError):
    """The files of a named data set are neither on disk nor to be had from a mirror."""


class File(NamedTuple):
    """A file of a data set, as the mirrors name it."""
    part: str
    name: str
    digest: str | None = None  # "md5:..." or "sha256:..." of the file as served; None: not published
    content: str | None = None  # SHA-256 of its decompressed content, where that is known too


@dataclass
class Source:
    """A named data set. `forms`: the sets of files that it may come in; the first one is what the mirrors serve."""
    title: str
    classes: list
    read: Callable             # {File.part: Path} -> {x_train, y_train, x_test, y_test [, notes]: array}
    license: str
    mirrors: tuple = ()
    forms: tuple = ((),)
    synthetic: bool = False


def read_mnist(paths):
    return {f.part: read_idx(paths[f.part], f.content) for f in SOURCES["mnist"].forms[0]}


def read_kuzushiji(paths):
    arrays = {part: read_npz(path, {"arr_0": FORMS[part]}).get("arr_0") for part, path in paths.items()}
    for part, path in paths.items():
        if arrays[part] is None:
            raise UserError(f"{path} holds no array arr_0, so it is no official Kuzushiji file")
    return arrays


def read_arabic(paths):
    def build():
        arrays, notes = {}, []
        for split in ("train", "test"):
            if split in paths:
                x, y, stray = read_labelled_zip(paths[split])
                notes += stray
            else:
                with reading(paths["x_" + split]):
                    x = np.loadtxt(paths["x_" + split], np.uint8, delimiter=",", max_rows=MAX_IMAGES, ndmin=2)
                    x = x.reshape(len(x), SIDE, SIDE).transpose(0, 2, 1)  # Kaggle stores them transposed
                with reading(paths["y_" + split]):
                    y = np.loadtxt(paths["y_" + split], np.int64, max_rows=MAX_IMAGES, ndmin=1)
            arrays |= {"x_" + split: x, "y_" + split: y}
        return arrays | {"notes": np.array(notes, str)}
    folder = next(iter(paths.values())).parent
    return cached(folder / CACHE_NAME, stat_digest(folder, [path.name for path in paths.values()]), build,
                  FORMS | {"notes": NOTES})


def draw_strokes(kind, paths):
    """A built-in data set: drawn, or taken from the cache that the first drawing left."""
    def build():
        arrays = {}
        for split, (n, seed) in STROKES.items():
            arrays["x_" + split], arrays["y_" + split] = strokes.generate(n, seed, kind, threads=os.cpu_count() or 1)
        return arrays
    code = hashlib.sha256(Path(strokes.__file__).read_bytes()).hexdigest()
    return cached(paths["cache"], [code, STROKES, kind], build, FORMS)


def kuzushiji_files(name, *digests):
    parts = ("train-imgs", "train-labels", "test-imgs", "test-labels")
    return tuple(File(part, f"{name}-{file}.npz", "md5:" + md5) for part, file, md5 in zip(PARTS, parts, digests))


MNIST_FILES = tuple(File(part, f"{name}-ubyte.gz", "sha256:" + digest, content) for part, name, digest, content in [
    ("x_train", "train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
     "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("y_train", "train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
     "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("x_test", "t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
     "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("y_test", "t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
     "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2")])
KMNIST_FILES = kuzushiji_files("kmnist", "a183fbc01ed9a345513b145673d3d0bb", "b0e1d240e8afec72b50437fc3bc5908a",
                               "dace6de62ca8b90843cc45366337d02e", "3ae489a79983d0fe386152684e3b5412")
K49_FILES = kuzushiji_files("k49", "7ac088b20481cf51dcd01ceaab89d821", "44a8e1b893f81e63ff38d73cad420f7a",
                            "d352e201d846ce6b94f42c990966f374", "4da6f7a62e67a832d5eb1bd85c5ee448")
K49_CHARACTERS = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわゐゑをんゝ"
ARABIC_ZIPS = (
    File("train", "Train Images.zip"),
    File("test", "Test Images.zip", "sha256:d6bb8ade3a96c885fbe64cdc58e584a6a0c24bcddad3daa972048cdb5745017c"))
ARABIC_CSVS = (
    File("x_train", "csvTrainImages 60k x 784.csv"), File("y_train", "csvTrainLabel 60k x 1.csv"),
    File("x_test", "csvTestImages 10k x 784.csv"), File("y_test", "csvTestLabel 10k x 1.csv"))
ARABIC_MIRROR = "https://github.com/mloey/Arabic-Handwritten-Digits-Dataset/raw/master/"
KUZUSHIJI_LICENSE = ("CC BY-SA 4.0, 'KMNIST Dataset' (created by CODH), adapted from 'Kuzushiji Dataset' (created by "
                     "NIJL and others), doi:10.20676/00000341")
DRAWN_LICENSE = "made by this program: free of rights"
SOURCES = {
    "mnist": Source("MNIST (LeCun, Cortes, Burges)", list("0123456789"), read_mnist, "usually cited as CC BY-SA 3.0",
                    ("https://ossci-datasets.s3.amazonaws.com/mnist/",
                     "https://storage.googleapis.com/cvdf-datasets/mnist/"), (MNIST_FILES,)),
    "kmnist": Source("Kuzushiji-MNIST (CODH)", list("おきすつなはまやれを"), read_kuzushiji, KUZUSHIJI_LICENSE,
                     ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",), (KMNIST_FILES,)),
    "k49": Source("Kuzushiji-49 (CODH)", list(K49_CHARACTERS), read_kuzushiji, KUZUSHIJI_LICENSE,
                  ("http://codh.rois.ac.jp/kmnist/dataset/k49/",), (K49_FILES,)),
    "arabic": Source("Arabic Handwritten Digits (AHDD, from MADBase)", list("٠١٢٣٤٥٦٧٨٩"), read_arabic,
                     "none stated by the author", (ARABIC_MIRROR,), (ARABIC_ZIPS, ARABIC_CSVS)),
    "strokes": Source("digits drawn by strokes.py, not handwriting", list("0123456789"),
                      partial(draw_strokes, "digits"), DRAWN_LICENSE, synthetic=True),
    "strokes-arabic": Source("Arabic-Indic digits drawn by strokes.py, not handwriting", list("٠١٢٣٤٥٦٧٨٩"),
                             partial(draw_strokes, "arabic"), DRAWN_LICENSE, synthetic=True),
}


def read_url(url):
    """The bytes of `url`. Raises UserError where a mirror refuses, is cut off, sends too much, or no block comes for
    ANSWER_SECONDS, be it in the name look-up."""
    content, faults, progress = bytearray(), [], Progress(sys.stderr, delay=1)

    def read():
        request = urllib.request.Request(url, headers={"User-Agent": "glyphs"})
        try:
            with reading(url), urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
                while len(content) <= MAX_DOWNLOAD and (block := response.read(BLOCK)):
                    content.extend(block)
                    progress(f"downloading {url}, bytes", len(content), len(content) + (response.length or 0))
                if response.length or len(content) > MAX_DOWNLOAD:
                    raise UserError(f"truncated at {len(content):,} bytes (at most {MAX_DOWNLOAD:,} are taken)")
        except UserError as e:  # whatever a broken server makes urllib raise
            faults.append(str(e.__cause__ or "") or str(e))
    thread = threading.Thread(target=read, daemon=True)  # a look-up that hangs cannot be stopped, only left behind
    thread.start()
    done = -1
    while thread.is_alive() and len(content) > done:
        done = len(content)
        thread.join(ANSWER_SECONDS)
    progress.close()
    if thread.is_alive():
        raise UserError(f"nothing came for {ANSWER_SECONDS} s")
    if faults:
        raise UserError(faults[0])
    return content


def fault_of(file, content):
    """What is wrong with the bytes of a File, or None."""
    kind, _, expected = (file.digest or "").partition(":")
    if expected and hashlib.new(kind, content).hexdigest() != expected:
        return f"{file.name} is not the official file (wrong {kind})"
    is_broken = file.name.endswith(".zip") and not zipfile.is_zipfile(io.BytesIO(content))
    return f"{file.name} is no zip archive" if is_broken else None


def download(name, data_dir):
    """The files of a named data set, {part: Path}, missing ones downloaded; and warnings about unofficial ones. Raises
    Missing, with the URLs and the folder, where a file is neither on disk nor to be had."""
    source, folder = SOURCES[name], Path(data_dir) / name
    if source.synthetic:
        return {"cache": folder / CACHE_NAME}, []

    def on_disk(form):
        return {f: path for f in form for path in (folder / f.name, folder / f.name.removesuffix(".gz"))
                if path.is_file()}
    form = max(source.forms, key=lambda form: len(on_disk(form)))
    paths = on_disk(form)
    missing = [f for f in form if f not in paths]
    if missing and form != source.forms[0]:
        raise Missing(f"{name}: {', '.join(f.name for f in missing)} missing in {folder}, beside what is there")
    reasons = []
    for mirror in source.mirrors:  # one that fails is left; the next one serves the rest
        try:
            while missing:
                file = missing[0]
                content = read_url(mirror + urllib.parse.quote(file.name))
                if fault := fault_of(file, content):
                    raise UserError(fault)
                with atomic(folder / file.name) as tmp:
                    tmp.write_bytes(content)
                paths[missing.pop(0)] = folder / file.name
        except UserError as e:
            reasons.append(f"{mirror}: {e}")
    if missing:
        urls = " ".join(mirror + urllib.parse.quote(f.name) for mirror in source.mirrors for f in missing)
        raise Missing(f"{name}: no {', '.join(f.name for f in missing)} in {folder} and no download "
                      f"({'; '.join(reasons)}); put the files into {folder} yourself, from {urls}")
    # A .npz or .zip that was packed again may hold the same images, so another hash is no error.
    with reading(folder):
        faults = [fault_of(f, path.read_bytes()) if path.stat().st_size <= MAX_DOWNLOAD else f"{f.name} is too large"
                  for f, path in paths.items() if not f.content]
    return {f.part: path for f, path in paths.items()}, [fault for fault in faults if fault]
