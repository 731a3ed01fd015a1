"""Make labelled images with a trained generator; with an .onnx file nothing of PyTorch is needed.

    python generate_digits.py --generator saved_models/generator.pth --num_digits 10
    python generate_digits.py --num_digits 100 --digits 0,3,9 --style thick --seed 1 --format npz --out some.npz

Sample i is a function of (generator file, --seed, i) alone: a longer run begins with the images of a shorter one, and
the .pth and the .onnx of one training give the same images, at most one grey level apart. Thickness is a dial: the
rank of the pen's width (see data.py) among the training images of the class, 0 the thinnest, 1 the thickest.
"""
if __name__ == "__main__":                     # before the imports that take seconds
    from utils.cli import stop_quietly
    stop_quietly()

import csv
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from utils import figures
from utils.cli import Parser, Progress, add_font_option, non_empty_path, number, run_command
from utils.files import UserError, atomic
from utils.onnx_session import open_session

BLOCK = 64                                                    # samples that are drawn at once
SHEET_LIMIT = 400                                             # images on the sheet of a run
DEFAULT_OUT = {"png": "generated", "npz": "generated.npz", "sheet": "generated.png"}
COLUMNS = ["file", "label", "class", "style", "thickness"]    # of labels.csv


def random_words(seed, start, n, words):
    """uint64 [n, words]: the random words of samples start .. start + n - 1; `words` must be a multiple of 4.

    Raw Philox (Salmon et al., 2011) is the same in every version of numpy; the draws of its Generator may change.
    """
    stream = np.random.Philox(key=seed, counter=start * (words // 4))     # one counter step gives 4 words
    return stream.random_raw(n * words).reshape(n, words)


def random_numbers(seed, start, n, numbers):
    """float64 [n, numbers] ~ U[0, 1), of 53 bits, of samples start .. start + n - 1, by random_words."""
    words = random_words(seed, start, n, -(-numbers // 4) * 4)
    return (words[:, :numbers] >> np.uint64(11)) * 2.0 ** -53


def draw_noise(seed, start, n, latent):
    """Noise float32 [n, latent] ~ N(0, I) and u float64 [n] ~ U[0, 1), for the thickness, of n samples from `start` on.
    Normals by Box and Muller (1958), which uses a fixed number of words per sample, as rejection methods do not."""
    pairs = (latent + 1) // 2
    uniform = random_numbers(seed, start, n, 2 * pairs + 1)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 1:pairs + 1]))
    angle = 2 * np.pi * uniform[:, pairs + 1:2 * pairs + 1]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(n, -1)[:, :latent]
    return noise.astype(np.float32), uniform[:, 0]


def sample_conditions(u, start, digits, style="both", thickness=None):
    """Label int64 [n] and thickness float32 [n] of n samples from `start` on, given their u ~ U[0, 1).
    Labels cycle through `digits` (class indices). Thickness is `thickness` where that is a number, else uniform in
    [0, 0.5) for style "thin", [0.5, 1] for "thick"; "both": in turn, so that every class gets as many of each."""
    rounds, position = np.divmod(np.arange(start, start + len(u)), len(digits))
    labels = np.asarray(digits, np.int64)[position]
    if thickness is not None:
        return labels, np.full(len(u), thickness, np.float32)
    thick = {"thin": 0, "thick": 1, "both": (position + rounds) % 2}[style]
    # u < 1 in float64 can round up to 1 in float32: a thin sample must stay below one half
    t = np.minimum((u / 2).astype(np.float32), np.float32(0.49999997))
    return labels, np.where(thick, t + np.float32(0.5), t)


def sample(source, n, seed=0, digits=None, style="both", thickness=None):
    """Yield (images uint8 [b, 28, 28], labels int64 [b], thickness float32 [b]) in blocks b <= BLOCK, n samples in all.
    `source` is what open_generator() gives; `digits` a list of class indices, all classes if None."""
    digits = list(range(len(source.classes))) if digits is None else digits
    for start in range(0, n, BLOCK):
        noise, u = draw_noise(seed, start, BLOCK, source.latent)
        labels, t = sample_conditions(u, start, digits, style, thickness)
        keep = min(BLOCK, n - start)
        yield source(noise, labels, t)[:keep], labels[:keep], t[:keep]


def sample_all(source, n, **options):
    """sample() as three arrays: images uint8 [n, 28, 28], labels int64 [n], thickness float32 [n]."""
    return tuple(np.concatenate(part) for part in zip(*sample(source, n, **options)))


class OnnxGenerator:
    """A generator file in ONNX; called with noise, label, thickness it gives uint8 images [n, 28, 28]."""

    def __init__(self, path):
        self.session, meta = open_session(path, "generator")
        self.classes, self.latent = meta["classes"], meta["latent_dim"]

    def __call__(self, noise, label, thickness):
        return self.session.run(["image"], {"noise": noise, "label": label, "thickness": thickness})[0]


class TorchGenerator:
    """A generator network of models.py, on any device; called as an OnnxGenerator is."""

    def __init__(self, model, classes):
        self.model, self.classes, self.latent = model, classes, model.cfg.latent

    def __call__(self, noise, label, thickness):
        import torch  # here: an .onnx works without it

        from models import to_uint8
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            arrays = [torch.from_numpy(a).to(device) for a in (noise, label, thickness)]
            return to_uint8(self.model(*arrays)).cpu().numpy()


def open_generator(path):
    """The generator in `path`, a `.pth` or an `.onnx`. Raises UserError for any other or broken file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no generator at {path}: train one with `python train.py`, or give another --generator")
    if path.suffix == ".onnx":
        return OnnxGenerator(path)
    if path.suffix == ".pth":
        import models
        checkpoint = models.load(path, models.MAKES_IMAGES)
        return TorchGenerator(checkpoint.model, checkpoint.classes)
    raise UserError(f"{path} is neither .pth nor .onnx: give a generator file of train.py")


def parse_args(argv=None):
    parser = Parser("Make labelled images with a trained generator.")
    add = parser.add_argument
    add("--generator", type=non_empty_path, default=str(Path(__file__).parent / "saved_models" / "generator.onnx"),
        help="a generator file of train.py, .pth or .onnx")
    add("--num_digits", "--num-digits", type=number(int, at_least=1, at_most=10_000_000), default=10,
        help="how many images")
    add("--digits", help="classes to make, in turn, as 0,3,9: names, or numbers where no name is one (default: all)")
    dial = parser.add_mutually_exclusive_group()
    dial.add_argument("--style", choices=["thin", "thick", "both"], default="both", help="both: in turn")
    dial.add_argument("--thickness", type=number(float, at_least=0, at_most=1),
                      help="from 0, the thinnest of its class, to 1, the thickest; instead of --style")
    add("--seed", type=number(int, at_least=0, below=2 ** 64), default=0, help="another seed, other images")
    add("--format", choices=list(DEFAULT_OUT), default="png", help="png: one file each, labels.csv, sheet.png; npz: "
        "images, labels, thickness, classes in one file; sheet: one picture")
    add("--out", type=non_empty_path,
        help="folder for png, file for npz and sheet (default: generated/, generated.npz, generated.png)")
    add_font_option(parser)
    return parser.parse_args(argv)


def class_indices(text, classes):
    """"0,3,9" -> [0, 3, 9]: classes by name, or by number where no name is a number in ASCII. Raises UserError for others."""
    are_numbers = any(name.isascii() and name.isdigit() for name in classes)
    indices = {} if are_numbers else {str(k): k for k in range(len(classes))}
    indices |= {name: k for k, name in enumerate(classes)}
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in indices:
            known = ", ".join(classes[:60]) + (", ..." if len(classes) > 60 else "")
            raise UserError(f"--digits: the generator has no class {name!r}; it has {known}")
    return [indices[name] for name in wanted]


def with_progress(blocks, n):
    """Yield the blocks of sample(); work of more than two seconds shows a line on stderr."""
    progress, done = Progress(sys.stderr, delay=2), 0
    for block in blocks:
        yield block
        done += len(block[0])
        progress("images", done, n)


def write_pngs(folder, blocks, classes):
    """One PNG per image, as 00000_7_thick.png, then labels.csv. Those of an earlier run in the folder go first, so that
    no image is left without its label or with another's. UserError for a folder with a labels.csv, a sheet.png or folders
    that are not of this command, as those of a data set."""
    labels = folder / "labels.csv"
    if labels.is_file():
        with open(labels, "rb") as f:
            if f.readline(1000).strip() != ",".join(COLUMNS).encode():
                raise UserError(f"{labels} was not written by this command: choose another --out")
    elif (folder / "sheet.png").exists() or any(map(Path.is_dir, folder.glob("[!.]*"))):
        raise UserError(f"{folder} holds a sheet.png or folders, and no labels.csv of this command: choose another --out")
    for path in (folder / "sheet.png", labels):       # in this order: a sheet alone would be taken for somebody else's
        path.unlink(missing_ok=True)
    for path in folder.glob("*.png"):
        if re.fullmatch(r"\d{5,}_.+_(thin|thick)\.png", path.name):
            path.unlink()
    # a class whose name not every file system takes is written as its number
    names = [c if re.fullmatch(r"[^\W_][\w-]{0,40}", c) else str(k) for k, c in enumerate(classes)]
    with atomic(labels) as tmp, open(tmp, "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(COLUMNS)
        for i, (image, label, t) in enumerate(row for block in blocks for row in zip(*block)):
            style = "thick" if t >= 0.5 else "thin"
            file = f"{i:05d}_{names[label]}_{style}.png"
            with atomic(folder / file, sync=False) as tmp_image:
                Image.fromarray(image).save(tmp_image, format="PNG")
            table.writerow([file, label, classes[label], style, f"{t:.4f}"])


def write_npz(path, blocks, n, classes):
    """images uint8 [n, 28, 28], labels int64 [n], thickness float32 [n], classes: one compressed file,
    written as it comes, so that a million images need no more memory than a thousand."""
    labels, thickness = [], []
    with atomic(path) as tmp, zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        with z.open("images.npy", "w", force_zip64=True) as f:
            np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (n, 28, 28)})
            for images, y, t in blocks:
                f.write(images.tobytes())
                labels.append(y)
                thickness.append(t)
        arrays = {"labels": np.concatenate(labels), "thickness": np.concatenate(thickness), "classes": classes}
        for name, array in arrays.items():
            with z.open(name + ".npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, np.asarray(array))


def main(argv=None):
    args = parse_args(argv)
    n, out = args.num_digits, Path(args.out or DEFAULT_OUT[args.format])
    kind = "folder" if args.format == "png" else "file"
    is_another = out.exists() and out.is_dir() != (kind == "folder")
    ending = out.suffix.lower() if out.suffix.lower() in (".npz", ".png") else ""       # a folder's name may have a dot
    if is_another or ending != Path(DEFAULT_OUT[args.format]).suffix:
        raise UserError(f"--out {out}: --format {args.format} writes a {kind}, as {DEFAULT_OUT[args.format]}; choose another "
                        "name, or --format")
    source = open_generator(args.generator)
    options = {"seed": args.seed, "style": args.style, "thickness": args.thickness,
               "digits": None if args.digits is None else class_indices(args.digits, source.classes)}
    blocks, on_sheet = with_progress(sample(source, n, **options), n), min(n, SHEET_LIMIT)
    if args.format == "npz":
        write_npz(out, blocks, n, source.classes)
        print(f"{n:,} images in {out}")
        return
    style = f"style {args.style}" if args.thickness is None else f"thickness {args.thickness:g}"
    images, labels, t = sample_all(source, on_sheet, **options)
    sheet = figures.sheet(images, labels, source.classes, t, f"{n:,} samples, {style}, seed {args.seed}")
    if args.format == "png":
        write_pngs(out, blocks, source.classes)
        figures.save(sheet, out / "sheet.png")
        print(f"{n:,} images, labels.csv and sheet.png in {out}/")
    else:
        figures.save(sheet, out)
        print(f"{on_sheet:,} images on {out}" + (f" (of {n:,}: a sheet holds no more)" if on_sheet < n else ""))


if __name__ == "__main__":
    run_command(main)
