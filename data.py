"""Every data set -> arrays, their splits and subsets, and the style of a glyph.

    python data.py mnist                # a summary: counts, ink, splits, source, hash
    python data.py my_letters/          # a folder with one sub-folder of images per class, an .npz or a .csv

    glyphs = load("mnist")              # Glyphs: x_train uint8 [N,28,28], y_train int64 [N], x_val, ..., classes
    table = ink_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
    t = thickness(glyphs.x_test, glyphs.y_test, table)      # 0 the thinnest of its class, 1 the thickest

Images are uint8 [N,28,28], ink 255 on background 0, upright as a human reads; only glyph_files.py,
pictures.py and sources.py know a format. Files are looked for in --data-dir (default $GLYPHS_DATA, else data/), each
data set in its own sub-folder; what is missing is downloaded from the mirrors in sources.py. No torch here.
"""
import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datasets.download import PARTS, SOURCES, Missing, fingerprint, obtain
from datasets.normalize import SIDE, few, glyphs_of
from datasets.readers import MAX_CLASSES, cached, natural, read_csv, read_folder, read_idx, read_npz, reading
from utils.cli import Parser, run_command
from utils.files import UserError

VAL_SHARE = 1 / 12             # of the training images: 5,000 of MNIST's 60,000
TEST_SHARE = 1 / 6             # of one's own images where they come without a test split
LEVELS = 256                   # ink quantiles per class


@dataclass(eq=False)
class Glyphs:
    """A data set: images uint8 [N,28,28] and labels int64 [N] of three disjoint splits; `classes` as people read them.
    """
    name: str
    classes: list
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str                # one sentence for the record of a run
    license: str
    synthetic: bool = False    # drawn by strokes.py, not by hand
    notice: str = ""           # what must be said loudly, in the terminal and in the run's record
    warnings: list = field(default_factory=list)  # what was left out, inverted, ...

    @functools.cached_property
    def sha256(self):
        """Hex digest over all six arrays and their shapes."""
        digest = hashlib.sha256()
        for a in (self.x_train, self.y_train, self.x_val, self.y_val, self.x_test, self.y_test):
            digest.update(f"{a.dtype.str}{a.shape}".encode())
            digest.update(np.ascontiguousarray(a).data)
        return digest.hexdigest()

    def subset(self, n_per_class, seed):
        """The same data set with at most `n_per_class` training images of each class, drawn by `seed`.

        Subsets of one seed are nested: that of 10 lies within that of 20. Val and test stay whole.
        """
        if n_per_class < 1:
            raise UserError(f"{n_per_class} images per class: at least 1 is needed")
        keep = np.sort(np.flatnonzero(place_in_class(self.y_train, seed) < n_per_class))
        return replace(self, x_train=self.x_train[keep], y_train=self.y_train[keep], warnings=list(self.warnings),
                       source=f"{self.source}; at most {n_per_class} training images per class (seed {seed})")


# ---- style: how thick an image is among its class --------------------------------------------------------------------

def ink(images):
    """Ink of uint8 [N,28,28] images, the count of pixels above 127: int64 [N]."""
    out = np.empty(len(images), np.int64)
    for i in range(0, len(images), 8192):
        block = images[i:i + 8192]
        out[i:i + 8192] = np.count_nonzero(block.reshape(len(block), -1) > 127, axis=1)
    return out


def ink_table(x_train, y_train, n_classes):
    """Ink quantiles of every class in the training split, at levels (i + 0.5) / 256: int16 [n_classes, 256].

    The quantile is the smallest ink whose share of images at or below it reaches the level. A class without an image
    gets the quantiles of all images.
    """
    x_train = np.asarray(x_train)
    amounts = x_train if x_train.ndim == 1 else ink(x_train)
    levels = (np.arange(LEVELS) + 0.5) / LEVELS

    def quantiles(values):
        return np.sort(values)[np.ceil(levels * len(values)).astype(np.int64) - 1]

    table = np.tile(quantiles(amounts).astype(np.int16), (n_classes, 1))
    order = np.argsort(y_train, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(y_train[order])) + 1):
        table[y_train[group[0]]] = quantiles(amounts[group])
    return table


def thickness(images_or_ink, labels, table):
    """Rank of each image's ink in its class's quantiles, ties in the middle: float32 [N] in [0, 1].

    Takes images uint8 [N,28,28] or their ink [N]; `labels` int64 [N]; `table` from ink_table.
    """
    amounts = np.asarray(images_or_ink)
    amounts = (amounts if amounts.ndim == 1 else ink(amounts)).astype(np.int64)
    # Each class's sorted quantiles follow each other on one number line, so that one search serves all classes.
    line = (np.asarray(table, np.int64) + 1024 * np.arange(len(table))[:, None]).ravel()
    wanted = amounts + 1024 * np.asarray(labels, np.int64)
    ranks = (np.searchsorted(line, wanted, "left") + np.searchsorted(line, wanted, "right")) / 2
    return ((ranks - LEVELS * np.asarray(labels)) / LEVELS).astype(np.float32)


def style(t):
    """Style label of thickness t: 0 thin (below 0.5), 1 thick, int64."""
    return (np.asarray(t) >= 0.5).astype(np.int64)


# ---- splits ----------------------------------------------------------------------------------------------------------

def place_in_class(labels, seed):
    """The place of each image in a random order of its class, drawn by `seed`: int64 [N], 0 .. class size - 1."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class by class, random within
    counts = np.bincount(labels)
    places = np.empty(len(labels), np.int64)
    places[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def hold_out(labels, share, seed):
    """Indices (kept, held out) of a stratified split, both ascending.

    `share` of all images is held out, each class in proportion (largest remainders), but at least one of every class of
    three or more, and never the last of a class.
    """
    counts = np.bincount(labels)
    exact = np.where(counts > 1, counts * share, 0)
    held = np.floor(exact).astype(np.int64)
    short = int(round(exact.sum())) - held.sum()
    held[np.argsort(held - exact, kind="stable")[:short]] += 1
    held = np.maximum(held, counts > 2)
    out = place_in_class(labels, seed) < held[labels]
    return np.flatnonzero(~out), np.flatnonzero(out)


# ---- load ------------------------------------------------------------------------------------------------------------

@reading()
def load(name=None, data_dir=None, seed=0, center=True):
    """A data set as Glyphs: a name of SOURCES, or the path of one's own folder, .npz or .csv.

    name=None takes MNIST where it is on disk or can be downloaded, otherwise the built-in strokes, with a `notice` that
    says so. `seed` draws the val split (and the test split of one's own images); keep it, so that runs compare.
    `center=False` keeps the frame of one's own images instead of cropping and centring them. Raises UserError.
    """
    data_dir = Path(data_dir or os.environ.get("GLYPHS_DATA") or "data")
    if name is None:
        try:
            return load("mnist", data_dir, seed)
        except Missing as e:
            glyphs = load("strokes", data_dir, seed)
            glyphs.notice = ("MNIST is not on disk and could not be downloaded: these are the built-in STROKES, digits "
                             "drawn by a program, NOT handwriting")
            glyphs.warnings.append(str(e))
            return glyphs
    if str(name) not in SOURCES:
        return load_own(Path(name).expanduser(), seed, center)
    source = SOURCES[name]
    paths, warnings = obtain(name, data_dir)
    arrays = source.read(paths)
    for split in ("train", "test"):
        x, y = arrays["x_" + split], arrays["y_" + split]
        if x.dtype != np.uint8 or x.shape[1:] != (SIDE, SIDE) or y.shape != (len(x),) or not len(x):
            raise UserError(f"{name}: its {split} files hold {x.dtype} {list(x.shape)}, labels {list(y.shape)}, "
                            "not uint8 [N, 28, 28] and [N]")
        if y.dtype.kind not in "iu" or not 0 <= y.min() <= y.max() < len(source.classes):
            raise UserError(f"{name}: its {split} labels do not lie in 0 .. {len(source.classes) - 1}")
    standing = "" if source.synthetic else ", unofficial files" if warnings else ", official split"
    return split_up(name, source.classes, *(arrays[part] for part in PARTS), seed, source=source.title + standing,
                    license=source.license, synthetic=source.synthetic,
                    warnings=warnings + arrays.get("notes", np.array([])).tolist())


def split_up(name, classes, x, y, x_test, y_test, seed, **rest):
    """Glyphs with val (and test where x_test is None) held out of x, y; warns of classes too small for it."""
    warnings = rest.pop("warnings")
    y = y.astype(np.int64)
    if x_test is None:
        kept, held = hold_out(y, TEST_SHARE, seed)
        x, y, x_test, y_test = x[kept], y[kept], x[held], y[held]
    kept, held = hold_out(y, VAL_SHARE, seed + 1)
    glyphs = Glyphs(name, list(classes), x[kept], y[kept], x[held], y[held], np.array(x_test),
                    np.array(y_test, np.int64), warnings=warnings, **rest)
    counts = np.bincount(glyphs.y_train, minlength=len(classes))
    for what, chosen in (("classes with a single training image", counts == 1),
                         ("classes without an image in val", np.bincount(glyphs.y_val, minlength=len(classes)) == 0),
                         ("classes without an image in test", np.bincount(glyphs.y_test, minlength=len(classes)) == 0)):
        if chosen.any():
            warnings.append(few(what, [classes[i] for i in np.flatnonzero(chosen)]))
    return glyphs


def load_own(path, seed=0, center=True):
    """One's own images as Glyphs: a folder with a sub-folder per class, an .npz or a .csv; see glyph_files.py."""
    name = path.resolve().stem if path.suffix.lower() in (".npz", ".csv") else path.resolve().name
    x_test = y_test = None
    if path.is_dir():
        x, y, classes, _, warnings = read_folder(path, center)
        if y is None:
            raise UserError(f"{path} holds images but no sub-folders; put the images of each class into one")
    elif path.suffix.lower() == ".csv" and path.is_file():
        def build():
            labels, pixels = read_csv(path)
            return {"labels": np.array(labels, str), "pixels": pixels}
        arrays = cached(path.with_name(f".{path.name}.glyphs-cache.npz"), fingerprint([path]), build)
        x, _, warnings = glyphs_of(arrays["pixels"], path.name, center)
        y, classes = arrays["labels"], None
    elif path.suffix.lower() == ".npz" and path.is_file():
        x, y, x_test, y_test, classes, warnings = read_own_npz(path, center)
    else:
        raise UserError(f"no data set {str(path)!r}: choose {', '.join(SOURCES)}, or the path of a folder with one "
                        "sub-folder of images per class, of an .npz or of a .csv")
    x, y, x_test, y_test, classes = number_classes(x, y, x_test, y_test, classes, path, warnings)
    test = "test held out by seed" if x_test is None else "test as given"
    return split_up(name, classes, x, y, x_test, y_test, seed, source=f"the user's own images {name!r}, {test}",
                    license="the user's own", warnings=warnings)


def read_own_npz(path, center):
    """x_train y_train [x_test y_test] [chars] or images labels [classes] -> x, y, x_test, y_test, classes, warnings."""
    arrays = read_npz(path, ["x_train", "y_train", "x_test", "y_test", "chars", "images", "labels", "classes"])
    x_name, y_name = ("x_train", "y_train") if "x_train" in arrays else ("images", "labels")
    if x_name not in arrays or y_name not in arrays:
        raise UserError(f"{path} holds {', '.join(arrays) or 'nothing known'}; expected x_train y_train [x_test y_test "
                        "chars], or images labels [classes]")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise UserError(f"{path} holds one of x_test and y_test without the other")
    splits, warnings = [], []
    for xs, ys in ((x_name, y_name), ("x_test", "y_test")):
        if xs not in arrays:
            splits += [None, None]
            continue
        if arrays[ys].shape != (len(arrays[xs]),):
            raise UserError(f"{path}: {ys} has shape {list(arrays[ys].shape)}, expected [{len(arrays[xs])}] as {xs}")
        x, ok, notes = glyphs_of(arrays.pop(xs), xs, center)
        splits += [x if ok.all() else x[ok], arrays[ys][ok]]
        warnings += notes
    classes = arrays.get("chars", arrays.get("classes"))
    return *splits, None if classes is None else classes.astype(str).tolist(), warnings


def number_classes(x, y, x_test, y_test, classes, path, warnings):
    """Labels (indices into `classes`, or names where that is None) -> int64 0 .. K-1 and the K names.

    Names are put in natural order. Classes without a training image are left out, with a warning.
    """
    def is_whole(a):
        return a.dtype.kind in "iu" or a.dtype.kind == "f" and np.array_equal(a, np.floor(a))
    y, y_test = (a.astype(np.int64) if a is not None and is_whole(a) else a for a in (y, y_test))
    if classes is None:
        names = [None if a is None else a.astype(str).tolist() for a in (y, y_test)]
        classes = sorted(set(names[0]).union(names[1] or []), key=natural)
        index = {c: i for i, c in enumerate(classes)}
        y, y_test = (None if a is None else np.array([index[c] for c in a], np.int64) for a in names)
    for a in (y, y_test):
        if a is not None and a.size and (a.dtype != np.int64 or not 0 <= a.min() <= a.max() < len(classes)):
            raise UserError(f"{path}: labels must be whole numbers from 0 to {len(classes) - 1}, places in the classes")
    if len(set(classes)) < len(classes):
        raise UserError(f"{path}: two classes have the same name")
    used = np.bincount(y, minlength=len(classes)) > 0
    if not 2 <= used.sum() <= MAX_CLASSES:
        raise UserError(f"{path} holds {used.sum():,} classes with images; from 2 to {MAX_CLASSES:,} are possible")
    if not used.all():
        warnings.append(few("classes without a usable training image left out",
                            [c for c, u in zip(classes, used) if not u]))
    if y_test is not None:
        kept = used[y_test]
        if not kept.all():
            warnings.append(f"{np.count_nonzero(~kept):,} test images of those classes left out")
        x_test, y_test = x_test[kept], y_test[kept]
    place = np.cumsum(used) - 1
    return (x, place[y], x_test, None if y_test is None else place[y_test],
            [c for c, u in zip(classes, used) if u])


@reading()
def read_images(path, data_dir=None, center=True):
    """A set of images for measuring: (images uint8 [N,28,28], labels int64 [N] or None, thickness float32 [N] or None,
    classes list[str] or None).

    `path`: "mnist:test" or any "NAME:SPLIT" (train, val, test; thickness is then the rank in the training split); a
    folder of images, with the labels.csv of generate_digits.py, class sub-folders or neither; an .npz (images [labels
    thickness classes]; x_train y_train [chars], the training part; arr_0); an .npy; an idx file, `.gz` or not. Grey
    images of 28 x 28 are taken as they are; a broken one is an error here, since a measure over the rest would mislead.
    """
    text, path = str(path), Path(path).expanduser()
    name, colon, split = text.rpartition(":")
    if not path.exists() and colon and split in ("train", "val", "test"):
        glyphs = load(name, data_dir, center=center)
        x, y = getattr(glyphs, "x_" + split), getattr(glyphs, "y_" + split)
        table = ink_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
        return x, y, thickness(x, y, table), glyphs.classes
    if path.is_dir():
        x, y, classes, t, _ = read_folder(path, center, exact=True)
        return x, y, t, classes
    if not path.is_file():
        raise UserError(f"no images at {text!r}: expected a folder, an .npz, .npy or idx file, or NAME:test")
    if path.suffix.lower() not in (".npz", ".npy"):
        return glyphs_of(read_idx(path), path.name, center, as_is=True)[0], None, None, None
    arrays = read_npz(path)
    images = next((arrays[k] for k in ("images", "x_train", "arr_0") if k in arrays), None)
    if images is None:
        raise UserError(f"{path} holds {', '.join(arrays) or 'no array'}; expected images, x_train or arr_0")
    labels = arrays.get("labels", arrays.get("y_train"))
    classes = arrays.get("classes", arrays.get("chars"))
    x, ok, notes = glyphs_of(images, path.name, center, as_is=True)
    if not ok.all():
        raise UserError(f"{path}: {'; '.join(notes)}")
    for extra in (labels, arrays.get("thickness")):
        if extra is not None and extra.shape != (len(x),):
            raise UserError(f"{path}: {len(x):,} images, but labels or thickness of shape {list(extra.shape)}")
    if labels is not None and labels.dtype.kind not in "iu":
        raise UserError(f"{path}: its labels are no whole numbers; ask for {path}:train, which numbers its classes")
    return (x, None if labels is None else labels.astype(np.int64), arrays.get("thickness"),
            None if classes is None else classes.astype(str).tolist())


# ---- summary ---------------------------------------------------------------------------------------------------------

def main():
    parser = Parser("Say what a data set holds.")
    parser.add_argument("name", nargs="?", help=f"{', '.join(SOURCES)}, or a path (default: mnist, else strokes)")
    parser.add_argument("--data-dir", help="where the data sets lie (default: $GLYPHS_DATA, else data/)")
    parser.add_argument("--no-center", action="store_true", help="keep the frame of your own images")
    args = parser.parse_args()
    g = load(args.name, args.data_dir, center=not args.no_center)
    print(f"{g.name}: {g.source}\nlicence: {g.license}\nsha256 of all arrays: {g.sha256}")
    for note in [g.notice] * bool(g.notice) + g.warnings:
        print(f"note: {note}")
    print(f"{'class':>8} {'train':>7} {'val':>6} {'test':>6}  ink thin / median / thick (5 %, 50 %, 95 %)")
    table = ink_table(g.x_train, g.y_train, len(g.classes))
    counts = [np.bincount(y, minlength=len(g.classes)) for y in (g.y_train, g.y_val, g.y_test)]
    for i, c in enumerate(g.classes):
        print(f"{c:>8} {counts[0][i]:7,} {counts[1][i]:6,} {counts[2][i]:6,}  "
              f"{table[i, 13]} / {table[i, 128]} / {table[i, 243]}")
    print(f"{'all':>8} {len(g.y_train):7,} {len(g.y_val):6,} {len(g.y_test):6,}")


if __name__ == "__main__":
    run_command(main)
