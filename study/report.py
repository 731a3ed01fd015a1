"""results.json and its pictures -> one self-contained page, report.html: no file, script or font from elsewhere.

    write(json.loads(Path("results/results.json").read_text()), Path("results"))

The page is made of what evaluate.py stored (sections of words, tables and pictures); nothing is measured here.
"""
import base64
import html
import io
import re

from PIL import Image

from utils.files import UserError, atomic

LIMIT = 5_000_000          # bytes of a page
NARROW, HALF = 560, 800    # pixels: a picture wider than the first is scrolled on a phone, not shrunk till it cannot be
                           # read; two that are narrower than the second share a line on a wide screen
SUMMARY = ("quality", "ocr", "robustness", "classifier", "epochs", "runtime", "saliency")    # first three are the news
NUMBER = re.compile(r"[-+±<≈~]?\s*\.?\d.*|[-–]|n/a|")        # a cell that is set to the right

STYLE = """
:root { --paper: #fdfdfb; --ink: #22252a; --soft: #62676f; --line: #dedfda; --card: #f3f3ee; --accent: #0b5c92; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #dfe1e4; --soft: #9aa0a8; --line: #34383e; --card: #1f2226; --accent: #7bbcf0; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
p, ul, ol, h1, h2, h3, nav { max-width: 42rem; }
h1 { font-size: clamp(1.7rem, 1.2rem + 2.4vw, 2.5rem); line-height: 1.15; letter-spacing: -.015em; margin: 0 0 .75rem; }
h2 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 .75rem; }
h3 { font-size: 1.0625rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 1rem; overflow-wrap: break-word; }
a { color: var(--accent); text-underline-offset: .15em; }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--card); padding: .1em .3em;
       border-radius: 3px; overflow-wrap: anywhere; }
.lead, .small, figcaption, caption, .note { color: var(--soft); }
.small, figcaption, caption, .note { font-size: .875rem; line-height: 1.5; }
.found { border-left: 3px solid var(--accent); padding: .25rem 0 .25rem 1.25rem; margin: 1.5rem 0 2rem; }
.found h2 { font-size: 1.0625rem; margin-bottom: .5rem; }
.found p:last-child { margin-bottom: 0; }
nav ol { list-style: none; padding: 0; margin: 0; columns: 2 15rem; column-gap: 2rem; }
nav li { padding: .15rem 0; break-inside: avoid; }
section { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 2rem; }
section > p:first-of-type { font-size: 1.125rem; }
.scroll { overflow-x: auto; margin: 1.5rem 0 .5rem; -webkit-overflow-scrolling: touch; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; font-size: .9375rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; color: var(--ink); font-weight: 600; }
th, td { padding: .4rem .85rem .4rem 0; text-align: left; vertical-align: baseline;
         border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 2px solid var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 400; min-width: 8rem; }
.n { text-align: right; padding-left: .85rem; }
td.n { white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 2rem; margin: 2rem 0; align-items: flex-start; }
figure { margin: 0; flex: 0 1 100%; max-width: 100%; min-width: 0; }
.frame { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .25rem;
         width: fit-content; max-width: 100%; }
.frame img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .6rem; max-width: 42rem; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  .frame img.wide { max-width: none; width: 36rem; }
  section { margin-top: 2.25rem; padding-top: 1.5rem; }
}
@media (min-width: 60rem) { figure.half { flex-basis: calc(50% - 1rem); } }
@media (prefers-color-scheme: dark) { .frame { border-color: #fff; filter: brightness(.92); } }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --card: #f4f4f4; --accent: #000; }
  body { font-size: 10pt; } main { max-width: none; padding: 0; } nav { display: none; }
  figure, tr, .found { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .figures { display: block; } figure { margin-bottom: 1.5rem; } .frame { filter: none; }
  .scroll, .frame { overflow: visible; } table { font-size: 8.5pt; } .frame { border: 0; padding: 0; }
}
"""


# ---- pieces ----------------------------------------------------------------------------------------------------------

def prose(text):
    """Plain text as HTML; `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(text)))


def numeric_columns(rows):
    """For each column of text cells whether it holds numbers alone (then it is set to the right); never the first."""
    columns = list(zip(*rows))
    return [i > 0 and any(str(c) for c in column) and all(NUMBER.fullmatch(str(c).strip()) for c in column)
            for i, column in enumerate(columns)]


def table_html(table):
    right = numeric_columns(table["rows"]) or [False] * len(table["columns"])

    def cell(tag, text, i, scope=""):
        return f"<{tag}{scope}{' class=n' if right[i] else ''}>{prose(text)}</{tag}>"
    head = "".join(cell("th", c, i, " scope=col") for i, c in enumerate(table["columns"]))
    body = "\n".join("<tr>" + cell("th", row[0], 0, " scope=row") + "".join(
        cell("td", c, i) for i, c in enumerate(row[1:], 1)) + "</tr>" for row in table["rows"])
    note = f'\n<p class="note">{prose(table["note"])}</p>' if table["note"] else ""
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(table["title"])}"><table>'
            f'<caption>{prose(table["title"])}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>'
            f"</table></div>{note}")


def figure_html(picture, image):
    kind, content, (width, height) = image
    caption = f"<figcaption>{prose(picture['caption'])}</figcaption>" if picture["caption"] else ""
    return (f'<figure{" class=half" if width < HALF else ""}><div class="frame">'
            f'<img{" class=wide" if width > NARROW else ""} width="{width}" height="{height}" '
            f'alt="{html.escape(picture["alt"])}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
            f"</div>{caption}</figure>")


def protocol_line(protocol):
    """How a section was measured, in one line."""
    seconds = protocol["seconds"]
    return (f"{protocol['dataset']} (sha256 {protocol['dataset_sha256'][:12]}), {protocol['test_images']:,} test "
            f"images, {protocol['form']} form, seeds: {protocol['seeds']}, "
            f"{f'{seconds / 60:.0f} min' if seconds >= 120 else f'{seconds:.0f} s'} on "
            f"{protocol['machine']['threads']} threads of {protocol['machine']['processor']} "
            f"({protocol['machine']['device']}), torch {protocol['versions']['torch']}.")


# ---- pictures --------------------------------------------------------------------------------------------------------

def load_image(path):
    """(kind, bytes, (width, height)) of a picture file; a PNG with at most 128 colours, enough for charts and ink."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            kind, size = image.format.lower(), image.size
            if kind == "png":
                small = encode(image.convert("RGB").quantize(128, dither=Image.Dither.NONE))
                content = min(content, small, key=len)
    except OSError as e:
        raise UserError(f"the picture {path} of the results is missing or broken: evaluate its section again") from e
    return kind, content, size


def encode(image):
    memory = io.BytesIO()
    image.save(memory, format="PNG", optimize=True)
    return memory.getvalue()


def smaller(image):
    """The same picture in fewer bytes: of a GIF its last frame, of others half the width and height."""
    kind, content, size = image
    with Image.open(io.BytesIO(content)) as picture:
        picture.seek(getattr(picture, "n_frames", 1) - 1)
        still = picture.convert("RGB")
    if kind == "png":
        still = still.reduce(2)
    return "png", encode(still.quantize(64, dither=Image.Dither.NONE)), size      # shown as large as before


def load_pictures(results, folder, room):
    """{file name: picture} of all sections, the largest made smaller until all fit into `room` bytes of base64."""
    names = [p["file"] for s in results["sections"].values() for p in s["pictures"]]
    images = {name: load_image(folder / name) for name in names}
    while sum(len(content) * 4 / 3 for _, content, _ in images.values()) > room:
        largest = max(images, key=lambda name: len(images[name][1]))
        images[largest] = smaller(images[largest])
    return images


# ---- the page --------------------------------------------------------------------------------------------------------

def summary(results):
    """What came out: the first words of the three sections that matter most, of those that measured something."""
    sections = results["sections"]
    return [sections[k]["words"][0] for k in SUMMARY if k in sections and sections[k]["numbers"]][:3]


def page(results, folder):
    """The HTML of results (a dict as evaluate.py writes it); pictures are files in `folder`. Raises UserError."""
    d, sections, machine = results["dataset"], results["sections"], results["machine"]
    images = load_pictures(results, folder, LIMIT - 300_000)
    title = f"Generated handwriting: {d['name']}"
    forms = {s["protocol"]["form"] for s in sections.values()}
    facts = (f"Data: {d['source']}, {len(d['classes'])} classes, {d['images']['train']:,} training, "
             f"{d['images']['val']:,} validation and {d['images']['test']:,} test images (sha256 {d['sha256'][:12]}). "
             f"Machine: {machine['processor']}, {machine['threads']} threads, {machine['device']}. torch "
             f"{results['versions']['torch']}, Python {results['versions']['python']}.")
    asked = ("How good are images of handwriting that a network draws, and do they help a program to learn to read? "
             "Generators that draw a given character in a given thickness are compared with real images, and "
             "recognisers are trained with and without generated images, with the same number of steps.")
    quick = ("This is the quick form, for minutes: fewer images, seeds and steps than the full study, which is "
             "`python evaluate.py --full`.")
    parts = [f"<header><h1>{html.escape(title)}</h1>\n<p class=lead>{prose(asked)}</p>",
             *(f"<p><strong>{prose(n)}</strong></p>" for n in d["notes"]),
             "</header>"]
    news = summary(results)
    if news:
        said = "".join(f"<p>{prose(t)}</p>" for t in news)
        parts.append(f'<div class="found"><h2>What came out</h2>{said}</div>')
    parts.append('<nav aria-label="Contents"><ol>' + "".join(
        f'<li><a href="#{key}">{prose(s["title"])}</a></li>' for key, s in sections.items()) + "</ol></nav>")
    for key, s in sections.items():
        figures = "\n".join(figure_html(p, images[p["file"]]) for p in s["pictures"])
        inner = [f"<h2>{prose(s['title'])}</h2>", *(f"<p>{prose(t)}</p>" for t in s["words"]),
                 *map(table_html, s["tables"]), f'<div class="figures">\n{figures}\n</div>' if figures else "",
                 f'<p class="small">Measured on {prose(protocol_line(s["protocol"]))}</p>' if s["numbers"] else ""]
        parts.append(f'<section id="{html.escape(key)}">\n' + "\n".join(filter(None, inner)) + "\n</section>")
    parts.append(f'<footer><section><p class="small">{prose(facts)}'
                 f'{" " + prose(quick) if "quick" in forms else ""} Every number with its protocol: '
                 "<code>results.json</code>, beside this page.</p></section></footer>")
    return ('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(parts) + "\n</main>\n</body>\n</html>\n")


def write(results, folder):
    """Write report.html into `folder`, atomically."""
    text = page(results, folder)
    with atomic(folder / "report.html") as tmp:
        tmp.write_text(text, encoding="utf-8")
