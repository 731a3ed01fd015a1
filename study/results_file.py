"""results.json: what evaluate.py measured, how it is kept, and the tables of README.md that are made of it.

    results = read_results(Path("results/results.json"))
    results["sections"]["quality"]["numbers"]               # every number; ["protocol"]: how it was measured
    fill_tables(readme, Path("results"))                    # text with its tables written anew
"""
import hashlib
import json
import math
import platform
from pathlib import Path

import numpy as np
import torch

from study import report
from training.run import processor
from utils import figures
from utils.files import UserError, atomic

VERSION = 1
DRAWN_BY, COMPARED = ["generator.*", "acgan.*", "cvae.*"], ["generator.*", "cvae.*"]
# section -> (module, its function, the model files that its figures depend on); in the order of the report
SECTIONS = {
    "quality": ("quality", "section", [*DRAWN_BY, "classifier.onnx"]),
    "classifier": ("classifier_report", "section", ["classifier.pth"]),
    "ocr": ("ocr", "section", []),
    "epochs": ("epochs", "section", ["*_epochs/*.pth", "classifier.onnx"]),
    "runtime": ("epochs", "runtime", DRAWN_BY),
    "robustness": ("robustness", "section", ["classifier*.pth", *COMPARED]),
    "saliency": ("explain", "section", ["classifier*.pth", *COMPARED, "*_epochs/*.pth"]),
}
MODEL_FILES = (".pth", ".onnx", ".json")


# ---- the file --------------------------------------------------------------------------------------------------------

def plain(value):
    """Numpy numbers and arrays, tuples and paths -> JSON types; what is not finite -> None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def fingerprint(models, patterns):
    """{file name: sha256, 12 digits} of the model files that match; sections are kept only while these stay
    (same_models)."""
    paths = sorted({p for pattern in patterns for p in models.glob(pattern)
                    if p.suffix in MODEL_FILES and not p.name.endswith(".resume.pth")})
    return {p.relative_to(models).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()[:12] for p in paths}


def same_models(before, now):
    """Whether figures still hold for the files that are there: {file: sha256} before and now. Snapshots of training may
    have been removed since, as they are not passed on with the models."""
    return {name: digest for name, digest in before.items() if name in now or "_epochs/" not in name} == now


def read_results(path):
    """results.json as a dict. Raises UserError for a missing, foreign or damaged file."""
    if not path.is_file():
        raise UserError(f"no {path}: run `python evaluate.py` first")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise UserError(f"{path} is of another version of this code: move it away and evaluate again")
        if not {"name", "sha256", "classes", "images", "notes"} <= found["dataset"].keys():
            raise KeyError("dataset")
        for name, section in found["sections"].items():
            if name not in SECTIONS or not {"words", "tables", "pictures", "numbers", "protocol"} <= section.keys():
                raise KeyError(name)
            if not {"models", "real_images"} <= section["protocol"].keys():
                raise KeyError("protocol")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path} is damaged or not from evaluate.py: move it away and evaluate again") from e


def fresh(glyphs, notes, device):
    """results without sections."""
    sizes = {split: len(getattr(glyphs, "x_" + split)) for split in ("train", "val", "test")}
    return {"version": VERSION,
            "dataset": {"name": glyphs.name, "sha256": glyphs.sha256, "source": glyphs.source,
                        "license": glyphs.license, "classes": glyphs.classes, "images": sizes, "notes": notes},
            "machine": {"processor": processor(), "threads": torch.get_num_threads(), "device": str(device)},
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "sections": {}}


def keep(results, path, models, show_real=False):
    """Take over the sections of an earlier results.json that still hold; returns a line for each one dropped. One that
    shows real images is kept only with show_real, so that none are passed on unknowingly."""
    if not path.is_file():
        return []
    before, dropped = read_results(path), []
    for name, section in before["sections"].items():
        if before["dataset"]["sha256"] != results["dataset"]["sha256"]:
            dropped.append(f"dropped the earlier section {name}: it was measured on other data")
        elif not same_models(section["protocol"]["models"], fingerprint(models, SECTIONS[name][2])):
            dropped.append(f"dropped the earlier section {name}: the model files have changed since")
        elif section["protocol"]["real_images"] and not show_real:
            dropped.append(f"dropped the earlier section {name}: it shows real images, which --show-real would keep")
        else:
            results["sections"][name] = section
    return dropped


def protocol_of(results, name, context, seconds, real_images):
    """How a section was measured, beside its numbers; real_images: whether its pictures may show some."""
    d = results["dataset"]
    return {"dataset": d["name"], "dataset_sha256": d["sha256"], "test_images": d["images"]["test"],
            "models": fingerprint(context.models, SECTIONS[name][2]), "form": "quick" if context.quick else "full",
            "seeds": context.seeds, "per_class": context.per_class, "seconds": round(seconds, 1),
            "real_images": real_images, "machine": results["machine"], "versions": results["versions"]}


def store(part, protocol, out):
    """A Part as a dict of JSON types; its pictures become files in `out`."""
    pictures = []
    for p in part.figures:
        is_file = isinstance(p.image, Path)
        target = out / f"{p.name}{p.image.suffix if is_file else '.png'}"
        if not is_file:
            figures.save(p.image, target)
        elif p.image.resolve() != target.resolve():
            with atomic(target) as tmp:
                tmp.write_bytes(p.image.read_bytes())
        pictures.append({"file": target.name, "alt": p.alt, "caption": p.caption})
    tables = [{"title": t.title, "columns": t.columns, "rows": t.rows, "note": t.note} for t in part.tables]
    return plain({"title": part.title, "words": part.paragraphs, "tables": tables, "pictures": pictures,
                  "numbers": part.numbers, "protocol": protocol})


def picture_names(results):
    return {Path(p["file"]).name for s in results["sections"].values() for p in s["pictures"]}


def write(results, out):
    """results.json and report.html, the sections in the order of SECTIONS; pictures no longer used are removed."""
    results["sections"] = {k: results["sections"][k] for k in SECTIONS if k in results["sections"]}
    path = out / "results.json"
    unused = picture_names(read_results(path)) - picture_names(results) if path.is_file() else ()
    with atomic(path) as tmp:
        tmp.write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    report.write(results, out)
    for name in unused:
        (out / name).unlink(missing_ok=True)


# ---- README's tables -------------------------------------------------------------------------------------------------

def fill_tables(text, folder):
    """The text with the table between `<!-- table [SUBFOLDER/]SECTION/NUMBER -->` and `<!-- end -->` taken from
    results.json of `folder` or its sub-folder; NUMBER counts from 1. Raises UserError for a table that is not there."""
    out, lines, i = [], text.split("\n"), 0
    while i < len(lines):
        out.append(lines[i])
        words = lines[i].split()
        if words[:2] == ["<!--", "table"] and words[3:] == ["-->"]:
            end = next((j for j in range(i + 1, len(lines)) if lines[j].strip() == "<!-- end -->"), None)
            if end is None or any(line.startswith("<!-- table") for line in lines[i + 1:end]):
                raise UserError(f"{lines[i]} is not closed by <!-- end -->")
            out += ["", *markdown(*find_table(words[2], folder)), "", lines[end]]
            i = end
        i += 1
    return "\n".join(out)


def find_table(name, folder):
    """(table, protocol) of a name as ocr/1 or arabic/ocr/1."""
    *place, section, number = ["", *name.split("/")]
    path = folder.joinpath(*place) / "results.json"
    found = read_results(path)["sections"].get(section, {"tables": []})
    if not number.isdecimal() or not 1 <= int(number) <= len(found["tables"]):
        raise UserError(f"no table {name}: {path} has {len(found['tables'])} tables of a section {section!r}; the "
                        "first table of quality is quality/1")
    return found["tables"][int(number) - 1], found["protocol"]


def markdown(table, protocol):
    """Lines of a Markdown table, numbers to the right, with its note and protocol below."""
    right = report.numeric_columns(table["rows"])

    def row(cells):
        return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
    lines = [row(table["columns"]), "|" + "|".join("---:" if r else "---" for r in right) + "|"]
    return lines + [row(cells) for cells in table["rows"]] + [
        "", f"*{table['title']}.{' ' + table['note'] if table['note'] else ''} {report.protocol_line(protocol)}*"]
