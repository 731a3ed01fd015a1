"""What a section of evaluate.py is given and what it gives back: numbers, words, tables and pictures.

    def section(setting): ...; return Part("quality", "How good are the samples?", words, tables, pictures, numbers)

evaluate.py collects the parts, report.py shows them.
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from data import Glyphs


def out_folder(dataset):
    """Where the results of a data set go by default."""
    return Path("results") / ("" if dataset == "mnist" else dataset)


@dataclass
class Setting:
    """What every section needs to know."""
    glyphs: Glyphs                     # the data set; its test split is read only for final figures
    models: Path                       # folder of trained files: generator.pth, cvae.pth, classifier.pth, ...
    out: Path                          # folder of results; a section may keep files of its own there
    seeds: int = 3                     # repetitions of whatever is trained
    per_class: list = field(default_factory=list)      # numbers of real images per class; None stands for all
    quick: bool = True                 # the default run, minutes; False: the full study
    device: torch.device = torch.device("cpu")
    show_real: bool = False            # whether pictures may show images of the data set, whose licence may not allow it
    say: Callable = print              # say(text): a line of progress; say(text, done, total): with the time left


@dataclass
class Table:
    """A table of text cells; the first column names the row."""
    title: str
    columns: list
    rows: list
    note: str = ""


@dataclass
class Picture:
    """A figure. `alt` says what is to be seen to those who cannot see it."""
    name: str                          # stem of the PNG (or GIF) in the folder of results
    image: Image.Image | Path          # a picture, or a file that is taken as it is (a GIF)
    alt: str
    caption: str = ""


@dataclass
class Part:
    """One section of the report. `numbers`: JSON types only, with the protocol beside them."""
    key: str
    title: str
    words: list                        # paragraphs in plain words; the first says what came out
    tables: list = field(default_factory=list)
    pictures: list = field(default_factory=list)
    numbers: dict = field(default_factory=dict)
    protocol: dict = field(default_factory=dict)       # what was otherwise than in the Setting: seeds, per_class, form
