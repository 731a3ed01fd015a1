"""Random scripts: a class depends on its script and its number alone, and can be told from the others."""
import numpy as np
import pytest

import data
from datasets import random_script, strokes

CLASSES = 60
PATHS = [(4, "94,25 95,91 30,100 0,77 23,48 52,70 34,99 73,31 64,0 33,8 41,40 71,34"),
         (2, "97,40 84,88 34,88 0,85 34,52 55,68 39,100 64,32 61,0 36,20 34,43 76,50"),
         (1, "89,0 100,91 27,80 0,76 21,33 36,56 42,94 75,17 71,3 32,11 29,35 58,28")]


@pytest.fixture(scope="module")
def drawn():
    """20 images of each class of a script: images, labels"""
    return strokes.generate(20 * CLASSES, seed=1, kind=f"random-{CLASSES}")


def test_a_class_is_the_same_however_many_there_are(drawn):
    images, labels = drawn
    few = np.flatnonzero(labels < 7)
    again, _ = strokes.generate(few.max() + 1, seed=1, kind="random-7", labels=labels[:few.max() + 1].clip(max=6))
    assert (again[few] == images[few]).all()


def test_scripts_and_seeds_differ(drawn):
    images, labels = drawn
    other_script, _ = strokes.generate(100, seed=1, kind=f"random-{CLASSES}-1", labels=labels[:100])
    other_seed, _ = strokes.generate(100, seed=2, kind=f"random-{CLASSES}", labels=labels[:100])
    assert (other_script != images[:100]).any((1, 2)).all() and (other_seed != images[:100]).any((1, 2)).all()
    assert (strokes.generate(100, seed=1, kind=f"random-{CLASSES}-0", labels=labels[:100])[0] == images[:100]).all()


def test_labels_come_equally_often(drawn):
    assert (np.bincount(drawn[1]) == 20).all() and drawn[1].dtype == np.int64


def test_a_script_stays_what_it_is():
    """Stored sets must be drawn again to the same classes: the paths of one, as they were when this was written."""
    assert strokes._random_script(2, 0)[1] == PATHS


def test_paths_are_whole():
    """Every path fills its frame, has one to four strokes of two points or more, and room in its matrices."""
    for variants in strokes._random_script(300, 5):
        assert len({path for _, path in variants}) == len(variants) > 1
        for _, path in variants:
            points, pieces = strokes._parse(path)
            assert points.min() < 0.1 and 0.9 < points.max() <= 1 and len(points) <= random_script.MOST_POINTS
            assert 1 <= len(path.split(" / ")) <= 4 and all(len(piece) > 1 for _, piece in pieces)


def test_classes_vary_and_can_be_told_apart(drawn):
    images, labels = drawn
    flat = images.reshape(len(images), -1).astype(np.float32)
    assert len(np.unique(flat, axis=0)) == len(flat) and ((images > 127).sum((1, 2)) >= 15).all()
    half = len(flat) // 2
    means = np.stack([flat[:half][labels[:half] == k].mean(0) for k in range(CLASSES)])
    nearest = ((flat[half:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == labels[half:]).mean() > 0.5                        # chance: 1 / 60


@pytest.mark.parametrize("kind", ["random", "random-", "random-1", "random-5001", "random-010", "random-5-", "Random-5",
                                  "random-5\n"])
def test_unknown_kinds(kind):
    with pytest.raises(ValueError, match="no kind"):
        strokes.generate(3, kind=kind)


def test_a_data_set_of_a_random_script(tmp_path):
    """data.py writes it, and it is read like one's own images."""
    data.main(["random-12-3", "--num", "240", "--seed", "9", "--out", str(tmp_path / "script.npz")])
    glyphs = data.load(tmp_path / "script.npz")
    assert glyphs.classes == [f"r{k}" for k in range(12)]
    images, labels = strokes.generate(240, seed=9, kind="random-12-3")
    stored = np.load(tmp_path / "script.npz")
    assert (stored["images"] == images).all() and (stored["labels"] == labels).all()
