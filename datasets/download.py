"""Where the named data sets come from: one table of mirrors, files, hashes, readers, classes; and the download.

    paths, warnings = obtain("mnist", "data")               # {part: Path}, missing files downloaded and checked
    arrays = SOURCES["mnist"].read(paths)                   # x_train, y_train, x_test, y_test

A missing network is noticed within seconds, a mirror that fails is followed by the next one, and files are written
whole or not at all.
"""
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from datasets.normalize import SIDE, progress
from datasets.readers import CACHE_NAME, cached, read_csv, read_idx, read_labelled_zip, read_npz
from utils.files import UserError, atomic

ANSWER_SECONDS = 5             # for a mirror to answer, and the longest silence in a transfer
SLOWEST = 4096                 # bytes per second below which a transfer is given up
DOWNLOAD_LIMIT = 256 << 20     # bytes of one file; the largest, Kuzushiji-49's, takes 63 MB
STROKES_SIZES = {"train": 60_000, "test": 10_000}
STROKES_SEEDS = {"train": 0, "test": 1}
PARTS = ("x_train", "y_train", "x_test", "y_test")


class Missing(UserError):
    """The files of a named data set are neither on disk nor to be had from a mirror."""


# ---- the table of sources --------------------------------------------------------------------------------------------

class File(NamedTuple):
    """A file of a data set: its part, its name at the mirrors, "md5:..." or "sha256:..." of it as served (None: not
    published), and the SHA-256 of its decompressed content where that is known too."""
    part: str
    name: str
    digest: str | None = None
    content: str | None = None


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
    arrays = {part: read_npz(path, ["arr_0"]).get("arr_0") for part, path in paths.items()}
    for part, a in arrays.items():
        if a is None:
            raise UserError(f"{paths[part]} holds no array arr_0, so it is no official Kuzushiji file")
    return arrays


def read_arabic(paths):
    def build():
        arrays, notes = {}, []
        for split in ("train", "test"):
            if split in paths:
                arrays["x_" + split], arrays["y_" + split], found = read_labelled_zip(paths[split], 10)
                notes += found
                continue
            pixels = read_csv(paths["x_" + split], labelled=False)[1]
            arrays["x_" + split] = pixels.reshape(-1, SIDE, SIDE).transpose(0, 2, 1)  # Kaggle stores them transposed
            try:
                arrays["y_" + split] = np.loadtxt(paths["y_" + split], np.int64, max_rows=1_000_000, ndmin=1)
            except ValueError as e:
                raise UserError(f"{paths['y_' + split]}: {e}; expected one digit a line") from e
        return {**arrays, "notes": np.array(notes, str)}
    cache = next(iter(paths.values())).with_name(CACHE_NAME)
    return cached(cache, fingerprint(paths.values()), build)


def draw_strokes(kind):
    """The reader of a built-in data set: draws it, or takes it from the cache that the first drawing left."""
    def read(paths):
        from datasets import strokes  # here, for the sake of the others' start-up

        def build():
            arrays = {}
            for split, n in STROKES_SIZES.items():
                arrays["x_" + split], arrays["y_" + split] = strokes.generate(
                    n, seed=STROKES_SEEDS[split], kind=kind, threads=os.cpu_count() or 1)
            return arrays
        code = hashlib.sha256(Path(strokes.__file__).read_bytes()).hexdigest()
        return cached(paths["cache"], [code, STROKES_SIZES, STROKES_SEEDS, kind], build)
    return read


def kuzushiji_files(name, *digests):
    parts = ("train-imgs", "train-labels", "test-imgs", "test-labels")
    return tuple(File(part, f"{name}-{file}.npz", "md5:" + md5) for part, file, md5 in zip(PARTS, parts, digests))


MNIST_FILES = (
    File("x_train", "train-images-idx3-ubyte.gz",
         "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
         "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    File("y_train", "train-labels-idx1-ubyte.gz",
         "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
         "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    File("x_test", "t10k-images-idx3-ubyte.gz",
         "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
         "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    File("y_test", "t10k-labels-idx1-ubyte.gz",
         "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
         "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"))
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

KUZUSHIJI_LICENSE = ("CC BY-SA 4.0, 'KMNIST Dataset' (created by CODH), adapted from 'Kuzushiji Dataset' (created by "
                     "NIJL and others), doi:10.20676/00000341")
SOURCES = {
    "mnist": Source("MNIST (LeCun, Cortes, Burges)", list("0123456789"), read_mnist,
                    "usually cited as CC BY-SA 3.0",
                    ("https://ossci-datasets.s3.amazonaws.com/mnist/",
                     "https://storage.googleapis.com/cvdf-datasets/mnist/"), (MNIST_FILES,)),
    "kmnist": Source("Kuzushiji-MNIST (CODH)", list("おきすつなはまやれを"), read_kuzushiji, KUZUSHIJI_LICENSE,
                     ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",), (KMNIST_FILES,)),
    "k49": Source("Kuzushiji-49 (CODH)", list(K49_CHARACTERS), read_kuzushiji, KUZUSHIJI_LICENSE,
                  ("http://codh.rois.ac.jp/kmnist/dataset/k49/",), (K49_FILES,)),
    "arabic": Source("Arabic Handwritten Digits (AHDD, from MADBase)", list("٠١٢٣٤٥٦٧٨٩"), read_arabic,
                     "none stated by the author",
                     ("https://github.com/mloey/Arabic-Handwritten-Digits-Dataset/raw/master/",),
                     (ARABIC_ZIPS, ARABIC_CSVS)),
    "strokes": Source("digits drawn by strokes.py, not handwriting", list("0123456789"), draw_strokes("digits"),
                      "made by this program: free of rights", synthetic=True),
    "strokes-arabic": Source("Arabic-Indic digits drawn by strokes.py, not handwriting", list("٠١٢٣٤٥٦٧٨٩"),
                             draw_strokes("arabic"), "made by this program: free of rights", synthetic=True),
}


def fingerprint(paths):
    """Names, sizes and times of files: what a cache depends on."""
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]


# ---- download --------------------------------------------------------------------------------------------------------

class MirrorError(Exception):
    """A mirror did not deliver; the next one may."""


def answer(url, method="GET"):
    """The response of `url`, or MirrorError after ANSWER_SECONDS, even where a name look-up or a connection hangs."""
    box = queue.SimpleQueue()

    def ask():
        try:
            request = urllib.request.Request(url, method=method, headers={"User-Agent": "glyphs"})
            box.put(urllib.request.urlopen(request, timeout=ANSWER_SECONDS))
        except Exception as e:  # handed over to the caller's thread
            box.put(e)
    threading.Thread(target=ask, daemon=True).start()  # a look-up that hangs cannot be stopped, only left behind
    try:
        got = box.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise MirrorError(f"no answer within {ANSWER_SECONDS} s") from None
    if isinstance(got, urllib.error.HTTPError) and method == "HEAD":
        return got  # the mirror is there, which is all that was asked
    if isinstance(got, Exception):
        raise MirrorError(str(getattr(got, "reason", got)) or type(got).__name__) from got
    return got


def any_answer(urls):
    """Ask all `urls` at once; MirrorError with the reasons if none of their hosts answers within ANSWER_SECONDS."""
    answers = queue.SimpleQueue()

    def ask(url):
        try:
            answer(url, "HEAD").close()
            answers.put(None)
        except MirrorError as e:
            answers.put(f"{urllib.parse.urlsplit(url).hostname}: {e}")
    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    reasons = []
    for _ in urls:
        reason = answers.get()
        if reason is None:
            return
        reasons.append(reason)
    raise MirrorError("; ".join(sorted(reasons)))


def blocks(response):
    """Bytes of a response as they come; MirrorError when they stop, dribble, are too few or too many."""
    expected = response.length
    done, since, marked = 0, time.monotonic(), 0
    while True:
        try:
            block = response.read1(1 << 16)
        except (OSError, http.client.HTTPException) as e:
            raise MirrorError(f"the transfer stopped after {done:,} bytes: {e}") from e
        if not block:
            break
        done += len(block)
        now = time.monotonic()
        if now - since > ANSWER_SECONDS:
            if done - marked < SLOWEST * (now - since):
                raise MirrorError(f"the transfer stalled after {done:,} bytes")
            since, marked = now, done
        if done > DOWNLOAD_LIMIT:
            raise MirrorError(f"more than {DOWNLOAD_LIMIT:,} bytes")
        yield block
    if expected is not None and done != expected:
        raise MirrorError(f"truncated: {done:,} of {expected:,} bytes")


def download(file, mirrors, folder):
    """Fetch one File into `folder` from the first mirror that delivers it whole and unaltered; return its path.

    `mirrors` is a list; one that fails goes to its end, so that the next file asks a better one first. MirrorError if
    none delivers.
    """
    reasons = []
    for mirror in list(mirrors):
        try:
            with answer(mirror + urllib.parse.quote(file.name)) as response, atomic(folder / file.name) as tmp:
                kind, _, wanted = (file.digest or "sha256:").partition(":")
                digest, done, total, start = hashlib.new(kind), 0, response.length or 0, time.monotonic()
                with open(tmp, "wb") as out:
                    for block in blocks(response):
                        out.write(block)
                        digest.update(block)
                        done += len(block)
                        progress(f"downloading {file.name}", done, total, start, " bytes")
                if file.name.endswith(".zip") and not zipfile.is_zipfile(tmp):
                    raise MirrorError("it sent something else than a zip archive")
                if wanted and digest.hexdigest() != wanted:
                    raise MirrorError(f"wrong {kind} {digest.hexdigest()}, expected {wanted}")
            return folder / file.name
        except MirrorError as e:
            reasons.append(f"{mirror}: {e}")
            mirrors.append(mirrors.pop(mirrors.index(mirror)))
    raise MirrorError(f"{file.name} cannot be had ({'; '.join(reasons)})")


def obtain(name, data_dir):
    """The files of a named data set, {part: Path}, missing ones downloaded; and warnings about unofficial ones.

    Raises Missing with the URLs and the folder where a file is neither on disk nor to be had.
    """
    source, folder = SOURCES[name], Path(data_dir) / name
    if source.synthetic:
        return {"cache": folder / CACHE_NAME}, []
    found = [{f: path for f in form for path in (folder / f.name, folder / f.name.removesuffix(".gz"))
              if path.is_file()} for form in source.forms]
    best = max(range(len(found)), key=lambda i: len(found[i]))
    form, here = source.forms[best], found[best]
    missing = [f for f in form if f not in here]
    if missing and best > 0:
        raise Missing(f"{name}: {', '.join(f.name for f in missing)} missing in {folder}, beside what is there")
    if missing:
        try:
            mirrors = list(source.mirrors)
            any_answer([mirror + urllib.parse.quote(missing[0].name) for mirror in mirrors])
            for f in missing:
                here[f] = download(f, mirrors, folder)
        except (MirrorError, UserError) as e:
            lacking = [f for f in form if f not in here]
            urls = " ".join(mirror + urllib.parse.quote(f.name) for mirror in source.mirrors for f in lacking)
            raise Missing(f"{name}: no {', '.join(f.name for f in lacking)} in {folder} and no download ({e}); put the "
                          f"files into {folder} yourself, from {urls}") from e
    warnings = []
    for f, path in here.items():
        kind, _, wanted = (f.digest or "").partition(":")
        if wanted and not f.content:  # a repacked file may hold the same images, so this is no error
            with open(path, "rb") as opened:
                if hashlib.file_digest(opened, kind).hexdigest() != wanted:
                    warnings.append(f"{path.name} is not the official file (its {kind} differs)")
    return {f.part: path for f, path in here.items()}, warnings
