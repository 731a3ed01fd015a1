"""A form to write on: A4 pages of numbered cells with the wanted character above each, and a code in each corner.

    layout = make_layout(list("0123456789"), copies=20)       # plain dicts and lists, as form.json holds them
    write_form(layout, "form.png")                            # form-1.png form-2.png form.json; or one form.pdf

All lengths are millimetres from the top left of the page. A corner mark is a square of 8 x 8 modules: a black ring, and
36 bits inside that say which form, which page and which corner it is, with a checksum; scan.py finds and reads them.
The cells are orange: in the red light of a picture they are as white as the paper, pens in blue and black are not.
"""
import json
import math
import unicodedata
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datasets.normalize import grey, open_picture
from utils import figures
from utils.files import UserError, atomic

PAPER = (210.0, 297.0)         # A4
DPI = 300
MARK, MODULES = 14.0, 8        # side of a corner mark; of its modules, the ring among them
MARGIN = 9.0                   # from the page's edge to the marks: no printer prints to the edge
CORNERS = ("top left", "top right", "bottom right", "bottom left")
WIDTH, TOP, BOTTOM = 186.0, 28.5, 269.0        # of the field of cells, in the middle of the page
CELL, HEAD = 14.0, 5.8         # side of a cell; the strip above it for its number and the sample
ROWS = int((BOTTOM - TOP) / (CELL + HEAD))
MAX_PAGES = 255
WHITENING = 0x5A96C33C6        # so that small numbers do not make nearly black marks
LINE, GREY, BLACK = (255, 176, 112), (120, 120, 120), (0, 0, 0)
GUIDE = ("Write the character that is shown above each box, in blue or black (red is not seen), in your own hand.",
         "One in each box, not over its edge. What you leave empty is left out; so is a spoilt box, inked all over.",
         "Then scan the page, or photograph it from above, flat, with the four black squares in the picture.")


# ---- the layout ----------------------------------------------------------------------------------

def read_classes(text):
    """The classes that the user wants: of a text each character (with its accents) once, of a file (.txt) a name in
    each line -> list of str in their order. UserError where there are none."""
    text = str(text)
    if text.lower().endswith(".txt"):
        try:
            names = Path(text).expanduser().read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeError) as e:
            raise UserError(f"cannot read the classes from {text} ({getattr(e, 'strerror', None) or e}): "
                            "expected a UTF-8 text file with a name in each line") from e
    else:
        names = []
        for c in unicodedata.normalize("NFC", text):
            joins = names and (unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"))
            names[-1:] = [names[-1] + c] if joins else [*names[-1:], c]
    names = list(dict.fromkeys(unicodedata.normalize("NFC", name).strip() for name in names))
    names = [name for name in names if name]
    if len(names) < 2 or not all(name.isprintable() and len(name) < 32 for name in names):
        raise UserError(f"--form {text!r}: name at least two classes, as --form 0123456789, or a .txt with one a line")
    return names


def code_points(name):
    """"あ" -> "U+3042"."""
    return "_".join(f"U+{ord(c):04X}" for c in name)


def folder_name(name, classes):
    """The folder of a class: its name where that is letters and digits, and unlike the others' when case does not count
    (as on Windows and macOS); else its code points."""
    same = sum(name.casefold() == other.casefold() for other in classes)
    return name if name.isalnum() and same == 1 else code_points(name)


def make_layout(classes, copies):
    """`copies` cells of each class -> the layout, a dict: version, code (of this form, 16 bits), classes, paper [w, h],
    mark (its side), margin, and cells, a list of {page, number, class, box [x, y, w, h]}. All classes once, then all
    again: whoever stops early has written as many of each. UserError for more than 255 pages."""
    n = len(classes)
    columns = next((c for c in (12, 11, 10, 9) if c % n == 0 or n % c == 0), 12)  # a row ends where the classes end
    per_page, total = columns * ROWS, n * copies
    if total > per_page * MAX_PAGES:
        raise UserError(f"{n:,} classes with {copies:,} copies fill {math.ceil(total / per_page):,} pages; "
                        f"possible are {MAX_PAGES}: make several forms")
    pitch = WIDTH / columns
    cells = []
    for i in range(total):
        page, place = divmod(i, per_page)
        row, column = divmod(place, columns)
        x = (PAPER[0] - WIDTH) / 2 + column * pitch + (pitch - CELL) / 2
        cells.append({"page": page + 1, "number": place + 1, "class": classes[i % n],
                      "box": [round(x, 3), round(TOP + row * (CELL + HEAD) + HEAD, 3), CELL, CELL]})
    layout = {"version": 1, "classes": list(classes), "paper": list(PAPER), "mark": MARK, "margin": MARGIN,
              "cells": cells}
    return {"code": zlib.crc32(json.dumps(layout, sort_keys=True).encode()) & 0xFFFF, **layout}


def read_layout(path):
    """The layout of a form.json. UserError where the file is none."""
    try:
        layout = json.loads(Path(path).read_text("utf-8"))
        code = layout.pop("code")
        boxes = np.array([cell["box"] for cell in layout["cells"]], np.float64)
        names = {cell["class"] for cell in layout["cells"]}
        numbers = [(cell["page"], cell["number"]) for cell in layout["cells"]]
        is_sound = (layout["version"] == 1 and code == zlib.crc32(json.dumps(layout, sort_keys=True).encode()) & 0xFFFF
                    and boxes.shape == (len(numbers), 4) and np.isfinite(boxes).all()
                    and names <= set(layout["classes"]) and len(set(numbers)) == len(numbers))
    except OSError as e:
        raise UserError(f"cannot read {path} ({e.strerror}): expected the .json that lies beside the form") from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise UserError(f"{path} is not the layout of a form, or was changed: take the .json that lay beside it")
    return {"code": code, **layout}


def page_count(layout):
    return max(cell["page"] for cell in layout["cells"])


# ---- the corner marks ----------------------------------------------------------------------------

def mark_boxes(layout):
    """The outer corners of the four marks in the order of CORNERS, each clockwise from its own top left:
    float64 [4, 4, 2], x and y."""
    (w, h), side, near = layout["paper"], layout["mark"], layout["margin"]
    far_x, far_y = w - near - side, h - near - side
    starts = np.array([(near, near), (far_x, near), (far_x, far_y), (near, far_y)])
    return starts[:, None] + side * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])


def mark_pattern(code, page, corner):
    """bool [8, 8], True black: the mark of a form's code (16 bits), page (8 bits) and corner (2 bits)."""
    word = code << 10 | page << 2 | corner
    word = (word << 10 | checksum(word)) ^ WHITENING
    pattern = np.ones((MODULES, MODULES), bool)
    pattern[1:-1, 1:-1] = np.array([word >> i & 1 for i in range(36)], bool).reshape(MODULES - 2, MODULES - 2)
    return pattern


def read_pattern(pattern):
    """(code, page, corner, quarter turns clockwise that it is seen turned by) of bool [8, 8], None if it is no mark."""
    ring = np.ones((MODULES, MODULES), bool)
    ring[1:-1, 1:-1] = False
    if not pattern[ring].all():
        return None
    for turns in range(4):
        bits = np.rot90(pattern, turns)[1:-1, 1:-1].ravel()
        word = sum(1 << i for i in np.flatnonzero(bits).tolist()) ^ WHITENING
        if checksum(word >> 10) == word & 1023:
            return word >> 20, word >> 12 & 255, word >> 10 & 3, turns
    return None


def checksum(word):
    return zlib.crc32(word.to_bytes(4, "big")) & 1023


# ---- drawing -------------------------------------------------------------------------------------

def pixels(length):
    """Millimetres -> pixels of a drawn page, rounded."""
    return round(length * DPI / 25.4)


def draw_page(layout, page, samples=None):
    """One page (1 ..) of the form: an RGB image of 2480 x 3508 pixels. `samples`: class -> a Pillow image to show above
    its cells; else the character is drawn, or where no font here has it, its code point."""
    image = Image.new("RGB", tuple(map(pixels, layout["paper"])), "white")
    for corner, box in enumerate(mark_boxes(layout)):
        pattern = mark_pattern(layout["code"], page, corner)
        (left, top), side = box[0], pixels(layout["mark"])
        square = Image.fromarray(~pattern).convert("L").resize((side, side), Image.Resampling.NEAREST)
        image.paste(square, (pixels(left), pixels(top)))
    middle = image.width // 2
    for i, line in enumerate(GUIDE):
        figures.write(image, middle, pixels(MARGIN + 2.2 + 4.8 * i), line, 35, BLACK, "m")
    foot = pixels(layout["paper"][1] - MARGIN - 6)
    figures.write(image, pixels(30), foot, "Writer: ______________________________", 40, GREY)
    figures.write(image, image.width - pixels(30), foot,
                  f"form {layout['code']:04X}, page {page} of {page_count(layout)}", 40, GREY, "r")
    drawn = {}                                          # class -> its sample, drawn once
    for cell in layout["cells"]:
        if cell["page"] == page:
            draw_cell(image, cell, (samples or {}).get(cell["class"]), drawn)
    return image


def draw_cell(image, cell, picture, drawn):
    """A cell's box, its number and the sample above it; `drawn`: samples of the classes that were drawn before."""
    x, y, w, h = map(pixels, cell["box"])
    draw = ImageDraw.Draw(image)
    draw.rectangle((x, y, x + w, y + h), outline=LINE, width=4)
    figures.write(image, x + 2, y - pixels(HEAD / 2) + 12, str(cell["number"]), 24, GREY)
    name, height = cell["class"], pixels(HEAD) - 12
    if name not in drawn:
        drawn[name] = draw_sample(name, picture, w - 90, height)
    left = max(x + (w - drawn[name].width) // 2, x + figures.text_width(str(cell["number"]), 24) + 8)
    image.paste(drawn[name], (left, y - 6 - height))


def can_draw(name):
    """Does a font here have all of it?"""
    return figures.class_name(["", name], 1) == name


def draw_sample(name, picture, width, height):
    """The wanted character, at most width x height pixels: a picture, a character, or its code point."""
    if picture is not None:
        picture = picture.copy()
        picture.thumbnail((width, height))
        return picture
    size = round(0.85 * height)
    if not can_draw(name):
        name, size = code_points(name), 28
    while size > 12 and figures.text_width(name, size) > width:
        size -= 2
    name = figures.fit(name, size, width)
    sample = Image.new("RGB", (max(1, figures.text_width(name, size)) + 8, height), "white")
    figures.write(sample, sample.width / 2, height / 2, name, size, BLACK, "m")
    return sample


def read_samples(folder, classes):
    """Pictures in a folder that are named after a class, as A.png or U+3042.jpg: {class: RGB image}."""
    found, folder = {}, Path(folder)
    names = {key: name for name in classes for key in (name, code_points(name))}
    try:
        for path in sorted(folder.iterdir()):
            name = names.get(unicodedata.normalize("NFC", path.stem))
            if name is not None:
                with open_picture(path) as picture:
                    found[name] = Image.fromarray(grey(picture)).convert("RGB")
    except (OSError, ValueError) as e:
        raise UserError(f"cannot read the samples in {folder}: {e}; expected pictures named after the classes") from e
    if not found:
        raise UserError(f"--samples {folder}: no picture is named after a class, as {classes[0]}.png")
    return found


def write_form(layout, out, samples=None):
    """Write all pages (.png: form-1.png, form-2.png where there are several; .pdf: one file) and the layout as .json
    beside them -> the paths. UserError for another form's .json there: with it lost, its pages could not be read."""
    out, beside = Path(out), Path(out).with_suffix(".json")
    if beside.exists() and read_layout(beside) != layout:
        raise UserError(f"{beside} is of another form, whose pages cannot be read without it: choose another --out")
    n = page_count(layout)
    as_pdf = out.suffix.lower() == ".pdf"
    paths = [out] if as_pdf or n == 1 else [out.with_name(f"{out.stem}-{i}{out.suffix}") for i in range(1, n + 1)]
    for path in filter(Path.is_dir, paths):
        raise UserError(f"{path} is a folder: choose another name for --out")
    text = json.dumps(layout, ensure_ascii=False).replace('{"page"', '\n{"page"')   # a cell a line
    with atomic(beside) as tmp:
        tmp.write_text(text + "\n", "utf-8")
    pages = (draw_page(layout, page, samples) for page in range(1, n + 1))
    if as_pdf:
        with atomic(out) as tmp:
            next(pages).save(tmp, format="PDF", resolution=DPI, quality=92, save_all=True, append_images=pages)
        return [out, beside]
    for path, page in zip(paths, pages):
        with atomic(path) as tmp:
            page.quantize(64, dither=Image.Dither.NONE).save(tmp, format="PNG", dpi=(DPI, DPI))
    return [*paths, beside]
