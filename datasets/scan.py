"""Photographs or scans of filled-in forms -> folders of glyphs, one a class, as train.py --dataset takes them.

    layout = read_layout("form.json")
    page, number, fit = read_page("page1.jpg", layout)    # the page, flat, upright, evenly lit: uint8, paper 255
    print(*scan_forms(["page1.jpg", "page2.jpg"], "form.json", "my_letters/"), sep="\n")

The four corner marks (form.py) are found among the dark parts of a small picture, their edges measured in the full one;
sixteen corner points give the homography that undoes perspective and any rotation. Brightness is divided by that of the
paper around. All pages are read before anything is written.
"""
import contextlib
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps, UnidentifiedImageError

from datasets.components import components
from datasets.form import CORNERS, MODULES, can_draw, code_points, folder_name, mark_boxes, read_layout, read_pattern
from datasets.normalize import FORMATS, MAX_PIXELS, grey, left_out, open_picture
from utils import figures
from utils.files import UserError, atomic

SCALE = 8                      # pixels a millimetre of a flattened page: a cell of 14 mm is then about 100 across
INSET = 0.7                    # mm inside a cell's line that are left out
SMALL = (1400, 2400)           # longest sides, in pixels, of the pictures in which marks are looked for, one by one
INK = 0.2                      # darker than the paper by this share: a pencil's stroke, not the paper's noise
MIN_INK, MAX_INK = 0.15, 0.75   # mm2 of ink that a filled cell has at least; share of a cell that is a spoilt one
DEEPEST = 0.4                  # light that a shadow leaves at least, of that on the paper within 15 mm
TILE, TILES = 52, 20           # pixels of a glyph on the contact sheet; glyphs in a row of it
WARN = (213, 94, 0)            # colour of what is to be looked at there
CURLED = 0.8                   # mm that the marks' corners may lie off a plane before it is said


# ---- pictures ------------------------------------------------------------------------------------

def open_photo(path):
    """A picture as its camera held it: a Pillow image. UserError for what is no picture, too large, or of a kind that
    Pillow cannot read."""
    try:
        with open(path, "rb") as f:
            head = f.read(16)
        if head.startswith(b"%PDF"):
            raise UserError(f"{path} is a PDF: save its pages as PNG or JPEG, one a file")
        if head[4:8] == b"ftyp":
            raise UserError(f"{path} is a HEIC or AVIF photograph, which is not read here: save it as JPEG")
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path}: {image.width} x {image.height} pixels are more than the limit of "
                                f"{MAX_PIXELS:,}: save it smaller, 300 dpi or 8 megapixels are plenty")
            return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except UnidentifiedImageError as e:
        raise UserError(f"{path} is no picture that is read here ({', '.join(FORMATS)}): save it as JPEG or PNG") from e
    except Exception as e:  # Pillow's plugins raise almost anything on a broken file
        reason = getattr(e, "strerror", None) or str(e).replace("\n", " ") or type(e).__name__
        raise UserError(f"cannot read {path}: {reason}") from e


def red_light(image):
    """A Pillow image -> uint8 [H, W], how much red light it shows: orange lines are white in it."""
    return grey(image) if image.mode[0] in "1LIF" else np.asarray(image.convert("RGB").getchannel("R"))


def sample(a, points):
    """Brightness of a, uint8 [H, W], at float points [..., 2] (x, y; pixel centres at .5), bilinear: float64 [...].
    Beyond the edge the nearest pixel counts."""
    x, y = (np.clip(points[..., i] - 0.5, 0, a.shape[1 - i] - 1.001) for i in (0, 1))
    column, line = x.astype(np.int64), y.astype(np.int64)
    x, y = x - column, y - line
    upper = a[line, column] * (1 - x) + a[line, column + 1] * x
    lower = a[line + 1, column] * (1 - x) + a[line + 1, column + 1] * x
    return upper * (1 - y) + lower * y


# ---- where the page lies -------------------------------------------------------------------------

def homography(source, target):
    """The projective map of points [N, 2] onto points [N, 2], N >= 4, least squares: float64 [3, 3]."""
    scales = []
    for points in (source, target):                     # centred and scaled, which the solution's precision needs
        size = np.abs(points - points.mean(0)).mean()
        scales.append(np.array([[1 / size, 0, -points[:, 0].mean() / size], [0, 1 / size, -points[:, 1].mean() / size],
                                [0, 0, 1]]))
    (x, y), (u, v) = (project(scale, points).T for scale, points in zip(scales, (source, target)))
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = np.concatenate([np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], 1),
                           np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], 1)])
    h = np.linalg.svd(rows)[2][-1].reshape(3, 3)
    return np.linalg.inv(scales[1]) @ h @ scales[0]


def project(h, points):
    """Points [..., 2] by a homography [3, 3]."""
    out = points @ h[:, :2].T + h[:, 2]
    return out[..., :2] / out[..., 2:]


def find_marks(a):
    """All corner marks of a page in a, uint8 [H, W] -> {(code, page): {corner: its corners [4, 2], clockwise from its
    own top left}}. Looks in a small picture first, then in a larger one."""
    found = {}
    for side in SMALL:
        factor = max(1, round(max(a.shape) / side))
        for quad in find_squares(np.asarray(Image.fromarray(a).reduce(factor))):
            quad = refine(a, quad * factor)
            mark = quad is not None and read_mark(a, quad)
            if mark:
                code, page, corner, turns = mark
                found.setdefault((code, page), {})[corner] = np.roll(quad, -turns, axis=0)
        if any(len(corners) == 4 for corners in found.values()) or factor == 1:
            break
    return found


def find_squares(a):
    """Corners [4, 2] (x, y), clockwise, of the parts of a, uint8 [H, W], that may be marks: dark, about square."""
    side = max(a.shape)
    around = np.asarray(Image.fromarray(a).filter(ImageFilter.BoxBlur(side // 30)), np.float32)
    labels, boxes, areas = components(a < 0.75 * around - 4)
    size = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    likely = ((size.max(1) < side / 8) & (size.max(1) > side / 100) & (size.min(1) > 8)
              & (size.min(1) > 0.4 * size.max(1)) & (areas > 0.2 * size.prod(1)))
    quads = []
    for i in np.flatnonzero(likely):
        top, left, bottom, right = boxes[i].tolist()
        own = labels[top:bottom, left:right] == i + 1
        rows = np.flatnonzero(own.any(1))
        first, last = own.argmax(1)[rows], own.shape[1] - own[:, ::-1].argmax(1)[rows]
        points = [np.stack([left + x, top + rows + dy], 1) for x in (first, last) for dy in (0, 1)]
        quads.append(corners_of(np.concatenate(points).astype(np.float64)))
    return quads


def corners_of(points):
    """The corners [4, 2] of the quadrangle that these points [N, 2] fill, clockwise on a picture (y down)."""
    a = points[np.argmax(np.square(points - points.mean(0)).sum(1))]
    c = points[np.argmax(np.square(points - a).sum(1))]             # the other end of a diagonal
    off = (points - a) @ np.array([a[1] - c[1], c[0] - a[0]])       # distance to it, with a sign
    return np.stack([a, points[np.argmin(off)], c, points[np.argmax(off)]])


def refine(a, quad, samples=24):
    """The same corners [4, 2] to a fraction of a pixel: on each side the edge is measured across at many places, a line
    laid through them, and the lines crossed. None where there is no edge from light to dark."""
    for _ in range(2):
        lines = []
        for p, q in zip(quad, np.roll(quad, -1, axis=0)):
            along = q - p
            length = np.hypot(*along)
            if length < 6:
                return None
            inward = np.array([-along[1], along[0]]) / length
            reach = 0.8 * length / MODULES                           # within the ring inside, its white margin outside
            place = np.linspace(0.08, 0.92, samples)
            at = p + place[:, None] * along
            steps = np.linspace(-reach, reach, 33)
            profile = sample(a, at[:, None] + steps[:, None] * inward)                       # [samples, 33]
            light, dark = np.median(profile[:, :8]), np.median(profile[:, -8:])
            if light < dark + 16:
                return None
            # the area under the profile, in units of full contrast, is where the edge lies
            offset = np.clip((profile - dark) / (light - dark), 0, 1).mean(1) * 2 * reach - reach
            near = np.abs(offset - np.median(offset)) < 0.25 * reach + 0.5
            if np.count_nonzero(near) < samples // 2:
                return None
            slope, start = np.polyfit(place[near], offset[near], 1)
            lines.append((p + start * inward, along + slope * inward))
        quad = np.array([cross(*lines[i - 1], *lines[i]) for i in range(4)])
        if not np.isfinite(quad).all():
            return None
    return quad


def cross(p, u, q, v):
    """Where the lines p + s u and q + t v cross: [2]."""
    d = u[0] * v[1] - u[1] * v[0]
    return p + u * (((q[0] - p[0]) * v[1] - (q[1] - p[1]) * v[0]) / d if d else np.nan)


def read_mark(a, quad):
    """(code, page, corner, turns) of the mark with these corners [4, 2] in a; None where there is none."""
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    h = homography(square, quad)
    centres = (np.arange(MODULES) + 0.5) / MODULES
    around = np.array([-0.25, 0, 0.25]) / MODULES
    x = (centres[:, None] + around).ravel()
    grid = sample(a, project(h, np.stack(np.meshgrid(x, x), -1)))
    modules = grid.reshape(MODULES, 3, MODULES, 3).mean((1, 3))
    ring = np.concatenate([modules[0], modules[-1], modules[1:-1, 0], modules[1:-1, -1]])
    outside = np.linspace(0, 1, 9)[:, None] * [1, 0] + [0, -0.5 / MODULES]       # above its upper edge
    paper = np.median(np.concatenate([sample(a, project(h, p)) for p in (outside, 1 - outside)]))
    return read_pattern(modules < (np.median(ring) + paper) / 2)


# ---- a page --------------------------------------------------------------------------------------

def read_page(path, layout):
    """(flat, page, misfit): the page in this picture, upright and evenly lit, uint8 [2376, 1680], paper at 255;
    its number; how far, in mm, its marks lie off a plane. UserError where none is found, or one of another form."""
    a = red_light(open_photo(path))
    found = find_marks(a)
    if not found:
        raise UserError(f"{path}: no corner mark of a form is seen: have the four black squares and the paper around "
                        "them in the picture, sharp and not covered")
    (code, page), marks = max(found.items(), key=lambda item: len(item[1]))
    if code != layout["code"]:
        raise UserError(f"{path} shows form {code:04X}, page {page}, but the layout given is of form "
                        f"{layout['code']:04X}: scan it with the .json of its own form")
    if len(marks) < 4:
        missing = [name for i, name in enumerate(CORNERS) if i not in marks]
        raise UserError(f"{path}: form {code:04X}, page {page}: the black square at the {' and '.join(missing)} is not "
                        "seen: have all four in the picture, sharp, not covered, with paper around them")
    if sum(len(corners) == 4 for corners in found.values()) > 1:
        raise UserError(f"{path} shows several pages: take a picture of each")
    order = sorted(marks)
    source, target = mark_boxes(layout)[order].reshape(-1, 2), np.concatenate([marks[i] for i in order])
    h = homography(source, target)                                   # mm on the page -> pixels of the picture
    misfit = np.hypot(*(project(np.linalg.inv(h), target) - source).T).max()
    return even_light(flatten(a, h, layout["paper"])), page, float(misfit)


def flatten(a, h, paper):
    """The page as seen from above, uint8 [height, width] at SCALE; h: mm -> pixels of a."""
    width, height = (round(side * SCALE) for side in paper)
    corners = project(h, np.array([(0, 0), (paper[0], 0), (0, paper[1])], np.float64))
    density = np.hypot(*(corners[1:] - corners[0]).T).max() / max(paper)         # pixels a mm
    factor = max(1, int(density / SCALE))                            # a sharper picture is averaged, not picked from
    image = Image.fromarray(a).reduce(factor) if factor > 1 else Image.fromarray(a)
    h = np.diag([1 / factor, 1 / factor, 1]) @ h @ np.diag([1 / SCALE, 1 / SCALE, 1])
    h = (h / h[2, 2]).ravel()[:8]
    return np.asarray(image.transform((width, height), Image.Transform.PERSPECTIVE, h, Image.Resampling.BILINEAR))


def even_light(page):
    """Divided by the brightness of the paper around, which is the brightest within 2 mm, so that shadows, too, go:
    uint8, paper 255."""
    small = Image.fromarray(page).reduce(4)
    paper = small.filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.MinFilter(9)).filter(ImageFilter.GaussianBlur(2))
    lit = small.reduce(4).filter(ImageFilter.MaxFilter(15)).resize(small.size, Image.Resampling.BILINEAR)
    paper = np.maximum(paper, np.asarray(lit) * DEEPEST).astype(np.float32)     # a box inked all over is no paper
    paper = np.asarray(Image.fromarray(paper).resize(page.shape[::-1], Image.Resampling.BILINEAR))
    return np.clip(page * (255 / 0.95) / np.maximum(paper, 1), 0, 255).astype(np.uint8)


def cut_cells(flat, layout, page):
    """The cells of one page: [(cell, uint8 [h, w] with paper at 255, state)]; the state is "" or "cut off" (ink touches
    the edge), or "empty" or "spoilt", which are left out."""
    cut = []
    for cell in layout["cells"]:
        if cell["page"] == page:
            x, y, w, h = cell["box"]
            top, bottom, left, right = (round(v * SCALE) for v in (y + INSET, y + h - INSET, x + INSET, x + w - INSET))
            glyph = flat[top:bottom, left:right]
            edge = SCALE // 2                                        # a line that got into the picture is no ink
            dark = np.asarray(Image.fromarray(glyph).filter(ImageFilter.BoxBlur(1))) < 255 * (1 - INK)
            ink = np.count_nonzero(dark[edge:-edge, edge:-edge])
            border = np.count_nonzero(dark) - np.count_nonzero(dark[1:-1, 1:-1])
            states = {"empty": ink < MIN_INK * SCALE ** 2, "spoilt": ink > MAX_INK * dark.size,
                      "cut off": border > SCALE}
            glyph = np.pad(glyph, 2, constant_values=255)           # no stroke runs out of it as a printed line would
            cut.append((cell, glyph, next((state for state, holds in states.items() if holds), "")))
    return cut


# ---- folders -------------------------------------------------------------------------------------

def scan_forms(paths, layout_path, out):
    """Cut the filled cells of photographed pages into out/CLASS/PHOTO-p1-c017.png, with a contact sheet beside `out`;
    what was done, as lines of text. Other photographs' glyphs in `out` stay. UserError, and nothing written, where a
    page cannot be read or a file is already there."""
    layout, out = read_layout(layout_path), Path(out)
    folders = {name: out / folder_name(name, layout["classes"]) for name in layout["classes"]}
    is_fit = not out.exists() or (out.is_dir() and all(e.is_dir() or e.name.startswith(".") or e.name == "classes.txt"
                                                       for e in out.iterdir()))
    if not is_fit:
        raise UserError(f"--out {out} holds other things than folders of glyphs: choose a new folder")
    names = [Path(path).stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"two pictures are called {twice}: glyphs are named after their picture, rename one")
    lines, kept = [], []                                             # kept: (photo, cell, glyph, state)
    for i, path in enumerate(paths):
        flat, page, misfit = read_page(path, layout)
        cut = cut_cells(flat, layout, page)
        states = [state for *_, state in cut]
        kept += [(i, *row) for row in cut if row[2] not in ("empty", "spoilt")]
        lines.append(f"{path}: page {page}, {states.count('') + states.count('cut off')} glyphs cut, "
                     f"{states.count('empty')} empty cells left out, {states.count('spoilt')} spoilt")
        if misfit > CURLED:
            lines.append(f"note: {path}: its marks lie {misfit:.1f} mm off a plane: lay the page flat")
        if states.count("cut off"):
            lines.append(f"note: {path}: ink at the edge of some cells, orange on the sheet: {states.count('cut off')}")
    if not kept:
        raise UserError(f"{paths[0]}: every cell is empty; was it written in red? Blue and black are seen")
    files = [folders[cell["class"]] / f"{names[i]}-p{cell['page']}-c{cell['number']:03d}.png" for i, cell, *_ in kept]
    there = next((file for file in files if file.exists()), None)
    if there:
        raise UserError(f"{there} is there already: rename the picture, after which glyphs are named, or the --out")
    sheet = next(path for n in range(1, 10_000) if not (path := sheet_path(out, n)).exists())
    write_all(files, [glyph for _, _, glyph, _ in kept], sheet, contact_sheet(layout, kept, names))
    add_names(out / "classes.txt", [f"{folder.name}\t{name}" for name, folder in folders.items()
                                    if len(name) > 1 and folder.name != name and folder.is_dir()])
    bare = [name for name in layout["classes"] if not folders[name].is_dir()]
    lines += left_out("classes without a glyph", bare)
    return [*lines, f"{len(kept)} glyphs in {out}; look for mistakes on {sheet}, and delete their files"]


def add_names(path, lines):
    """Say in classes.txt what the folders stand for whose name, several code points, does not say it."""
    there = path.read_text("utf-8").splitlines() if lines and path.exists() else []
    if set(lines) - set(there):
        with atomic(path) as tmp:
            tmp.write_text("\n".join(dict.fromkeys([*there, *lines])) + "\n", "utf-8")


def sheet_path(out, n):
    return out.with_name(f"{out.name}-sheet{f'-{n}' if n > 1 else ''}.png")


def write_all(files, glyphs, sheet, picture):
    """Write every glyph and the sheet, or, where that fails, nothing."""
    written = []
    try:
        for file, glyph in zip(files, glyphs):
            with atomic(file, sync=False) as tmp:
                Image.fromarray(glyph).save(tmp, format="PNG")
            written.append(file)
        figures.save(picture, sheet)
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        for folder in [*{file.parent for file in files}, files[0].parent.parent]:
            with contextlib.suppress(OSError):                       # it holds other glyphs, or was never made
                folder.rmdir()
        raise


def contact_sheet(layout, kept, names):
    """Every glyph that was cut, its class's row; below it the number of its picture and cell, orange where cut off."""
    rows, labels = [], []
    for name in layout["classes"]:
        tiles = []
        for i, cell, glyph, state in kept:
            if cell["class"] == name:
                tile = Image.new("RGB", (TILE, TILE + 14), "white")
                tile.paste(Image.fromarray(glyph).resize((TILE, TILE), Image.Resampling.BOX))
                ImageDraw.Draw(tile).rectangle((0, 0, TILE - 1, TILE - 1), outline=WARN if state else figures.RULE)
                colour = WARN if state else figures.GREY
                figures.write(tile, TILE / 2, TILE + 7, f"{i + 1}.{cell['number']}", 10, colour, "m")
                tiles.append(tile)
        for start in range(0, len(tiles), TILES):
            rows.append(tiles[start:start + TILES])
            labels.append("" if start else name if can_draw(name) else code_points(name))
    title = f"Cut from form {layout['code']:04X}: {len(kept)} glyphs"
    footer = "Below a glyph: picture.cell. Pictures: " + ", ".join(f"{i + 1} {name}" for i, name in enumerate(names))
    return figures.grid(rows, labels, title=title, footer=footer, scale=1)
