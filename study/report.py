"""Section, Table, Figure: what a study gives back, how it is stored, its pages (skeleton: report.html, report.css).

    save(section, protocol, glyphs, notes, folder)    # <folder>/<key>.json and its figures
    write_page(folder)                                # <folder>/report.html: one page that needs no other file
    write_markdown(Path("results"), Path("docs/results.md"))       # of this folder and of those below it
"""
import base64
import html
import io
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from utils import figures
from utils.checked_json import matches, read_json
from utils.files import UserError, atomic

VERSION = 2                # of <key>.json
KEYS = ("quality", "ocr", "robustness", "classifier", "epochs", "runtime", "saliency")     # in the order of the page
COLOURS = 128              # of a PNG: enough for charts and ink
NARROW = 560               # pixels: a wider figure is scrolled on a phone, not shrunk till it cannot be read
STYLE, PAGE = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".html"))
STORED = {"version": VERSION, "title": str, "answer": str, "paragraphs": [str], "numbers": dict,      # of a section
          "tables": [lambda table: is_table(table)], "figures": [lambda figure: is_figure(figure)],
          "dataset": {"name": str, "source": str, "classes": [str], "notes": [str],
                      "images": {"train": int, "val": int, "test": int}},
          "protocol": {"dataset": str, "dataset_sha256": str, "test_images": int, "models": {str: str}, "form": str,
                       "seeds": int, "seconds": float, "real_images": bool, "command": str, "stale?": str,
                       "machine": {"threads": int, "jobs?": int, "processor": str, "device": str},
                       "versions": {"torch": str}}}
NUMBER = re.compile(r"[-+±<≈~]?\s*\.?\d.*|[-–]|n/a|")        # a cell that is set to the right


@dataclass
class Table:
    """A table of text cells; the first column names the row."""
    title: str
    columns: list
    rows: list
    note: str = ""


@dataclass
class Figure:
    """A figure. `alt` says what is to be seen to those who cannot see it."""
    name: str                          # stem of its PNG in the folder of results
    image: Image.Image | Path          # a picture, or a file that stays where it is
    alt: str
    caption: str = ""


@dataclass
class Section:
    """One question of the report: its answer, the first figure and the first table; all else folds away."""
    key: str                           # of KEYS
    title: str                         # the question
    paragraphs: list                   # text in plain words; `code` in backticks
    tables: list = field(default_factory=list)
    figures: list = field(default_factory=list)
    numbers: dict = field(default_factory=dict)        # JSON types or numpy's
    answer: str = ""                   # the title's question, answered in one sentence
    protocol: dict = field(default_factory=dict)       # what was otherwise than in the Context: seeds, per_class, form


def is_table(stored):
    """Whether JSON is a Table, with a cell for every column."""
    return (matches(stored, {"title": str, "columns": [str], "rows": [[str]], "note": str})
            and all(len(row) == len(stored["columns"]) for row in stored["rows"]))


def is_figure(stored):
    """Whether JSON is a Figure's picture: a file that may lie elsewhere beside the results, never any other kind."""
    return (matches(stored, {"file": str, "alt": str, "caption": str}) and "\0" not in stored["file"]
            and Path(stored["file"]).suffix in (".png", ".gif") and not Path(stored["file"]).is_absolute())


def read(path):
    """A stored section as a dict. Raises UserError for a foreign or damaged file."""
    try:
        return read_json(path, STORED)
    except UserError as e:
        raise UserError(f"{path} is damaged or not from this evaluate.py: move it away and evaluate again") from e


def read_all(folder):
    """{key: stored section} of a folder, in the order of the page."""
    return {key: read(folder / f"{key}.json") for key in KEYS if (folder / f"{key}.json").is_file()}


def write(key, stored, folder):
    """Write a stored section. Numpy's numbers and arrays and paths become JSON types, what is not finite null."""
    text = json.dumps(stored, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))
    stored = json.loads(text, parse_constant=lambda _: None)
    with atomic(folder / f"{key}.json") as tmp:
        tmp.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def figure_files(key, folder):
    """The files of a stored section's figures that lie in `folder` itself."""
    path = folder / f"{key}.json"
    return {f["file"] for f in read(path)["figures"] if "/" not in f["file"]} if path.is_file() else set()


def save(section, protocol, glyphs, notes, folder):
    """Write a Section, how it was measured, facts and notes of the data set to <folder>/<key>.json, its figures as PNGs
    beside it; figures that an earlier measurement has left are removed."""
    earlier, shown = figure_files(section.key, folder), []
    for f in section.figures:
        file = f"{f.name}.png"
        if isinstance(f.image, Path):
            file = Path(os.path.relpath(f.image, folder)).as_posix()
        else:
            figures.save(f.image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE), folder / file)
        shown.append({"file": file, "alt": f.alt, "caption": f.caption})
    dataset = {name: getattr(glyphs, name) for name in ("name", "sha256", "source", "license", "classes")}
    dataset["images"] = {split: len(getattr(glyphs, f"x_{split}")) for split in ("train", "val", "test")}
    stored = {"version": VERSION, "title": section.title, "answer": section.answer, "paragraphs": section.paragraphs,
              "tables": [asdict(t) for t in section.tables], "figures": shown, "numbers": section.numbers,
              "protocol": protocol | section.protocol, "dataset": dataset | {"notes": notes}}
    write(section.key, stored, folder)
    for name in earlier - {f["file"] for f in shown}:
        (folder / name).unlink(missing_ok=True)


def remove(key, folder):
    """Remove a stored section with its figures."""
    for name in [*figure_files(key, folder), f"{key}.json"]:
        (folder / name).unlink(missing_ok=True)


# ---- the page ------------------------------------------------------------------------------------

def prose(text):
    """Plain text as HTML; `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(text)))


def numeric_columns(table):
    """For each column whether it holds numbers alone (then it is set to the right); never the first."""
    columns = [[str(row[i]).strip() for row in table["rows"]] for i in range(len(table["columns"]))]
    return [i > 0 and any(cells) and all(map(NUMBER.fullmatch, cells)) for i, cells in enumerate(columns)]


def table_html(table):
    right = [" class=n" if numeric else "" for numeric in numeric_columns(table)]

    def cells(row, first, tag):
        tags = [first] + [tag] * len(row)
        return "".join(f"<{t}{r}>{prose(text)}</{t.split()[0]}>" for t, r, text in zip(tags, right, row))
    head = cells(table["columns"], "th scope=col", "th scope=col")
    body = "\n".join(f"<tr>{cells(row, 'th scope=row', 'td')}</tr>" for row in table["rows"])
    note = f'\n<p class="small">{prose(table["note"])}</p>' if table["note"] else ""
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table["title"])}"><table>'
            f'<caption>{prose(table["title"])}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>'
            f"</table></div>{note}")


def figure_html(figure, folder):
    """A figure with its file inside."""
    path = folder / figure["file"]
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            kind, (width, height) = image.format.lower(), image.size
    except Exception as e:             # Pillow has several types for what it cannot open
        raise UserError(f"the figure {path} of the results is missing or broken: evaluate its section again") from e
    caption = f"<figcaption>{prose(figure['caption'])}</figcaption>" if figure["caption"] else ""
    return (f'<figure><div class="frame"><img{" class=wide" if width > NARROW else ""} width="{width}" height="{height}" '
            f'alt="{html.escape(figure["alt"])}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
            f"</div>{caption}</figure>")


def section_html(key, s, folder):
    """The question, its answer, one figure, one table; the rest in <details>."""
    figures_html = [figure_html(f, folder) for f in s["figures"]]
    tables_html = [table_html(t) for t in s["tables"]]
    parts = [f'<section id="{key}">', f"<h2>{prose(s['title'])}</h2>", f'<p class="answer">{prose(s["answer"])}</p>',
             *figures_html[:1], *tables_html[:1]]
    rest = [f"<p>{prose(text)}</p>" for text in s["paragraphs"]] + tables_html[1:]
    if figures_html[1:]:
        rest += ['<div class="figures">', *figures_html[1:], "</div>"]
    if rest:
        parts += ["<details><summary>In detail</summary>", *rest, "</details>"]
    if s["numbers"]:
        parts.append(f'<p class="small">Measured on {prose(protocol_line(s["protocol"]))}</p>')
    return "\n".join([*parts, "</section>"])


def protocol_line(protocol):
    """How a section was measured, in one line."""
    seconds, machine = protocol["seconds"], protocol["machine"]
    took = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    cores = f"{machine['jobs']} processes of one thread" if "jobs" in machine else f"{machine['threads']} threads"
    line = (f"{protocol['dataset']} (sha256 {protocol['dataset_sha256'][:12]}), {protocol['test_images']:,} test images, "
            f"{protocol['form']} form, seeds: {protocol['seeds']}, {took} on {cores} of "
            f"{machine['processor']} ({machine['device']}), torch {protocol['versions']['torch']}.")
    return line + (f" Stale: {protocol['stale']}." if protocol.get("stale") else "")


def data_line(dataset):
    n = dataset["images"]
    return (f"Data: {dataset['source']}, {len(dataset['classes'])} classes, {n['train']:,} training, {n['val']:,} "
            f"validation and {n['test']:,} test images.")


def page(sections, folder):
    """The HTML of stored sections {key: dict} whose figures lie in `folder`. Raises UserError for a missing figure."""
    dataset = next(iter(sections.values()))["dataset"]
    notes = dict.fromkeys(note for s in sections.values() for note in s["dataset"]["notes"])
    answers = [f'<li><a href="#{key}">{prose(s["title"])}</a><br>{prose(s["answer"])}</li>' for key, s in sections.items()]
    facts = (f"{data_line(dataset)} Every number with its protocol: the `.json` files beside this page. Quick forms, for "
             "minutes, took fewer images, seeds and steps than the full ones: `python evaluate.py --full`.")
    return PAGE.format(title=html.escape(f"Generated handwriting: {dataset['name']}"), style=STYLE, facts=prose(facts),
                       answers="\n".join(answers), notes="".join(f"<p><strong>{prose(n)}</strong></p>" for n in notes),
                       body="\n".join(section_html(key, s, folder) for key, s in sections.items()))


def write_page(folder):
    """Write report.html of the sections stored in `folder`. Raises UserError where there are none."""
    sections = read_all(folder)
    if not sections:
        raise UserError(f"no results in {folder}: run `python evaluate.py` first")
    with atomic(folder / "report.html") as tmp:
        tmp.write_text(page(sections, folder), encoding="utf-8")


# ---- Markdown ------------------------------------------------------------------------------------

def table_lines(table):
    """Lines of a Markdown table, numbers to the right, its title above and its note below."""
    rows = [table["columns"], ["---:" if r else "---" for r in numeric_columns(table)], *table["rows"]]
    lines = ["| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in row) + " |" for row in rows]
    return [f"**{table['title']}**", "", *lines, "", table["note"], ""]


def section_lines(s, folder, target):
    """One stored section: question, answer, first figure, tables, links to the other figures, how it was measured."""
    links = [Path(os.path.relpath(folder / f["file"], target.parent)).as_posix() for f in s["figures"]]
    lines = [f"### {s['title']}", "", s["answer"], ""]
    if links:
        lines += [f"![{s['figures'][0]['alt']}]({links[0]})", ""]
    lines += [line for table in s["tables"] for line in table_lines(table)]
    if links[1:]:
        lines += ["More figures: " + ", ".join(f"[{Path(link).name}]({link})" for link in links[1:]) + ".", ""]
    if s["numbers"]:
        commands = [f"    {line}" for line in s["protocol"]["command"].splitlines()]
        lines += [f"Measured on {protocol_line(s['protocol'])}", "", *commands, ""]
    return lines


def write_markdown(base, target):
    """Write the sections stored in `base` and in the folders in it as one Markdown file."""
    origin = (f"Written by `evaluate.py` from the `.json` files in `{base.name}/`, which hold every number with its "
              "protocol; the `report.html` beside them has the paragraphs and all figures.")
    lines = ["# Results", "", origin, ""]
    for folder in [base, *sorted(p for p in base.iterdir() if p.is_dir())]:
        sections = list(read_all(folder).values())
        if sections:
            lines += [f"## {sections[0]['dataset']['name']}", "", data_line(sections[0]["dataset"]), ""]
        lines += [line for s in sections for line in section_lines(s, folder, target)]
    with atomic(target) as tmp:
        tmp.write_text(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n", encoding="utf-8")
