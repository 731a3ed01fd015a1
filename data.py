"""Every data set -> arrays, their splits and subsets, and the style of a glyph.

    python data.py mnist                                         # a summary: counts, pens, splits, source, hash
    python data.py my_letters/ --out sheet.png                   # some images of each class; all: --out letters.npz
    python data.py strokes --num 1000 --seed 7 --out more.npz    # fresh images of the built-in simulator
    python data.py random-500 --num 50000 --out random.npz       # 500 characters of a script that nobody writes
    python data.py --form 0123456789 --copies 20 --out form.png  # a form to write on: pages, and form.json
    python data.py --scan page1.jpg page2.jpg --form form.json --out my_letters/    # the glyphs written on it

    glyphs = load("mnist")                                       # Glyphs: x_train, y_train, x_val, ..., classes
    table = width_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
    t = thickness(glyphs.x_test, glyphs.y_test, table)           # 0 the thinnest pen of its class, 1 the thickest

Images are uint8 [N,28,28], ink 255 on background 0, upright as a human reads; only datasets/ knows a file format.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datasets import readers, strokes
from datasets.download import PARTS, SOURCES, Missing, download
from datasets.formats import expand_home
from datasets.normalize import SIDE, left_out, normalize_pictures, open_picture
from utils.cli import Parser, add_data_options, add_font_option, non_empty_path, number, run_command
from utils.files import UserError, atomic
from utils.limits import MAX_CLASSES, MAX_IMAGES, check_class_names

VAL_FRACTION = 1 / 12          # of the training images: 5,000 of MNIST's 60,000
TEST_FRACTION = 1 / 6          # of one's own images where they come without a test split
LEVELS = 256                   # quantiles of the pen width per class
DRAWN = {"strokes": "digits", "strokes-arabic": "arabic"}      # names of data sets -> kinds of the simulator


@dataclass(eq=False)
class Glyphs:
    """A data set: images uint8 [N,28,28] and labels int64 [N] of three disjoint splits; `classes`: their names."""
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
        """The same data set with at most `n_per_class` (1 ..) training images of each class, drawn by `seed`.
        Subsets of one seed are nested: that of 10 lies within that of 20. Val and test stay whole."""
        keep = np.flatnonzero(rank_in_class(self.y_train, seed) < n_per_class)
        return replace(self, x_train=self.x_train[keep], y_train=self.y_train[keep], warnings=list(self.warnings),
                       source=f"{self.source}; at most {n_per_class} training images per class (seed {seed})")


# ---- style: how thick the pen is among those of the class -----------------------------------------

def pen_width(images):
    """Mean width of the strokes of uint8 [N,28,28] images in pixels, float32 [N]: twice the mass over the total
    variation, as the mass of a stroke is length x width and the variation twice its length. Values in [0, 1], forward
    differences on the zero-padded image, Euclidean norm; 0 for a blank image. (utils/distance_field.py has it in torch.)"""
    widths = []
    for part in np.array_split(images, 1 + len(images) // 4096):  # bounds the memory
        padded = np.pad(part.astype(np.float32) / 255, ((0, 0), (1, 1), (1, 1)))
        down = padded[:, 1:, :-1] - padded[:, :-1, :-1]
        across = padded[:, :-1, 1:] - padded[:, :-1, :-1]
        variation = np.hypot(down, across).sum((1, 2))
        widths.append(2 * padded.sum((1, 2)) / np.maximum(variation, 1e-6))
    return np.concatenate(widths)


def width_table(x_train, y_train, n_classes):
    """Quantiles of the pen width of every class in the training split, at levels (i + 0.5) / 256: pixels, float32
    [n_classes, 256]. A quantile is the smallest width that at least this fraction of the images does not exceed. A class
    without an image gets those of all images."""
    widths = pen_width(x_train)
    by_class = widths[np.lexsort((widths, y_train))]                 # class by class, within each ascending
    counts = np.bincount(y_train, minlength=n_classes)
    starts, everything = np.cumsum(counts) - counts, np.sort(widths)
    odd = 2 * np.arange(LEVELS) + 1                                  # level i is odd[i] / (2 * LEVELS)

    def places(n):                                                   # of the quantiles among n [..., 1] sorted values
        return -(-n * odd // (2 * LEVELS)) - 1
    table = by_class[(starts[:, None] + places(counts[:, None])).clip(0)]
    table[counts == 0] = everything[places(len(everything))]
    return table


def thickness(images, labels, table):
    """Rank of each image's pen width in its class's quantiles (`table` from width_table), ties in the middle: float32 [N]
    in [0, 1]. Images uint8 [N,28,28], labels int64 [N]."""
    # Each class's sorted quantiles follow each other on one number line, so that one search serves all classes.
    line = (np.asarray(table, np.float64) + SIDE * np.arange(len(table))[:, None]).ravel()
    labels = np.asarray(labels, np.int64)
    position = pen_width(images).astype(np.float64) + SIDE * labels  # a width is less than SIDE
    ranks = (np.searchsorted(line, position, "left") + np.searchsorted(line, position, "right")) / 2
    return ((ranks - LEVELS * labels) / LEVELS).astype(np.float32)


def style(t):
    """Style label of thickness t: 0 thin (below 0.5), 1 thick, int64."""
    return (np.asarray(t) >= 0.5).astype(np.int64)


# ---- splits --------------------------------------------------------------------------------------

def rank_in_class(labels, seed):
    """The rank of each image in a random order of its class, drawn by `seed`: int64 [N], 0 .. class size - 1."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class by class, random within
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def stratified_split(labels, fraction, seed):
    """Indices (kept, held out), both ascending. `fraction` of all images is held out, of each class in proportion
    (largest remainders), but at least one of every class of three or more, and never the last of a class."""
    counts = np.bincount(labels)
    exact = np.where(counts > 1, counts * fraction, 0)
    held = np.floor(exact).astype(np.int64)
    short = round(exact.sum()) - held.sum()
    held[np.argsort(held - exact, kind="stable")[:short]] += 1
    held = np.maximum(held, counts > 2)
    is_held = rank_in_class(labels, seed) < held[labels]
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


# ---- load ----------------------------------------------------------------------------------------

def load(name=None, data_dir=None, seed=0, center=True):
    """A data set as Glyphs: a name of SOURCES, or the path of one's own folder, .npz or .csv.

    name=None takes MNIST where it is on disk or can be downloaded, otherwise the built-in strokes, with a `notice` that
    says so. `seed` draws the val split (and the test split of one's own images); keep it, so that runs compare.
    `center=False` keeps the frame of one's own images instead of cropping and centring them. Raises UserError.
    """
    if "" in (name, data_dir):
        raise UserError("an empty name of a data set or of --data-dir: name one, or leave it out for the default")
    data_dir = Path(data_dir or os.environ.get("GLYPHS_DATA") or "data")
    if name is None:
        try:
            return load("mnist", data_dir, seed)
        except Missing as e:
            notice = ("MNIST is not on disk and could not be downloaded: these are the built-in STROKES, digits drawn "
                      "by a program, NOT handwriting")
            return replace(load("strokes", data_dir, seed), notice=notice, warnings=[str(e)])
    if str(name) not in SOURCES:
        return load_own(name, seed, center)
    source = SOURCES[name := str(name)]
    paths, warnings = download(name, data_dir)
    arrays = source.read(paths)
    for x, y in (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"]):
        is_sound = (x.dtype == np.uint8 and x.shape[1:] == (SIDE, SIDE) and y.shape == (len(x),) and len(x) > 0
                    and y.dtype.kind in "iu" and 0 <= y.min() <= y.max() < len(source.classes))
        if not is_sound:
            raise UserError(f"{name}: its files hold {x.dtype} {list(x.shape)} and labels {list(y.shape)}, not uint8 "
                            f"[N, 28, 28] and labels [N] in 0 .. {len(source.classes) - 1}")
    title = source.title
    if not source.synthetic:
        title += ", unofficial files" if warnings else ", official split"
    return split_up(name, source.classes, *(arrays[part] for part in PARTS), seed, source=title, license=source.license,
                    synthetic=source.synthetic, warnings=warnings + arrays.get("notes", np.array([])).tolist())


def split_up(name, classes, x, y, x_test, y_test, seed, warnings, **rest):
    """Glyphs with val (and test where x_test is None) held out of x, y; warns of classes too small for it."""
    y, train = y.astype(np.int64), np.arange(len(y))
    if x_test is None:
        train, held = stratified_split(y, TEST_FRACTION, seed)
        x_test, y_test = x[held], y[held]
    kept, held = stratified_split(y[train], VAL_FRACTION, seed + 1)
    train, val = train[kept], train[held]              # places before images: each is copied once
    glyphs = Glyphs(name, list(classes), x[train], y[train], x[val], y[val], np.array(x_test),
                    np.array(y_test, np.int64), warnings=warnings, **rest)
    for what, labels, few in (("with a single training image", glyphs.y_train, 1),
                              ("without an image in val", glyphs.y_val, 0),
                              ("without an image in test", glyphs.y_test, 0)):
        counts = np.bincount(labels, minlength=len(classes))
        warnings += left_out(f"classes {what}", [c for c, count in zip(classes, counts) if count == few])
    return glyphs


def load_own(name, seed, center):
    """One's own images as Glyphs: a folder with a sub-folder per class, an .npz or a .csv; see datasets/readers.py."""
    path = expand_home(name)
    kind = "folder" if path.is_dir() else path.suffix.lower()
    read = {"folder": readers.read_folder, ".npz": readers.read_npz_images, ".csv": readers.read_csv_images}.get(kind)
    if not read or not path.exists():
        raise UserError(f"no data set {str(name)!r}: choose {', '.join(SOURCES)}, or a path of a folder, .npz or .csv")
    x, y, classes, _, warnings = read(path, center)
    x_test = y_test = None
    if kind == ".npz":
        x_test, y_test, _, _, notes = readers.read_npz_images(path, center, part="test")
        warnings += notes
    if x is None or y is None or (x_test is None) != (y_test is None):
        raise UserError(f"{path} lacks images or their labels: expected one sub-folder of images per class, or in an "
                        ".npz x_train y_train [x_test y_test chars] or images labels [classes]")
    both = y if y_test is None else np.concatenate([y, y_test])
    labels, classes, notes = number_classes(both, len(y), classes, path)
    y, test = labels[:len(x)], "held out by seed"
    if x_test is not None:
        is_known, test = labels[len(x):] >= 0, "as given"
        x_test, y_test = x_test[is_known], labels[len(x):][is_known]
    name = readers.readable(path.resolve().name if kind == "folder" else path.resolve().stem)
    return split_up(name, classes, x, y, x_test, y_test, seed, source=f"the user's own images {name!r}, test {test}",
                    license="the user's own", warnings=warnings + notes)


def number_classes(labels, n_train, classes, path):
    """Labels (indices into `classes`, or where that is None names or any whole numbers) -> (int64 0 .. K-1, K names in
    their order, notes). A class without an image among the first `n_train` is left out: its labels are -1."""
    if classes is None:
        values, labels = np.unique(labels, return_inverse=True)
        if len(values) > MAX_CLASSES:
            raise UserError(f"{path} holds {len(values):,} classes; possible are 2 to {MAX_CLASSES:,}")
        names = values.astype(str).tolist()
        classes = sorted(names, key=readers.natural)
        place = {name: k for k, name in enumerate(classes)}
        labels = np.array([place[name] for name in names])[labels]
    if labels.dtype != np.int64 or not 0 <= labels.min() <= labels.max() < len(classes):
        raise UserError(f"{path}: labels must be whole numbers from 0 to {len(classes) - 1}, places in the classes")
    if len(set(check_class_names(classes, path))) < len(classes):
        raise UserError(f"{path}: two classes have the same name")
    used = np.bincount(labels[:n_train], minlength=len(classes)) > 0
    if used.sum() < 2:
        raise UserError(f"{path} holds {used.sum():,} classes with images; possible are 2 to {MAX_CLASSES:,}")
    labels = np.where(used, np.cumsum(used) - 1, -1)[labels]
    notes = left_out("classes without a training image left out", [classes[i] for i in np.flatnonzero(~used)])
    if (labels < 0).any():
        notes.append(f"{np.count_nonzero(labels < 0):,} test images of those classes left out")
    return labels, [classes[i] for i in np.flatnonzero(used)], notes


def read_images(path, data_dir=None, center=True):
    """A set of images for measuring: (images uint8 [N,28,28], labels int64 [N], thickness float32 [N], classes
    list[str]), the last three None where they are not known.

    `path`: "mnist:test" or any "NAME:SPLIT" (train, val, test; thickness is then the rank in the training split), a
    folder (by its labels.csv, its sub-folders or neither), an .npz (see readers.read_npz_images), .npy or idx file, or
    one picture. Grey images of 28 x 28 in a set are taken as they are; a broken one is an error, since a measure over
    the rest would mislead."""
    text, path = str(path), expand_home(path)
    name, _, split = text.rpartition(":")
    if name and split in ("train", "val", "test") and not path.exists():
        glyphs = load(name, data_dir, center=center)
        x, y = getattr(glyphs, "x_" + split), getattr(glyphs, "y_" + split)
        table = width_table(glyphs.x_train, glyphs.y_train, len(glyphs.classes))
        return x, y, thickness(x, y, table), glyphs.classes
    if not text or not path.exists():
        raise UserError(f"no images at {text!r}: expected a folder, an .npz, .npy or idx file, or NAME:test")
    if path.is_dir():
        x, y, classes, t, _ = readers.read_folder(path, center, exact=True)
        return x, y, t, classes
    if not path.is_file():  # opening a pipe would wait for ever, a device has no end
        raise UserError(f"{path} is neither a folder nor a regular file")
    if path.suffix.lower() in readers.SUFFIXES:
        x, ok, notes = normalize_pictures(1, lambda i: open_picture(path), lambda i: path, center)
        if not ok[0]:
            raise UserError(f"{notes[-1]}: give a picture of one glyph")
        return x, None, None, None
    if path.suffix.lower() not in (".npz", ".npy"):
        return readers.read_idx_images(path, center, exact=True)[0], None, None, None
    x, y, classes, t, _ = readers.read_npz_images(path, center, exact=True)
    if x is None:
        raise UserError(f"{path}: expected images, x_train or arr_0 in it")
    if y is not None and y.dtype != np.int64:
        raise UserError(f"{path}: its labels are no whole numbers; use {path}:train, which numbers its classes")
    most = MAX_CLASSES if classes is None else len(classes)
    if y is not None and not 0 <= y.min() <= y.max() < most:
        raise UserError(f"{path}: labels from {y.min()} to {y.max()}; expected numbers of classes, 0 to {most - 1}")
    return x, y, t, classes


# ---- the command ---------------------------------------------------------------------------------

def print_summary(g):
    """Counts and pen widths of every class of a Glyphs, its source and its hash."""
    print(f"{g.name}: {g.source}\nlicence: {g.license}\nsha256 of all arrays: {g.sha256}")
    for note in filter(None, [g.notice, *g.warnings]):
        print(f"note: {note}")
    print(f"{'class':>8} {'train':>7} {'val':>6} {'test':>6}  pen thin / median / thick (5 %, 50 %, 95 %), pixels")
    table = width_table(g.x_train, g.y_train, len(g.classes))
    counts = np.stack([np.bincount(y, minlength=len(g.classes)) for y in (g.y_train, g.y_val, g.y_test)], 1)
    for name, (train, val, test), row in zip(g.classes, counts, table):
        print(f"{name:>8} {train:7,} {val:6,} {test:6,}  {row[13]:.1f} / {row[128]:.1f} / {row[243]:.1f}")
    print(f"{'all':>8} {len(g.y_train):7,} {len(g.y_val):6,} {len(g.y_test):6,}")


def on_paper(args):
    """--form and --scan: draw a form, or cut photographs of it into folders."""
    from datasets import form, scan  # here: who only wants arrays need not load fonts
    if args.name or not args.form or not args.out:
        raise UserError("say --form CLASSES --out form.png, or --scan PHOTO ... --form form.json --out FOLDER")
    if args.scan:
        return print(*scan.scan_forms(args.scan, args.form, args.out), sep="\n")
    if args.out.suffix.lower() not in (".png", ".pdf"):
        raise UserError(f"--out {args.out}: the name of a form must end in .png or .pdf")
    classes = form.read_classes(args.form)
    samples = form.read_samples(args.samples, classes) if args.samples else None
    print(*form.write_form(form.make_layout(classes, args.copies), args.out, samples), sep="\n")


def parse_args(argv=None):
    parser = Parser("Say what a data set holds, write it into one file, or go from paper to a data set.")
    add = parser.add_argument
    add("name", nargs="?", help=f"{', '.join(SOURCES)}, or a path (default: mnist, else strokes); with --num also "
        f"random-K or random-K-S: K characters, 2 to {MAX_CLASSES:,}, of the simulator's random script number S")
    add_data_options(parser)
    add_font_option(parser)
    add("--out", type=non_empty_path, help="FILE.png: a sheet of some training images of each class; FILE.npz: all "
        "images (x_train, val among them, y_train x_test y_test chars), for --dataset; of --form, --scan: see there")
    add("--per-class", type=number(int, above=0, at_most=100), help="images of each class on a sheet (default: 10)")
    add("--num", type=number(int, above=0, at_most=MAX_IMAGES), help="strokes, strokes-arabic, random-K: draw this many "
        "images for --out, not the data set (default with --seed: 200); an .npz holds images labels classes")
    add("--seed", type=number(int, at_least=0, below=2 ** 64), help="of these images (default with --num: 0)")
    paper = parser.add_argument_group("from paper")
    add = paper.add_argument
    add("--form", type=non_empty_path, help="draw a form to write on, as --out FILE.png or .pdf, with FILE.json beside "
        "it: the characters wanted, or a .txt with a class in each line; with --scan: that FILE.json")
    add("--copies", type=number(int, above=0, at_most=10_000), default=20, help="cells of each class on the form")
    add("--samples", type=non_empty_path, help="pictures of the wanted characters for the form, named after them "
        "(A.png, U+3042.png; default: drawn with a font, where one has it, else the code point)")
    add("--scan", nargs="+", type=non_empty_path, metavar="PHOTO", help="photographs or scans of filled-in pages of "
        "--form: cut into class folders in --out, for --dataset, and a sheet of them beside it")
    args = parser.parse_args(argv)
    args.out = args.out and Path(args.out)
    if args.form is not None or args.scan:
        return args
    if args.out and (args.out.suffix not in (".png", ".npz") or args.out.is_dir()):
        raise UserError(f"--out {args.out}: the name of a file, which must end in .png or .npz")
    if args.per_class and (not args.out or args.out.suffix == ".npz"):
        raise UserError("--per-class is for a sheet: name one with --out FILE.png, or leave it out")
    args.kind = DRAWN.get(args.name) or (args.name if strokes.random_kind(args.name or "") else None)
    if (args.num or args.seed) is not None and not (args.kind and args.out):
        raise UserError("--num and --seed draw images anew: name strokes, strokes-arabic or random-K (K characters, 2 to "
                        f"{MAX_CLASSES:,}), and a file with --out")
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.form is not None or args.scan:
        return on_paper(args)
    if args.num is not None or args.seed is not None:
        x, y = strokes.generate(args.num or 200, args.seed or 0, args.kind, threads=os.cpu_count() or 1)
        name, classes = f"{args.name}, seed {args.seed or 0}", strokes.classes_of(args.kind)
        arrays = {"images": x, "labels": y, "classes": np.array(classes)}
    else:
        g = load(args.name, args.data_dir, center=not args.no_center)
        if not args.out:
            return print_summary(g)
        x, y, name, classes = g.x_train, g.y_train, g.name, g.classes
        arrays = {"x_train": np.concatenate([x, g.x_val]), "y_train": np.concatenate([y, g.y_val]), "chars": np.array(classes)}
        arrays |= {"x_test": g.x_test, "y_test": g.y_test} if len(g.x_test) else {}
    if args.out.suffix == ".npz":
        with atomic(args.out) as tmp, open(tmp, "wb") as f:
            np.savez_compressed(f, **arrays)
    else:
        from utils import figures  # here: who only wants arrays need not load fonts
        some = np.flatnonzero(rank_in_class(y, 0) < (args.per_class or 10))
        figures.save(figures.sheet(x[some], y[some], classes, title=name), args.out)
    print(args.out)


if __name__ == "__main__":
    run_command(main)
