"""Section, Table, Figure: what a section of evaluate.py gives back."""
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


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
    name: str                          # stem of the PNG (or GIF) in the folder of results
    image: Image.Image | Path          # a picture, or a file that is taken as it is (a GIF)
    alt: str
    caption: str = ""


@dataclass
class Section:
    """One section of the report: a question, its answer, the first figure and the first table; all else folds away.

    `numbers`: JSON types only, with the protocol beside them."""
    key: str
    title: str
    paragraphs: list                   # text in plain words, folded away on the page
    tables: list = field(default_factory=list)
    figures: list = field(default_factory=list)
    numbers: dict = field(default_factory=dict)
    answer: str = ""                   # the title's question, answered in one sentence
    protocol: dict = field(default_factory=dict)       # what was otherwise than in the Context: seeds, per_class, form
