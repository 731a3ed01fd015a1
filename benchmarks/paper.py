"""Forms filled in by simulated hands and photographed by a simulated phone: how many cells come back, and how readable?

    python benchmarks/paper.py --only scan                    # forms of strokes, MNIST and kkanji49; about 3 minutes
    python benchmarks/paper.py --only read                    # pages of 20 MNIST test digits for examples/read_image.py
    python benchmarks/paper.py --show photos/                 # keeps the photographs, to be looked at

A photograph: the page seen from up to 20 degrees off its normal, turned by up to 10 degrees and sometimes lying upside
down or sideways, on a desk; uneven light and the shadow of a hand; blur, noise, JPEG at quality 60; 8, 4 or
2 megapixels ("0": the page as drawn, 300 dpi, which shows what enlarging a glyph of 28 pixels costs alone).
Real paper curls and real ink bleeds: that is not simulated.
"""
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import read_image

import data
from datasets import form, scan, strokes
from datasets.normalize import normalize_image
from utils.cli import Parser, names_from, number, run_command
from utils.files import UserError
from utils.onnx_session import open_session

SIZES = {8: (3264, 2448), 4: (2304, 1728), 2: (1632, 1224)}     # pixels of a photograph, by megapixels
PENS = [(25, 25, 30), (20, 35, 110), (30, 60, 150), (70, 70, 75)]               # black, two blues, a soft pencil
FRAME = form.CELL - 2 * scan.INSET                              # mm: the 28 x 28 frame of a glyph on the form


# ---- hands ---------------------------------------------------------------------------------------

def write_glyph(page, image, x, y, side, pen):
    """Ink one glyph, uint8 [28, 28], onto the page, uint8 [H, W, 3]: its frame `side` pixels long, top left at x, y."""
    ink = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32)[..., None] / 255
    part = page[y:y + side, x:x + side]
    part[:] = np.rint(part * (1 - ink) + np.array(pen, np.float32) * ink * part / 255)


def fill_form(layout, page, glyphs, rng, off=0.3):
    """A page of the form, uint8 [H, W, 3], with the image glyphs[number] in cell `number`, at most `off` mm astray."""
    paper = np.array(form.draw_page(layout, page))
    pen = PENS[rng.integers(len(PENS))]
    side = form.pixels(FRAME)
    for cell in layout["cells"]:
        if cell["page"] == page and cell["number"] in glyphs:
            x, y = (form.pixels(v + scan.INSET + rng.uniform(-off, off)) for v in cell["box"][:2])
            write_glyph(paper, glyphs[cell["number"]], x, y, side, pen)
    return paper


# ---- a phone -------------------------------------------------------------------------------------

def soft_noise(rng, width, height, grain):
    """A smooth random surface, float32 [height, width], deviation about 1; `grain` pixels from hill to hill."""
    few = rng.standard_normal((height // grain + 2, width // grain + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))


def view(shape, size, rng, tilt, turns):
    """Where a camera sees the page: homography from its pixels to those of the photograph. `tilt` in degrees."""
    (height, width), (w, h) = shape, size
    angle, way = np.radians(tilt), rng.uniform(0, 2 * np.pi)
    roll = np.radians(90 * turns + rng.uniform(-10, 10))
    axis = np.array([[0, 0, np.sin(way)], [0, 0, -np.cos(way)], [-np.sin(way), np.cos(way), 0]])
    tilted = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis
    turned = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    flat = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    points = np.pad(flat - (width / 2, height / 2), ((0, 0), (0, 1))) @ (tilted @ turned).T
    focus = 1.15 * height                                     # a phone's wide lens, from where the page fills the frame
    seen = points[:, :2] * (focus / (focus + points[:, 2:]))
    low, high = seen.min(0), seen.max(0)
    scale = rng.uniform(0.86, 0.97) * min(np.array([w, h]) / (high - low))
    return scan.homography(flat, (seen - (low + high) / 2) * scale + np.array([w, h]) / 2)


def photograph(page, rng, megapixels=8, tilt=20, turns=0, harsh=1.0):
    """The page, uint8 [H, W, 3], as a phone takes it: an RGB image. `harsh` 0: evenly lit, sharp, without noise."""
    w, h = SIZES[megapixels] if turns % 2 else SIZES[megapixels][::-1]
    image = Image.fromarray(page)
    if megapixels < 8:                                            # else a pixel of the photograph would skip some
        image = image.resize([round(0.7 * n) for n in image.size], Image.Resampling.BOX)
    back = np.linalg.inv(view((image.height, image.width), (w, h), rng, tilt, turns))
    layers = [image, Image.new("L", image.size, 255)]
    back = (back / back[2, 2]).ravel()[:8]
    seen, there = (np.asarray(layer.transform((w, h), Image.Transform.PERSPECTIVE, back, Image.Resampling.BICUBIC),
                              np.float32) for layer in layers)
    desk = np.array([rng.uniform(40, 130), rng.uniform(40, 110), rng.uniform(30, 100)], np.float32)
    desk = desk + 6 * soft_noise(rng, w, h, 24)[..., None]
    there = there[..., None] / 255
    seen = seen * there + desk * (1 - there)
    if harsh:
        seen *= light(rng, w, h, harsh)[..., None]
        seen *= np.array([1, rng.uniform(0.93, 1), rng.uniform(0.8, 1)], np.float32) * rng.uniform(0.8, 0.97)
        image = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(harsh * rng.uniform(0.7, 1.1) * (1.5 if megapixels == 8 else 1)))
        seen = np.asarray(image) + rng.standard_normal((h, w, 1), np.float32) * (5 * harsh)
    return Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))


def light(rng, w, h, harsh):
    """Uneven light and the soft shadow of a hand: float32 [h, w], about 0.4 to 1."""
    y, x = np.mgrid[0:h // 4, 0:w // 4].astype(np.float32) / (max(w, h) // 4) - 0.5
    way, edge = rng.uniform(0, 2 * np.pi, 2)
    slope = 1 - harsh * rng.uniform(0.1, 0.3) * (x * np.cos(way) + y * np.sin(way) + 0.5)
    across = x * np.cos(edge) + y * np.sin(edge) - rng.uniform(-0.2, 0.3)
    across += 0.03 * soft_noise(rng, w // 4, h // 4, 200)
    hand = 1 - harsh * rng.uniform(0.2, 0.45) / (1 + np.exp(-across / rng.uniform(0.008, 0.05)))
    return np.asarray(Image.fromarray(slope * hand.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR))


# ---- forms ---------------------------------------------------------------------------------------

def glyph_sets(data_dir):
    """name -> (images, labels, classes, classifier): test images of MNIST and kkanji49, and drawn strokes."""
    digits = ROOT / "saved_models" / "classifier.onnx"
    mnist = data.load("mnist", data_dir)
    x, y = strokes.generate(10_000, seed=11)
    sets = {"strokes": (x, y, list("0123456789"), digits), "mnist": (mnist.x_test, mnist.y_test, mnist.classes, digits)}
    kanji = Path(data_dir or "data") / "kkanji49.npz"
    if kanji.exists():
        with np.load(kanji) as f:
            sets["kkanji49"] = (f["x_test"], f["y_test"], f["chars"].tolist(),
                                ROOT / "saved_models" / "kkanji49" / "classifier.onnx")
    return sets


def deal(layout, images, labels, rng, filled=0.9):
    """A glyph of the wanted class for nine cells of ten: {(page, number): index into images}."""
    pools = [rng.permutation(np.flatnonzero(labels == k)).tolist() for k in range(len(layout["classes"]))]
    dealt = {}
    for cell in layout["cells"]:
        pool = pools[layout["classes"].index(cell["class"])]
        if pool and rng.random() < filled:
            dealt[cell["page"], cell["number"]] = pool.pop()
    return dealt


def read(session, images):
    return session.run(["logits"], {"image": images})[0].argmax(1)


def scan_row(name, megapixels, glyphs, pages, seed, show):
    """Fill in, photograph (0 megapixels: take as drawn), scan and read forms of at least `pages` pages: one row of the
    table, a dict."""
    images, labels, classes, classifier = glyphs
    rng = np.random.default_rng([seed, megapixels])
    center = name != "kkanji49"                               # whose glyphs fill their frame, and are read so
    layout = form.make_layout(classes, max(1, pages * 132 // len(classes)))
    dealt = deal(layout, images, labels, rng)
    session, _ = open_session(classifier, "classifier", 1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(show or folder) / f"{name}-{megapixels}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "form.json").write_text(json.dumps(layout))
        photos = []
        for page in range(1, form.page_count(layout) + 1):
            paper = fill_form(layout, page, {n: images[i] for (p, n), i in dealt.items() if p == page}, rng,
                              0.3 if center else 0)
            turns = (0, 0, 2, 1)[page % 4]
            photos.append(folder / f"photo{page}.jpg")
            if megapixels:
                photograph(paper, rng, megapixels, rng.uniform(8, 20), turns).save(photos[-1], quality=60)
            else:
                Image.fromarray(paper).save(photos[-1], quality=90, subsampling=0)
        cpu = time.process_time()
        flats = [scan.read_page(photo, layout) for photo in photos]
        cut = [(page, *row) for flat, page, _ in flats for row in scan.cut_cells(flat, layout, page)]
        cpu = (time.process_time() - cpu) / len(photos)
    kept = {(page, cell["number"]): glyph for page, cell, glyph, why in cut if why not in ("empty", "spoilt")}
    both = sorted(set(kept) & set(dealt))
    original = images[[dealt[key] for key in both]]
    truth = labels[[dealt[key] for key in both]]
    back = np.stack([normalize_image(kept[key], True, center)[0] for key in both])
    said, said_before = read(session, back), read(session, original)
    legible = said_before == truth
    return {"glyphs": name, "megapixels": megapixels, "pages": len(photos), "filled": len(dealt),
            "lost": len(set(dealt) - set(kept)), "empty ones kept": len(set(kept) - set(dealt)),
            "same reading": float((said == said_before)[legible].mean()), "right": float((said == truth).mean()),
            "right before": float(legible.mean()), "misfit mm": max(misfit for *_, misfit in flats),
            "CPU s a page": cpu}


# ---- pages of digits -----------------------------------------------------------------------------

def write_page(images, rng, rows):
    """Digits, uint8 [N, 28, 28], in `rows` lines on a blank sheet: uint8 [H, W, 3]."""
    paper = np.full((form.pixels(form.PAPER[1]), form.pixels(form.PAPER[0]), 3), 250, np.uint8)
    pen, columns = PENS[rng.integers(len(PENS))], -(-len(images) // rows)
    pitch = 180 / columns                                                          # mm
    side = form.pixels(min(0.95 * pitch, 32))
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        x = 15 + pitch * column + rng.uniform(0, 0.05) * pitch
        y = 25 + 1.3 * min(pitch, 40) * row + rng.uniform(-0.05, 0.05) * pitch
        write_glyph(paper, image, form.pixels(x), form.pixels(y), side, pen)
    return paper


def right_in_order(said, truth):
    """How many digits of `truth` are among `said` in this order: the longest common subsequence."""
    best = np.zeros((len(said) + 1, len(truth) + 1), int)
    for i, a in enumerate(said):
        for j, b in enumerate(truth):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + (a == b))
    return int(best[-1, -1])


def read_row(kind, data_dir, pages, seed, show):
    """Write, photograph and read `pages` pages of 20 MNIST test digits: one row of the table, a dict."""
    mnist, rng = data.load("mnist", data_dir), np.random.default_rng([seed, 9])
    session, _ = open_session(ROOT / "saved_models" / "classifier.onnx", "classifier", 1)
    right, found, cpu, n = 0, [], 0.0, 20
    before = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(show or folder) / f"read-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        for page in range(pages):
            chosen = rng.integers(len(mnist.x_test), size=n)
            paper = write_page(mnist.x_test[chosen], rng, int(rng.integers(1, 6)))
            if kind == "clean":
                photo = photograph(paper, rng, 8, 0, 0, harsh=0)
            elif kind == "light on dark":
                photo = photograph(255 - paper, rng, 4, rng.uniform(5, 20))
            else:
                photo = photograph(paper, rng, int(kind.split()[0]), rng.uniform(5, 20))
            path = folder / f"page{page + 1}.jpg"
            photo.save(path, quality=60)
            start = time.process_time()
            try:
                _, lines = read_image.read_image(path, session)
            except UserError:
                lines = []
            cpu += (time.process_time() - start) / pages
            said = [k for line in lines for k, *_ in line]
            found.append(len(said))
            right += right_in_order(said, mnist.y_test[chosen].tolist())
            before += int((read(session, mnist.x_test[chosen]) == mnist.y_test[chosen]).sum())
    return {"photographs": kind, "pages": pages, "digits": n * pages, "right": right / (n * pages),
            "right before": before / (n * pages), "pages with 20 found": sum(f == n for f in found),
            "missed": sum(max(0, n - f) for f in found), "too many": sum(max(0, f - n) for f in found),
            "CPU s a page": cpu}


def main(argv=None):
    parser = Parser("Simulated pages: what data.py --scan and examples/read_image.py make of photographs.")
    parser.add_argument("--only", type=names_from(["scan", "read"]), default=["scan", "read"], help="scan,read")
    parser.add_argument("--data-dir", default=None, help="where mnist/ and kkanji49.npz lie (default: $GLYPHS_DATA)")
    parser.add_argument("--pages", type=number(int, above=0), default=8, help="pages of each kind and size, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", help="a folder to keep the photographs in")
    args = parser.parse_args(argv)
    args.data_dir = args.data_dir or os.environ.get("GLYPHS_DATA")
    if "scan" in args.only:
        for name, glyphs in glyph_sets(args.data_dir).items():
            for megapixels in (0, *SIZES):
                print(scan_row(name, megapixels, glyphs, args.pages, args.seed, args.show), flush=True)
    if "read" in args.only:
        for kind in ("clean", "8 megapixels", "4 megapixels", "2 megapixels", "light on dark"):
            print(read_row(kind, args.data_dir, args.pages, args.seed, args.show), flush=True)


if __name__ == "__main__":
    run_command(main)
