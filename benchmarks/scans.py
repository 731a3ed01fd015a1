"""How well does normalisation survive scans? Real glyphs, drawn into cells of a form, and what is left of the form.

    python benchmarks/scans.py                                     # MNIST's training digits (for tuning)
    python benchmarks/scans.py --split test --num 800 --seed 11    # the figures of docs/data.md
    python benchmarks/scans.py --dataset arabic_by_writer.npz --dots 0 --classifier .../arabic_by_writer/classifier.onnx
    python benchmarks/scans.py --show scans.png                    # some scans, and what became of them
    python benchmarks/scans.py --write scans/ --num 2000           # as a folder of raw scans, a sub-folder per class

Every scan is a function of (seed, index): 30 to 300 pixels a side, cell lines on none to four sides (1 to 6 pixels
thick, partial, broken, turned by up to 3 degrees, lighter or darker than the pen, touching or crossing the glyph),
shadow, grain, specks, pens from black to faint and blue, RGB, RGBA with or without paper, JPEG. That is simulation 1, of
felt pens as broad as the data set's; in simulation 2 three of four glyphs are drawn by a ballpoint (3 to 9 % of the cell),
smaller ones, too, those of --dots (the Arabic zero) as a dot of 6 to 18 % of the cell; scans may be dark; a quarter of the cells are frames
that end at their corners within the picture; lines may be double or cut off by the picture's edge. Simulation 0 is the
plain case: paper and lines as in 1, but glyphs are the data set's own pixels, enlarged, with no line on them, and cells have
60 pixels (5 mm at 300 dpi) or more. Beside every scan stands the same glyph, at the same size and pen, clean: black on
white and no lines.
"""
import io
import time
from pathlib import Path

import numpy as np
import repository  # noqa: F401 (makes what follows importable)
from dial import skeletons
from PIL import Image, ImageDraw, ImageFilter

import data
from datasets import cleaning, normalize
from metrics.features import DEFAULT_MODEL
from utils import figures
from utils.cli import Parser, number, run_command
from utils.onnx_session import open_session

PENS = {"black": (25, 25, 30), "blue": (35, 55, 150), "pencil": (105, 105, 105), "red": (170, 40, 40)}


def own_drawing(glyph, height):
    """A glyph uint8 [28,28] -> its own greys as share of ink float32 [h,w], cropped, `height` pixels."""
    rows, columns = np.flatnonzero(glyph.any(1)), np.flatnonzero(glyph.any(0))
    cropped = Image.fromarray(np.pad(glyph[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1], 1))
    scale = height / max(cropped.size)
    return np.asarray(cropped.resize([max(3, round(n * scale)) for n in cropped.size], Image.Resampling.BICUBIC), np.float32) / 255


def pen_drawing(glyph, rng, height):
    """A glyph uint8 [28,28] -> the share of ink float32 [h,w] of the same by another pen, cropped, `height` pixels."""
    large = Image.fromarray(glyph).resize((224, 224), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))
    large = np.asarray(large) > rng.uniform(90, 160)
    if not large.any():
        large = np.asarray(Image.fromarray(glyph).resize((224, 224))) > 64
    rows, columns = np.flatnonzero(large.any(1)), np.flatnonzero(large.any(0))
    large = np.pad(large[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1], 4)
    scale = height / max(large.shape)
    size = [max(3, round(n * scale)) for n in large.shape[::-1]]
    small = Image.fromarray(large.astype(np.uint8) * 255).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def thin_drawing(glyph, rng, room):
    """As pen_drawing, by a ballpoint of 3 to 9 % of the `room` (pixels of a cell's shorter side), the glyph 30 to 85 %
    high."""
    large = Image.fromarray(glyph).resize((84, 84), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2.2))
    large = np.asarray(large) > 100
    if not large.any():
        return pen_drawing(glyph, rng, max(12, rng.uniform(0.3, 0.85) * room))
    rows, columns = np.flatnonzero(large.any(1)), np.flatnonzero(large.any(0))
    large = large[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    pen = max(1.2, rng.uniform(0.03, 0.09) * room)
    scale = 4 * max(12, rng.uniform(0.3, 0.85) * room) / max(large.shape)
    ys, xs = np.nonzero(skeletons(np.pad(large, 1)[None])[0])
    image = Image.new("L", [round(n * scale + 4 * pen + 4) for n in large.shape[::-1]])
    draw, near = ImageDraw.Draw(image), {*zip(ys.tolist(), xs.tolist())}
    for y, x in near:
        for other in [(y, x), (y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)]:
            if other in near:
                points = [((n - 0.5) * scale + 2 * pen for n in point[::-1]) for point in ((y, x), other)]
                (x0, y0), (x1, y1) = points
                draw.line((x0, y0, x1, y1), fill=255, width=round(4 * pen))
                draw.ellipse((x0 - 2 * pen, y0 - 2 * pen, x0 + 2 * pen, y0 + 2 * pen), fill=255)
    image = image.filter(ImageFilter.GaussianBlur(max(1, pen)))                       # rounds the pixels' steps off
    image = image.point(lambda value: 255 * (value > 110))
    a = np.asarray(image.resize([max(3, n // 4) for n in image.size], Image.Resampling.BOX), np.float32) / 255
    if rng.random() < 0.3:                           # a ball that does not always roll
        flow = Image.fromarray(rng.uniform(0.55, 1, (4, 4)).astype(np.float32))
        a = a * np.asarray(flow.resize(a.shape[::-1], Image.Resampling.BICUBIC))
    return np.clip(a, 0, 1)


def line_drawing(rng, h, w, scale, more=None):
    """Cell lines around a cell of [h,w] at four times that size: (ink share float32 [h,w], sides that have one, the
    room within: top, bottom, left, right in pixels). With another generator `more` some are frames that end at their
    corners, some lines are double, of some the picture's edge leaves a pixel or two."""
    big = np.zeros((4 * h, 4 * w), np.float32)
    room, sides = [0, h, 0, w], rng.permutation(4)[:rng.integers(0, 5)]
    thick = float(rng.uniform(1, max(1.2, min(6, 0.05 * scale))))
    is_frame = more is not None and more.random() < 0.25
    for side in (range(4) if is_frame else sides):
        along, across = (w, h) if side < 2 else (h, w)
        depth = float(rng.uniform(0, 0.12)) * across
        if more is not None and not is_frame and more.random() < 0.25:
            depth = -thick * more.uniform(0.2, 0.8)
        start, end = 0, 4 * along
        if rng.random() < 0.15:                      # a part of it
            cut = int(rng.uniform(0.4, 0.9) * 4 * along)
            start, end = (0, cut) if rng.random() < 0.5 else (4 * along - cut, 4 * along)
        ink = np.ones(4 * along, np.float32)
        ink[:start] = ink[end:] = 0
        if rng.random() < 0.2:                       # broken
            for _ in range(rng.integers(1, 5)):
                at = int(rng.integers(0, 4 * along))
                ink[at:at + int(rng.uniform(0.02, 0.08) * 4 * along)] = 0
        view = [big, big[::-1], big.T, big.T[::-1]][side]
        for _ in range(2 if more is not None and more.random() < 0.12 else 1):
            a, b = max(0, int(4 * depth)), max(int(4 * (depth + thick)), int(4 * depth) + 1, 1)
            view[a:b] = np.maximum(view[a:b], ink)
            room[side] = depth + thick if side % 2 == 0 else across - depth - thick
            depth += thick * (more.uniform(2, 4) if more is not None else 0)
    if is_frame:
        for view, at in zip((big, big[::-1], big.T, big.T[::-1]), (room[0], h - room[1], room[2], w - room[3])):
            view[:max(0, int(4 * (at - thick)))] = 0
    return big, range(4) if is_frame else sides, room


def turn(big, degrees):
    """Turned about its middle and averaged down by four; what turns in is drawn from the edge."""
    pad = max(big.shape) // 8
    image = Image.fromarray(np.pad(big, pad, mode="edge")).rotate(degrees, Image.Resampling.BILINEAR)
    a = np.asarray(image)[pad:-pad, pad:-pad]
    return a.reshape(a.shape[0] // 4, 4, a.shape[1] // 4, 4).mean((1, 3))


def on_paper(rng, mixed, total, paper):
    """Ink [H,W,3] that covers the share `total` [H,W] of paper [3] as a picture: light, grain, dirt, blur, JPEG."""
    h, w = total.shape
    yy, xx = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    light = np.ones((h, w), np.float32)
    if rng.random() < 0.6:
        direction = rng.uniform(0, 2 * np.pi)
        along = np.cos(direction) * xx + np.sin(direction) * yy
        loss = rng.uniform(0.1, 0.45)
        light = (1 - loss * (along + 1) / 2 if rng.random() < 0.6 else
                 1 - loss / (1 + np.exp(-(along - rng.uniform(-0.5, 0.5)) * rng.uniform(2, 8))))
    grain = rng.normal(0, 1, (h // 3 + 2, w // 3 + 2)).astype(np.float32)
    grain = np.asarray(Image.fromarray(grain).resize((w, h), Image.Resampling.BICUBIC)) * rng.uniform(0, 5)
    dust = np.zeros((h, w), np.float32)
    for _ in range(rng.integers(0, 7) if rng.random() < 0.5 else 0):
        r, cy, cx = rng.uniform(0.4, max(0.8, 0.006 * (h + w))), rng.uniform(0, h), rng.uniform(0, w)
        dust = np.maximum(dust, np.clip(r + 0.5 - np.hypot(np.arange(h)[:, None] - cy, np.arange(w) - cx), 0, 1))
    a = (paper * (1 - total[..., None]) + mixed) * (1 - 0.7 * dust[..., None]) * light[..., None] + grain[..., None]
    a += rng.normal(0, rng.uniform(0, 6), (h, w, 1))
    image = Image.fromarray(np.rint(np.clip(a, 0, 255)).astype(np.uint8))
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.004 * (h + w) + 0.3)))
    if rng.random() < 0.5:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(rng.integers(40, 96)))
        image = Image.open(stream).convert("RGB")
    if rng.random() < 0.5:
        image = image.convert("RGBA")
    return image


def scan(glyph, seed, index, simulation=2, is_dot=False):
    """`is_dot`: in simulation 2 the glyph is as small as hands write a dot.
    -> (the scan, a Pillow image; ink share float32 [H,W] of the glyph; of the lines; a clean image of the glyph)"""
    rng, more = np.random.default_rng([seed, index]), np.random.default_rng([seed, index, simulation])
    more = more if simulation == 2 else None
    smallest = 60 if simulation == 0 else 30
    scale = float(np.exp(rng.uniform(np.log(smallest), np.log(300))))
    ratio = float(np.exp(rng.normal(0, 0.25)))
    h, w = (int(np.clip(n, smallest, 300)) for n in (scale * ratio ** 0.5, scale / ratio ** 0.5))
    lines, sides, (top, bottom, left, right) = line_drawing(rng, h, w, min(h, w), more)
    angle = float(rng.uniform(-3, 3)) if rng.random() < 0.6 else 0.0
    lines = turn(lines, angle)
    share = float(rng.uniform(0.4, 0.85))
    inside = min(bottom - top, right - left)
    if simulation == 0:
        drawing = own_drawing(glyph, share * inside)
    elif more is not None and is_dot:
        drawing = pen_drawing(glyph, rng, max(4, more.uniform(0.06, 0.18) * inside))
    elif more is not None and more.random() < 0.75:
        drawing = thin_drawing(glyph, more, inside)
    else:
        drawing = pen_drawing(glyph, rng, max(14, share * inside))
    gh, gw = drawing.shape
    # Somewhere within the cell, or over one of its lines
    slack = max(1.5, 0.02 * min(h, w)) + np.tan(np.radians(abs(angle))) * max(h, w) / 2
    y = rng.uniform(min(top + slack, (top + bottom - gh) / 2), max(bottom - gh - slack, (top + bottom - gh) / 2))
    x = rng.uniform(min(left + slack, (left + right - gw) / 2), max(right - gw - slack, (left + right - gw) / 2))
    touches = simulation > 0 and len(sides) and rng.random() < 0.2
    if touches:
        side = sides[0]
        over = rng.uniform(-0.02, 0.12) * gh
        y = {0: top - over, 1: bottom - gh + over}.get(side, y)
        x = {2: left - over, 3: right - gw + over}.get(side, x)
    y, x = int(np.clip(round(y), 0, h - gh)), int(np.clip(round(x), 0, w - gw))
    pen = np.zeros((h, w), np.float32)
    pen[y:y + gh, x:x + gw] = drawing
    pen = np.clip(pen, 0, 1)

    name = rng.choice(list(PENS), p=[0.4, 0.3, 0.2, 0.1])
    colour = np.array(PENS[name], np.float32)
    grey = float(rng.uniform(20, 170))
    line_ink = np.array([grey] * 3, np.float32)
    paper = np.array([1, 1, rng.uniform(0.9, 1)], np.float32) * rng.uniform(170, 255)
    if more is not None and more.random() < 0.6:     # a dark scan
        dark = more.uniform(0.5, 1)
        paper, colour, line_ink = paper * dark, colour * dark, line_ink * dark
    strength = np.where(name == "pencil", rng.uniform(0.6, 1), rng.uniform(0.8, 1))
    is_cut_out = rng.random() < 0.12               # ink on transparent ground
    mixed = (pen[..., None] * strength * colour + lines[..., None] * (1 - pen[..., None] * strength) * line_ink)
    total = pen * strength + lines * (1 - pen * strength)
    if is_cut_out:
        rgba = np.dstack([mixed / np.maximum(total, 1e-3)[..., None], 255 * total])
        image = Image.fromarray(np.rint(np.clip(rgba, 0, 255)).astype(np.uint8), "RGBA")
    else:
        image = on_paper(rng, mixed, total, paper)
    clean = np.rint(255 * (1 - np.pad(pen, 2))).astype(np.uint8)
    return image, pen, lines, clean


def traces(image, pen, lines):
    """What is left of a scan's lines and of its glyph: (share of line pixels still inked or nan, share of the glyph's
    pixels lost, were lines found?)."""
    a = normalize.grey(image)
    ink, removed = cleaning.clean(255 - a if normalize.has_dark_ink(a, True) else a, "all")
    ink = normalize.stretch(ink) > 64
    is_line, is_pen = (lines > 0.5) & (pen < 0.1), (pen > 0.7) & (lines < 0.1)
    left = ink[is_line].mean() if is_line.sum() > 10 else np.nan
    return left, 1 - ink[is_pen].mean() if is_pen.any() else np.nan, "cell lines" in removed


def outside(images, slack=3):
    """Share of the ink of images uint8 [N,28,28] that lies outside a box of 20 x 20 pixels, the best of those that lie at
    most `slack` off the middle: centring by mass moves the boxes of MNIST's own digits by as much. float [N]."""
    x = np.pad(images.astype(np.float64).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    places = [(i, j) for i in range(4 - slack, 5 + slack) for j in range(4 - slack, 5 + slack)]
    inside = [x[:, i + 20, j + 20] - x[:, i, j + 20] - x[:, i + 20, j] + x[:, i, j] for i, j in places]
    return 1 - np.max(inside, 0) / np.maximum(x[:, -1, -1], 1)


def beside(images, clean, margin=2):
    """Share of the ink of images uint8 [N,28,28] more than `margin` pixels beside the box of the clean ones' ink: what
    is left of lines and dirt, or a glyph that is too small and off its place for it. float [N]."""
    at = np.arange(28)
    place = np.ones(images.shape, bool)
    for axis in (1, 2):
        inked = (clean > 64).any(3 - axis)
        first, last = inked.argmax(1)[:, None], 27 - inked[:, ::-1].argmax(1)[:, None]
        place &= np.expand_dims((at >= first - margin) & (at <= last + margin), 3 - axis)
    return 1 - (images * place).sum((1, 2)) / np.maximum(images.sum((1, 2), dtype=np.int64), 1)


def read(session, images):
    """What the classifier reads: int64 [N]."""
    parts = np.array_split(images, 1 + len(images) // 500)
    return np.concatenate([session.run(["logits"], {"image": part})[0].argmax(1) for part in parts])


def report(x, y, scans, pens, lines, clean, args):
    """Clean and normalise the scans, let the classifier read them, print what came of it."""
    start = time.process_time()
    out, ok, notes = normalize.normalize_pictures(len(x), lambda i: scans[i].copy(), str)
    spent = time.process_time() - start
    alone, _, _ = normalize.normalize_pictures(len(x), lambda i: Image.fromarray(clean[i]), str)
    session, _ = open_session(args.classifier, "classifier", 1)
    print("\n".join(notes))
    print(f"{len(x):,} scans, {1000 * spent / len(x):.2f} ms of processor time each; {(~ok).sum()} unreadable")
    sets = {"as they are": x, "clean": alone, "scanned": out}
    right = {name: read(session, images) == y for name, images in sets.items()}
    distance = np.abs(out.astype(int) - alone).mean((1, 2))
    for name, images in sets.items():
        print(f"{name:12} read {100 * right[name].mean():6.2f} %   more than 3 % of the ink outside the box of 20 pixels in "
              f"{100 * np.mean(outside(images) > 0.03):.2f} %")
    print(f"scanned, more than 3 % of the ink beside the clean glyph's place: {100 * np.mean(beside(out, alone) > 0.03):.2f} %")
    print(f"apart from the clean image by more than 16 grey levels on average: {100 * np.mean(distance > 16):.2f} %")
    left, lost, found = (np.array(column) for column in zip(*map(traces, scans, pens, lines)))
    lined = ~np.isnan(left)
    whole = np.array([not cleaning.clean(255 - a)[1] for a in clean])
    print(f"{lined.sum():,} scans with lines: {100 * np.mean(left[lined] < 0.1):.1f} % freed of them (less than a "
          f"tenth of the pixels left), {100 * (1 - left[lined].mean()):.1f} % of their pixels removed; read "
          f"{100 * right['scanned'][lined].mean():.2f} %")
    print(f"{(~lined).sum():,} without: lines seen in {100 * found[~lined].mean():.1f} %; read "
          f"{100 * right['scanned'][~lined].mean():.2f} %")
    free = np.array([not ((a > 0.3) & (b > 0.3)).any() for a, b in zip(pens, lines)])
    large = np.array([min(a.shape) >= 50 for a in pens])
    for name, some in (("no line on the glyph", free), ("50 pixels or more", large), ("both", free & large)):
        print(f"{name}, {some.sum():,}: read {100 * right['scanned'][some].mean():.2f} %, "
              f"clean {100 * right['clean'][some].mean():.2f} %")
    print(f"ink of the glyphs lost: {100 * np.nanmean(lost):.2f} %, "
          f"more than a tenth in {100 * np.mean(lost > 0.1):.1f} %")
    print(f"clean pictures left bit for bit as they were: {100 * whole.mean():.2f} %")
    if args.show:
        worst = np.argsort(-distance)[:48]
        rows = []
        for i in np.array_split(worst, 6):
            rows.append([scans[k].convert("RGB").resize((84, 84)) for k in i])
            rows.append([out[k].repeat(3, 0).repeat(3, 1) for k in i])
            rows.append([alone[k].repeat(3, 0).repeat(3, 1) for k in i])
        figures.save(figures.grid(rows, scale=1), args.show)
        print(args.show)


def main(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument("--dataset", default="mnist", help="of 28 x 28 glyphs")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--classifier", type=Path, default=DEFAULT_MODEL, help="classifier.onnx that reads them")
    parser.add_argument("--simulation", type=int, choices=[0, 1, 2], default=2, help="as above; 0: the plain case")
    parser.add_argument("--dots", default="", metavar="CLASSES", help="classes that hands write as a dot (Arabic: 0)")
    parser.add_argument("--num", type=number(int, 1), default=2000)
    parser.add_argument("--seed", type=number(int, 0), default=0)
    parser.add_argument("--show", type=Path, metavar="PNG", help="draw the worst and some others")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the scans as a folder, and no more")
    args = parser.parse_args(argv)
    g = data.load(args.dataset, args.data_dir)
    x, y = (g.x_test, g.y_test) if args.split == "test" else (g.x_train, g.y_train)
    some = np.random.default_rng(args.seed).permutation(len(x))[:args.num]
    x, y = x[some], y[some]
    scans, pens, lines, clean = zip(*(scan(glyph, args.seed, i, args.simulation, g.classes[y[i]] in args.dots)
                                      for i, glyph in enumerate(x)))
    if args.write:
        for i, image in enumerate(scans):
            folder = args.write / g.classes[y[i]]
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{i:05}.png")
        print(args.write)
        return
    report(x, y, scans, pens, lines, clean, args)


if __name__ == "__main__":
    run_command(main)
