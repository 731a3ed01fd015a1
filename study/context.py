"""What the studies have in common: the data set, the models of a folder, reference features."""
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import data
import models
from data import Glyphs
from datasets import strokes
from generate_digits import open_generator, sample_all
from metrics import features
from metrics.statistics import t_interval
from training.classifier import accuracy, train_classifier
from utils.checked_json import read_json
from utils.figures import evenly_spaced
from utils.files import UserError

GENERATORS = {"generator": "CGAN", "acgan": "ACGAN", "cvae": "CVAE"}     # file stem -> name
MAX_SAMPLES = 10_000       # samples that are measured
RECORD = {"dataset": str, "dataset_sha256?": str, "training_seconds?": float, "epochs?": int,
          "images_per_second?": float,
          "machine?": {"processor?": str}, "parameters?": {str: int}}          # of a run, as far as the studies read it
MAX_EXAMPLES = 10          # classes of which a figure shows a glyph
CAS_BATCH, CAS_PASSES = 64, 20     # images per step; passes over few images, after which more steps teach nothing


@dataclass
class Context:
    """What every study needs to know."""
    glyphs: Glyphs                     # the data set; its test split is read only for final figures
    models: Path                       # folder of trained files: generator.pth, cvae.pth, classifier.pth, ...
    out: Path                          # folder of results; a study may keep files of its own there
    seeds: int = 3                     # repetitions of whatever is trained
    per_class: list = field(default_factory=list)      # numbers of real images per class; None stands for all
    quick: bool = True                 # the default run, minutes; False: the full study
    device: torch.device = field(default=torch.device("cpu"))
    show_real: bool = False            # whether figures may show images of the data set, whose licence may not allow it
    say: Callable = print              # say(text): a line of progress; say(text, done, total): with the time left
    ocr: dict = field(default_factory=dict)            # options of ocr.run_study
    command: str = "python evaluate.py"                # by which the studies of this data set are run
    jobs: int = 0                      # processes in which the jobs of a study run; 0: in this one (study/jobs.py)
    is_alone: Callable = lambda: False                 # whether no other process works on this study's rows


def read_record(path):
    """The record of a run of train.py, a dict. Raises UserError for a foreign or damaged file."""
    try:
        return read_json(path, RECORD)
    except UserError as e:
        raise UserError(f"{path} is no record of train.py: train again, or remove it") from e


def generator_file(context, stem):
    """<stem>.onnx, else <stem>.pth, of the folder of models; None where there is neither."""
    files = (context.models / f"{stem}{suffix}" for suffix in (".onnx", ".pth"))
    return next((path for path in files if path.is_file()), None)


def open_generators(context, stems=tuple(GENERATORS)):
    """The usable generator files of the folder, the .onnx where there is one: ({stem: source of open_generator}, notes).
    What is missing, broken or draws other classes than those of the data set becomes a sentence in `notes`."""
    sources, notes = {}, []
    for stem in stems:
        path = generator_file(context, stem)
        try:
            if path is None:
                raise UserError(f"there is no `{stem}.onnx` and no `{stem}.pth`")
            source = open_generator(path)
            if source.classes != context.glyphs.classes:
                raise UserError(f"`{path.name}` draws other classes than those of {context.glyphs.name}")
            sources[stem] = source
        except UserError as e:
            notes.append(f"No {GENERATORS[stem]}: {e}.")
    return sources, notes


def open_classifier(context, stem="classifier"):
    """The network of <stem>.pth, in eval mode on the context's device. Raises UserError where there is no such file,
    or it is broken or knows other classes than the data set."""
    path = context.models / f"{stem}.pth"
    if not path.is_file():
        raise UserError(f"no {path.name} in {context.models}: train one with `python train.py --model {stem}`")
    checkpoint = models.load(path, "classifier")
    if list(checkpoint.classes) != context.glyphs.classes:
        raise UserError(f"{path} knows other classes than those of {context.glyphs.name}: name its data set")
    return checkpoint.model.to(context.device)


def example_glyphs(context):
    """One glyph each of up to MAX_EXAMPLES classes for figures, the first and not the nicest: (images float32
    [R, 1, 28, 28] in [0, 1], labels int64 [R], where they come from), or None where there is nothing that may be shown."""
    glyphs, shown = context.glyphs, evenly_spaced(len(context.glyphs.classes), MAX_EXAMPLES)
    sources, _ = open_generators(context, ("generator", "cvae", "acgan"))
    kind = next((kind for kind, classes in strokes.CLASSES.items() if classes == glyphs.classes), None)
    if context.show_real:              # a class without a test image stays blank
        images = np.stack([glyphs.x_test[np.flatnonzero(glyphs.y_test == c)[:1]].sum(0, np.uint8) for c in shown])
        origin = f"test images of {glyphs.name}"
    elif sources:
        stem, source = next(iter(sources.items()))
        images = sample_all(source, len(shown), seed=0, digits=shown.tolist())[0]
        origin = f"drawn by the {GENERATORS[stem]}"
    elif kind:
        images, _ = strokes.generate(len(shown), labels=shown, kind=kind)
        origin = "drawn by the strokes simulator"
    else:
        return None
    if len(shown) < len(glyphs.classes):
        origin += f"; {len(shown)} of {len(glyphs.classes)} classes, evenly spaced"
    images = models.from_uint8(torch.from_numpy(images))
    return images.to(context.device), torch.from_numpy(shown).to(context.device), origin


class Reference:
    """What samples are compared with: test images, and random training images as the floor; by the features of the
    folder's classifier, else of the one that comes along, else by pixels. `depths`: at several depths of it."""

    def __init__(self, context, depths=False):
        paths = [p for p in (context.models / "classifier.onnx", features.DEFAULT_MODEL) if p.is_file()]
        self.extractor = features.Extractor(paths[0] if paths else "pixels", depths=depths)
        self.glyphs = g = context.glyphs
        self.table = data.width_table(g.x_train, g.y_train, len(g.classes))
        keep = np.sort(np.random.default_rng(0).permutation(len(g.x_test))[:MAX_SAMPLES])
        self.n = len(keep)
        self.test = self.measure(g.x_test[keep], g.y_test[keep])

    def measure(self, images, labels, thickness=None):
        return self.extractor.measure(images, labels, thickness, self.glyphs.classes)

    def floor_set(self, seed):
        """As many random training images as there are samples, with their thickness."""
        g = self.glyphs
        i = np.random.default_rng(seed).permutation(len(g.x_train))[:self.n]
        x, y = g.x_train[i], g.y_train[i]
        return self.measure(x, y, data.thickness(x, y, self.table))

    def sample(self, source, seed=1):
        """Samples with the labels of the test images: images, labels, thickness."""
        return sample_all(source, self.n, seed=seed, digits=self.test.labels.tolist())


def join_names(names, none="nothing"):
    """["a", "b", "c"] -> "a, b and c"; `none` for an empty list."""
    *first, last = list(names) or [none]
    return f"{', '.join(first)} and {last}" if first else last


def accuracy_from_samples(context, images, labels, max_steps, seeds):
    """Classification accuracy score (Ravuri and Vinyals 2019): how many real test images a small classifier reads that
    was trained on these images alone, uint8 [N, 28, 28] with labels int64 [N].

    Returns {"accuracies": one per seed, "mean", "half": of the 95 % t-interval, "steps": of the optimiser}."""
    g, steps = context.glyphs, min(max_steps, math.ceil(CAS_PASSES * len(images) / CAS_BATCH))
    networks = (train_classifier(images, labels, steps=steps, batch=CAS_BATCH, seed=seed, n_classes=len(g.classes),
                                 device=context.device) for seed in range(seeds))
    accuracies = [accuracy(network, g.x_test, g.y_test) for network in networks]
    mean, half = t_interval(accuracies)
    return {"accuracies": accuracies, "mean": mean, "half": half, "steps": steps}
