"""Digits on a photograph -> text, with probabilities: onnxruntime, numpy and Pillow. No torch.

    python examples/read_image.py photo.jpg                       # a line of text for each line of digits
    python examples/read_image.py photo.jpg --out boxes.png       # and a picture of what was found and read

For separate digits in a line or a few lines, about upright (25 degrees), on plain paper in any light, dark on light
or light on dark. No text detector: letters, ruled paper and pictures are read as digits, digits that touch as one.
It finds them here; what is then one glyph, and how pictures are opened, is this repository's datasets/.
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from datasets.components import components
from datasets.normalize import grey, normalize_image
from datasets.scan import open_photo
from utils import figures
from utils.cli import Parser, run_command
from utils.files import UserError
from utils.onnx_session import open_session

SIDE = 2000            # pixels, about, the longest side at which digits are looked for
STROKE = 1 / 20        # the widest pen, in longest sides: what is wider is paper or desk
SMALLEST = 12          # pixels of height that a digit has at least
MOST = 500             # digits on a picture: where more is found, it is no page of digits
UNSURE = 0.5           # a probability below is marked with a "?"


def find_ink(a):
    """A grey picture uint8 [H, W] of dark ink -> (how much ink, float32 [H, W], 0 paper to 1; bool [H, W], is it ink?;
    uint8 [H, W], how bright it would be without). Shadows and the desk are wide, so they belong to the paper."""
    small = Image.fromarray(a).reduce(-(-max(a.shape) // 320))
    times = 1 + round(max(small.size) * STROKE / 4)              # each takes two pixels off both sides of a stroke
    # once more back than forth: the last of the paper beside a dark desk counts as desk, not as ink's paper
    for brush in [ImageFilter.MaxFilter(5)] * times + [ImageFilter.MinFilter(5)] * (times + 1):
        small = small.filter(brush)
    paper = np.asarray(small.filter(ImageFilter.GaussianBlur(1)).resize(a.shape[::-1], Image.Resampling.BILINEAR))
    # compared with the desk, the grain of a dark one is as deep as ink: compare it with the paper
    ink = (paper.astype(np.float32) - a) / np.maximum(paper, max(32, np.percentile(paper[::8, ::8], 90) / 2))
    ink = ink.clip(0, 1)
    usual = float((ink ** 4).sum() / max((ink ** 3).sum(), 1e-9))                   # of ink, little else counts
    return ink, ink > max(0.13, 0.3 * usual), paper


def is_stroke(a, paper, own, near):
    """Is what lies around a part, bool `own` in the slices `near` of the picture a, brighter than it on all sides, and
    mostly so farther off? Of the edge of a sheet it is not, nor of the hole in a 0."""
    ring = np.asarray(Image.fromarray(own).convert("L").filter(ImageFilter.MaxFilter(9))) > 0
    ring &= ~np.asarray(Image.fromarray(own).convert("L").filter(ImageFilter.MaxFilter(5))).astype(bool)
    like_ink = a[near] < (a[near][own].mean() + paper[near][own].mean()) / 2
    return np.mean(like_ink[ring]) < 0.2 and np.mean(like_ink[~own]) < 0.5


def find_digits(mask, a, paper):
    """bool [H, W], where ink is in a, uint8 [H, W], on the paper -> (the part of each pixel, int64 [H, W], 0 paper; a
    list of digits, each a list of parts; boxes float64 [digits, 4]: left, top, right, bottom; the usual height). A
    digit may have several parts."""
    labels, boxes, area = components(mask)
    boxes = boxes[:, [1, 0, 3, 2]]
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    size = np.stack([width, height], 1)
    side = max(mask.shape)
    is_frame = (size.max(1) > 0.6 * side) | ((size.max(1) > 0.25 * side) & (area < 0.03 * height * width))   # an edge
    at_edge = (boxes[:, :2].min(1) == 0) | (boxes[:, 2] == mask.shape[1]) | (boxes[:, 3] == mask.shape[0])
    usable = ~is_frame & ~at_edge & (area >= SMALLEST)
    for i in np.flatnonzero(usable & (size.max(1) >= SMALLEST)):
        left, top, right, bottom = boxes[i]
        margin = 5 + size[i].max() // 3
        near = slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)
        usable[i] = is_stroke(a, paper, labels[near] == i + 1, near)
    order = np.flatnonzero(usable)[np.argsort(size.max(1)[usable])]
    tall = order[size.max(1)[order] >= SMALLEST]                # the grain of a desk has more ink, in smaller parts
    if not len(tall):
        return labels, [], np.zeros((0, 4)), 0
    usual = size.max(1)[tall[np.searchsorted(np.cumsum(area[tall]), area[tall].sum() / 2)]]    # most ink is in digits
    large = [i for i in order if height[i] >= max(SMALLEST, 0.4 * usual) and size[i].max() < 2.5 * usual]
    digits, frames = [[i] for i in large], boxes[large].astype(np.float64)
    for i in order:                                             # the bar of a 5, a stroke that broke
        if i not in large and size[i].max() >= 0.1 * usual and size[i].max() < 2.5 * usual and len(large):
            gap = np.maximum(0, np.maximum(boxes[i, :2] - frames[:, 2:], frames[:, :2] - boxes[i, 2:])).max(1)
            if gap.min() < 0.2 * usual:
                join(digits, frames, int(gap.argmin()), [i], boxes[i])
    return labels, *join_stacked(digits, frames, usual), usual


def join(digits, frames, k, parts, box):
    digits[k] = digits[k] + parts
    frames[k] = [*np.minimum(frames[k, :2], box[:2]), *np.maximum(frames[k, 2:], box[2:])]


def join_stacked(digits, frames, usual):
    """Two large parts above each other, or overlapping, are one digit."""
    i = 0
    while i < len(digits):
        left, top, right, bottom = frames[i]
        for k in range(len(digits)):
            wide = min(right, frames[k, 2]) - max(left, frames[k, 0])
            gap = max(top, frames[k, 1]) - min(bottom, frames[k, 3])
            tall = max(bottom, frames[k, 3]) - min(top, frames[k, 1])
            above = wide > 0.5 * min(right - left, frames[k, 2] - frames[k, 0])
            if k != i and above and gap < 0.2 * usual and tall < 1.3 * usual:
                join(digits, frames, i, digits[k], frames[k])
                digits, frames = digits[:k] + digits[k + 1:], np.delete(frames, k, 0)
                i = -1
                break
        i += 1
    return digits, frames


def reading_order(boxes, usual):
    """Boxes [N, 4] -> (lines: lists of indices from left to right; by how many degrees they fall to the right)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2

    def across(angle):                                          # distance from the top, in digits, on a page so turned
        return (centres[:, 1] * np.cos(angle) - centres[:, 0] * np.sin(angle)) / usual

    def in_line(angle):                                         # how many pairs stand at one height
        return np.count_nonzero(np.abs(np.subtract.outer(across(angle), across(angle))) < 0.25)

    angle = max(np.radians(np.arange(-25, 25.1, 0.5)), key=lambda angle: (in_line(angle), -abs(angle)))
    y = across(angle)
    order = np.argsort(y, kind="stable")
    lines = np.split(order, np.flatnonzero(np.diff(y[order]) > 0.45) + 1)
    off = np.concatenate([centres[line] - centres[line].mean(0) for line in lines]) / usual
    slope = off[:, 0] @ off[:, 1] / (off[:, 0] @ off[:, 0] + 8)             # of a few digits: next to none
    return [line[np.argsort(centres[line, 0])].tolist() for line in lines], float(np.degrees(np.arctan(slope)))


def cut_glyph(ink, labels, parts, box, angle):
    """One digit, set upright and normalised: uint8 [28, 28], ink 255. Its own parts only, with their soft edges."""
    left, top, right, bottom = (int(v) for v in box)
    near = slice(max(0, top - 2), bottom + 2), slice(max(0, left - 2), right + 2)
    own = Image.fromarray(np.isin(labels[near] - 1, parts)).convert("L").filter(ImageFilter.MaxFilter(5))
    a = ink[near] * (np.asarray(own) > 0)
    a = np.rint(np.clip(a / max(float(np.percentile(a[a > 0.1], 90)), 0.1), 0, 1) * 255).astype(np.uint8)
    margin = max(a.shape) // 3
    image = Image.fromarray(np.pad(a, margin)).rotate(angle, Image.Resampling.BILINEAR)
    return normalize_image(np.asarray(image), False)[0]


def read_dark_ink(a, session):
    """The digits in dark ink on a, uint8 [H, W]: (how much speaks for them, lines: lists of (class index, probability,
    box) in reading order, how many things there are). Too many things are not read."""
    ink, mask, paper = find_ink(a)
    labels, digits, boxes, usual = find_digits(mask, a, paper)
    if not 0 < len(digits) <= MOST:
        return 0.0, [], len(digits)
    lines, angle = reading_order(boxes, usual)
    glyphs = np.stack([cut_glyph(ink, labels, digits[i], boxes[i], angle) for line in lines for i in line])
    probabilities = session.run(["probabilities"], {"image": glyphs})[0]
    best = probabilities.max(1)
    answers = iter(zip(probabilities.argmax(1).tolist(), best.tolist()))
    strokes = np.isin(labels - 1, [part for parts in digits for part in parts])
    weight = float(np.square(ink[strokes] * paper[strokes]).sum() * best.mean() ** 4)
    return weight, [[(*next(answers), boxes[i].tolist()) for i in line] for line in lines], len(digits)


def read_image(path, session):
    """The digits on a picture: (the picture, lines: lists of (class index, probability, box) in reading order)."""
    image = open_photo(path)
    a = grey(image)
    factor = max(1, round(max(a.shape) / SIDE))
    a = np.asarray(Image.fromarray(a).reduce(factor))
    if max(a.shape) > SIDE / 2:
        a = np.asarray(Image.fromarray(a).filter(ImageFilter.BoxBlur(1)))           # a camera's noise
    _, lines, n = max((read_dark_ink(b, session) for b in (a, 255 - a)), key=lambda one: one[::2])
    if n > MOST and not lines:
        raise UserError(f"{path}: {n} things on it look like digits, at most {MOST} are read: cut out a few lines on "
                        "plain paper")
    if not lines:
        raise UserError(f"{path}: no digit is seen on it; they should stand apart on plain paper, {SMALLEST} pixels "
                        "high and more")
    return image, [[(k, p, [round(v * factor) for v in box]) for k, p, box in line] for line in lines]


def draw_answers(image, lines, classes):
    """The picture with a box around each digit and the answer above it."""
    image = image.convert("RGB")
    scale = min(1.0, 1400 / max(image.size))
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BOX)
    draw = ImageDraw.Draw(image)
    for line in lines:
        for k, probability, box in line:
            left, top, right, bottom = (round(v * scale) for v in box)
            colour = figures.ACCENT if probability >= UNSURE else (213, 94, 0)
            draw.rectangle((left - 4, top - 4, right + 3, bottom + 3), outline=colour, width=2)
            text = f"{classes[k]} {100 * probability:.0f}"
            draw.rectangle((left - 4, top - 24, left + figures.text_width(text, 16) + 2, top - 4), fill=colour)
            figures.write(image, left, top - 14, text, 16, "white")
    return image


def main(argv=None):
    parser = Parser("Read the digits on a photograph.")
    parser.add_argument("picture", help="a photograph or scan of separate digits on plain paper")
    parser.add_argument("--model", default=ROOT / "saved_models" / "classifier.onnx", help="another classifier's .onnx")
    parser.add_argument("--out", type=Path, help="a .png: the picture with boxes and answers")
    args = parser.parse_args(argv)
    if args.out and args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: the name must end in .png")
    session, meta = open_session(args.model, "classifier")
    image, lines = read_image(args.picture, session)
    for line in lines:
        print(" ".join(meta["classes"][k] + "?" * (p < UNSURE) for k, p, _ in line), " ",
              " ".join(f"{100 * p:.1f}" for _, p, _ in line), "%")
    if args.out:
        figures.save(draw_answers(image, lines, meta["classes"]), args.out)
        print(args.out)


if __name__ == "__main__":
    run_command(main)
