"""Make labelled images with a trained generator; with an .onnx file nothing of PyTorch is needed.

    python generate_digits.py --generator saved_models/generator.pth --num_digits 10
    python generate_digits.py --generator saved_models/generator.onnx --num_digits 100 --digits 0,3,9 --style thick
    python generate_digits.py --num_digits 1000000 --format npz --out million.npz

Image i depends on (generator file, --seed, i) alone: a longer run begins with the images of a shorter one, and the
.pth and the .onnx of one training give the same images, at most one grey level apart.
"""
import csv
import re
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from utils import figures
from utils.cli import Parser, run_command
from utils.files import UserError, atomic

BLOCK = 64
SHEET_LIMIT = 400          # images on the sheet of a run
OUR_FILE = re.compile(r"\d{5,}_.+_(thin|thick)\.png")
COLUMNS = ["file", "label", "class", "style", "thickness"]        # of labels.csv


# ---- what sample i of a generator is --------------------------------------------------------------------------------

def random_words(seed, start, n, words):
    """uint64 [n, words]: the random words of samples start .. start + n - 1; `words` must be a multiple of 4."""
    stream = np.random.Philox(key=seed, counter=start * (words // 4))     # one counter step gives 4 words
    return stream.random_raw(n * words).reshape(n, words)


def draw_noise(seed, start, n, latent):
    """Noise float32 [n, latent] ~ N(0, I) and u float64 [n] ~ U[0, 1), for the thickness, of n samples from `start` on.

    Normals by Box and Muller (1958), which uses a fixed number of words per sample, as rejection methods do not.
    """
    pairs = (latent + 1) // 2
    words = random_words(seed, start, n, -(-(2 * pairs + 1) // 4) * 4)
    uniform = (words >> np.uint64(11)) * 2.0 ** -53                       # [0, 1), 53 bits
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 1:pairs + 1]))
    angle = 2 * np.pi * uniform[:, pairs + 1:2 * pairs + 1]
    noise = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(n, -1)[:, :latent]
    return noise.astype(np.float32), uniform[:, 0]


def conditions(u, start, digits, style="both", thickness=None):
    """Label int64 [n] and thickness float32 [n] of n samples from `start` on, given their u ~ U[0, 1).

    Labels cycle through `digits` (class indices). Thickness is `thickness` where that is a number, else uniform in
    [0, 0.5) for style "thin", in [0.5, 1) for "thick"; "both" takes them in turn, so that every class gets as many of
    each.
    """
    i = np.arange(start, start + len(u))
    place, turn = i % len(digits), i // len(digits)
    labels = np.asarray(digits, np.int64)[place]
    if thickness is not None:
        return labels, np.full(len(u), thickness, np.float32)
    thick = {"thin": 0, "thick": 1, "both": (place + turn) % 2}[style]
    # u < 1 in float64 can round up to 1 in float32: a thin sample must stay below one half
    t = np.minimum((u / 2).astype(np.float32), np.float32(0.49999997))
    return labels, np.where(thick, t + np.float32(0.5), t)


def sample(source, n, seed=0, digits=None, style="both", thickness=None):
    """Yield (images uint8 [b, 28, 28], labels int64 [b], thickness float32 [b]) in blocks b <= BLOCK, n samples in all.

    `source` is what open_generator() gives; `digits` a list of class indices, all classes if None.
    """
    digits = list(range(len(source.classes))) if digits is None else digits
    for start in range(0, n, BLOCK):
        noise, u = draw_noise(seed, start, BLOCK, source.latent)
        labels, t = conditions(u, start, digits, style, thickness)
        keep = min(BLOCK, n - start)
        yield source(noise, labels, t)[:keep], labels[:keep], t[:keep]


def sample_all(source, n, **options):
    """sample() as three arrays: images uint8 [n, 28, 28], labels int64 [n], thickness float32 [n]."""
    return tuple(np.concatenate(part) for part in zip(*sample(source, n, **options)))


class OnnxGenerator:
    """A generator file in ONNX; called with noise, label, thickness it gives uint8 images."""

    def __init__(self, path):
        from utils.onnx_session import open_session  # onnxruntime only where it is needed
        self.session, meta = open_session(path, "generator")
        self.classes, self.latent = meta["classes"], meta["latent_dim"]

    def __call__(self, noise, label, thickness):
        return self.session.run(["image"], {"noise": noise, "label": label, "thickness": thickness})[0]


class TorchGenerator:
    """A generator network of models.py; called with noise, label, thickness it gives uint8 images."""

    def __init__(self, model, classes):
        import torch

        from models import to_uint8
        self.torch, self.to_uint8 = torch, to_uint8
        self.model, self.classes, self.latent = model, classes, model.cfg.latent

    def __call__(self, noise, label, thickness):
        device = next(self.model.parameters()).device
        with self.torch.inference_mode():
            arrays = [self.torch.from_numpy(a).to(device) for a in (noise, label, thickness)]
            return self.to_uint8(self.model(*arrays)).cpu().numpy()


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


# ---- the command -----------------------------------------------------------------------------------------------------

def parse_args(argv=None):
    parser = Parser("Make labelled images with a trained generator.")
    add = parser.add_argument
    add("--generator", default=str(Path(__file__).parent / "saved_models" / "generator.onnx"),
        help="a generator file of train.py, .pth or .onnx")
    add("--num_digits", "--num-digits", type=int, default=10, help="how many images")
    add("--digits", help="classes to make, in turn, as 0,3,9; by name, or by number from 0 where no name is one "
        "(default: all)")
    add("--style", choices=["thin", "thick", "both"], default="both", help="both: in turn")
    add("--thickness", type=float, help="0 the thinnest to 1 the thickest of its class, instead of --style")
    add("--seed", type=int, default=0, help="another seed, other images")
    add("--format", choices=["png", "npz", "sheet"], default="png", help="png: one file each, labels.csv, sheet.png; "
        "npz: one file with images, labels, thickness, classes; sheet: one picture")
    add("--out", help="folder for png, file for npz and sheet (default: generated/, generated.npz, generated.png)")
    return parser.parse_args(argv)


def check(args, source):
    """Check what argparse cannot; returns the wanted class indices. Raises UserError."""
    if args.num_digits < 1:
        raise UserError(f"--num_digits {args.num_digits}: at least 1 is needed")
    if not 0 <= args.seed < 2 ** 64:
        raise UserError(f"--seed {args.seed}: give a whole number from 0 to 2^64 - 1")
    if args.thickness is not None and not 0 <= args.thickness <= 1:
        raise UserError(f"--thickness {args.thickness:g}: give a number from 0 (thinnest) to 1 (thickest)")
    if args.thickness is not None and args.style != "both":
        raise UserError("--style and --thickness say the same thing twice: give one of them")
    if args.digits is None:
        return list(range(len(source.classes)))
    numbers = not any(name.isdigit() for name in source.classes)        # else a number is a name, and nothing else
    wanted = []
    for name in map(str.strip, args.digits.split(",")):
        if name in source.classes:
            wanted.append(source.classes.index(name))
        elif numbers and name.isascii() and name.isdigit() and int(name) < len(source.classes):
            wanted.append(int(name))
        else:
            valid = ", ".join(source.classes[:60]) + (", ..." if len(source.classes) > 60 else "")
            raise UserError(f"--digits: {args.generator} has no class {name!r}; it has {valid}")
    return wanted


def file_name(i, label, t, classes):
    """00000_7_thick.png; a class whose name no file system takes is written as its number."""
    name = classes[label]
    name = name if re.fullmatch(r"[^\W_][\w-]{0,40}", name) else str(label)
    return f"{i:05d}_{name}_{'thick' if t >= 0.5 else 'thin'}.png"


def progress(done, total, start, every=8192):
    """One live line for long runs."""
    if total >= every and (done % every < BLOCK or done == total):
        speed = done / max(1e-9, time.perf_counter() - start)
        print(f"\r{done:,}/{total:,}  {speed:,.0f} images/s  ETA {(total - done) / speed:.0f} s ", end="",
              file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)


def save_sheet(path, parts, classes, title):
    """The first SHEET_LIMIT images of parts [(images, labels, thickness)] as one picture."""
    images, labels, t = (np.concatenate(part)[:SHEET_LIMIT] for part in zip(*parts))
    used, labels = np.unique(labels, return_inverse=True)
    picture = figures.sheet(images, labels, [classes[k] for k in used], t, title=title,
                            per_class=2 * int(max(np.bincount(2 * labels + (t >= 0.5)))))
    figures.save(picture, path)


def write_pngs(folder, blocks, n, classes, title):
    """One PNG per image, then labels.csv and sheet.png. What an earlier run left in the folder goes first."""
    start, shown, i = time.perf_counter(), [], 0
    forget_earlier(folder)
    with atomic(folder / "labels.csv") as tmp, open(tmp, "w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(COLUMNS)
        for images, labels, thickness in blocks:
            if i < SHEET_LIMIT:
                shown.append((images, labels, thickness))
            for image, label, t in zip(images, labels, thickness):
                name = file_name(i, label, t, classes)
                with atomic(folder / name, sync=False) as png:
                    Image.fromarray(image).save(png, format="PNG")
                table.writerow([name, label, classes[label], "thick" if t >= 0.5 else "thin", f"{t:.4f}"])
                i += 1
            progress(i, n, start)
    save_sheet(folder / "sheet.png", shown, classes, title)


def forget_earlier(folder):
    """Remove labels.csv and the images of an earlier run, so that no image is left without its label or with another's.
    Raises UserError where a labels.csv is not of this command."""
    if not folder.is_dir():
        return
    earlier = folder / "labels.csv"
    if earlier.is_file():
        with open(earlier, encoding="utf-8", errors="replace") as f:
            if f.readline(200).strip() != ",".join(COLUMNS):
                raise UserError(f"{earlier} was not written by this command: choose another --out")
        earlier.unlink()
    for path in folder.iterdir():
        if OUR_FILE.fullmatch(path.name):
            path.unlink()


def write_npz(path, blocks, n, classes):
    """images uint8 [n, 28, 28], labels int64 [n], thickness float32 [n], classes: one compressed file, written as it
    comes, so that a million images need no more memory than a thousand."""
    start, done, labels, thickness = time.perf_counter(), 0, [], []
    with atomic(path) as tmp, zipfile.ZipFile(tmp, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        with z.open("images.npy", "w", force_zip64=True) as f:
            np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (n, 28, 28)})
            for images, y, t in blocks:
                f.write(images.tobytes())
                labels.append(y)
                thickness.append(t)
                done += len(y)
                progress(done, n, start)
        for name, array in (("labels", np.concatenate(labels)), ("thickness", np.concatenate(thickness)),
                            ("classes", np.array(classes))):
            with z.open(name + ".npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, array)


def main(argv=None):
    args = parse_args(argv)
    source = open_generator(args.generator)
    wanted = check(args, source)
    n, out = args.num_digits, Path(args.out or {"png": "generated", "npz": "generated.npz",
                                                "sheet": "generated.png"}[args.format])
    if args.format == "png" and out.is_file() or args.format != "png" and out.is_dir():
        raise UserError(f"--out {out} is a {'file' if out.is_file() else 'folder'}, but --format {args.format} writes "
                        f"a {'folder' if args.format == 'png' else 'file'}")
    style = f"thickness {args.thickness:g}" if args.thickness is not None else f"style {args.style}"
    title = f"{n:,} samples, {style}, seed {args.seed}"
    size = min(n, SHEET_LIMIT) if args.format == "sheet" else n
    blocks = sample(source, size, args.seed, wanted, args.style, args.thickness)
    if args.format == "png":
        write_pngs(out, blocks, n, source.classes, title)
        print(f"{n:,} images, labels.csv and sheet.png in {out}/")
    elif args.format == "npz":
        write_npz(out, blocks, n, source.classes)
        print(f"{n:,} images in {out}")
    else:
        save_sheet(out, list(blocks), source.classes, title)
        print(f"{size:,} images on {out}" + (f" (of {n:,}: a sheet holds no more)" if size < n else ""))


if __name__ == "__main__":
    run_command(main)
