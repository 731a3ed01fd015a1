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

import figures
import sampling
from files import Parser, UserError, atomic, run

SHEET_LIMIT = 400          # images on the sheet of a run
OUR_FILE = re.compile(r"\d{5,}_.+_(thin|thick)\.png")
COLUMNS = ["file", "label", "class", "style", "thickness"]        # of labels.csv


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
    if total >= every and (done % every < sampling.BLOCK or done == total):
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
    source = sampling.open_generator(args.generator)
    wanted = check(args, source)
    n, out = args.num_digits, Path(args.out or {"png": "generated", "npz": "generated.npz",
                                                "sheet": "generated.png"}[args.format])
    if args.format == "png" and out.is_file() or args.format != "png" and out.is_dir():
        raise UserError(f"--out {out} is a {'file' if out.is_file() else 'folder'}, but --format {args.format} writes "
                        f"a {'folder' if args.format == 'png' else 'file'}")
    style = f"thickness {args.thickness:g}" if args.thickness is not None else f"style {args.style}"
    title = f"{n:,} samples, {style}, seed {args.seed}"
    size = min(n, SHEET_LIMIT) if args.format == "sheet" else n
    blocks = sampling.sample(source, size, args.seed, wanted, args.style, args.thickness)
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
    run(main)
