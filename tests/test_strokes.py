"""The handwriting simulator: images depend on what they should and nothing else, and look like the digits asked for."""
import time

import numpy as np
import pytest

from datasets import strokes

KINDS = list(strokes.CLASSES)


@pytest.fixture(scope="module")
def drawn():
    """2,000 images of each kind: {kind: (images, labels)}"""
    return {kind: strokes.generate(2000, seed=1, kind=kind) for kind in KINDS}


def ink(images):
    return (images > 127).sum((1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_image_depends_on_seed_index_kind_and_label_only(drawn, kind):
    images, labels = drawn[kind]
    for n, threads in ((0, 1), (1, 1), (2, 3), (129, 2), (300, 1)):
        again, same = strokes.generate(n, seed=1, kind=kind, threads=threads)
        assert (again == images[:n]).all() and (same == labels[:n]).all()
    other = np.where(np.arange(300) % 3 == 0, labels[:300], (labels[:300] + 1) % 10)  # neighbours do not matter
    mixed, _ = strokes.generate(300, seed=1, kind=kind, labels=other)
    assert (mixed[::3] == images[:300:3]).all()
    assert (mixed[1::3] != images[1:300:3]).any((1, 2)).all()
    assert (strokes.generate(50, seed=2, kind=kind, labels=labels[:50])[0] != images[:50]).any((1, 2)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_arrays(drawn, kind):
    images, labels = drawn[kind]
    assert images.dtype == np.uint8 and images.shape == (2000, 28, 28)
    assert labels.dtype == np.int64 and (np.bincount(labels) == 200).all()
    assert images.min() == 0 and images.max() == 255
    grey = ((images > 0) & (images < 255)).mean()
    assert 0.05 < grey < 0.2 if kind == "digits" else grey == 0                   # MADBase is black and white


def test_labels_as_asked():
    wanted = np.array([7, 7, 0, 3, 9] * 20)
    images, labels = strokes.generate(100, labels=list(wanted))
    assert (labels == wanted).all() and len(images) == 100
    for wrong in ([1, 2], [10] * 3, [-1] * 3):
        with pytest.raises(ValueError, match="3 class indices from 0 to 9"):
            strokes.generate(3, labels=wrong)
    with pytest.raises(ValueError, match="latin"):
        strokes.generate(3, kind="latin")


@pytest.mark.parametrize("kind", KINDS)
def test_framed_like_the_real_sets(drawn, kind):
    """Centre of mass on the centre to half a pixel, longest side about 20 pixels, hardly anything cut off."""
    images, _ = drawn[kind]
    mass = images.reshape(len(images), -1).astype(float)
    grid = np.indices((28, 28)).reshape(2, -1)
    centre = mass @ grid.T / mass.sum(1, keepdims=True)
    assert np.abs(centre - strokes.CENTRE[kind]).max() < 0.51
    on = images > 127
    longest = np.maximum(on.any(1).sum(1), on.any(2).sum(1))
    assert ((longest >= 14) & (longest <= 24)).all() and 19 <= np.median(longest) <= 21
    border = np.concatenate([on[:, [0, -1]], on[:, :, [0, -1]].transpose(0, 2, 1)], 1)
    assert border.any((1, 2)).mean() < 0.04           # wide glyphs may touch it, as 1 % of MNIST does


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", range(10))
def test_every_class_varies(drawn, kind, k):
    images, labels = drawn[kind]
    of_class = images[labels == k]
    assert ink(of_class).min() >= 15
    assert len(np.unique(of_class.reshape(len(of_class), -1), axis=0)) == len(of_class)
    thin, thick = np.quantile(ink(of_class), [0.05, 0.95])
    assert thick > 1.6 * thin


def test_every_variant_is_drawn_whole():
    """Sampled at its control points' own places, each variant's path spans its table entry; pen lifts are kept."""
    for kind, classes in (("digits", strokes.DIGITS), ("arabic", strokes.ARABIC)):
        table = strokes._tables(kind)
        paths = [path for variants in classes for _, path in variants]
        spline = table["basis"] @ table["control"]
        for path, drawn, joined in zip(paths, spline, table["joined"]):
            points, _ = strokes._parse(path)
            assert np.abs(drawn.min(0) - points.min(0)).max() < 0.15
            assert np.abs(drawn.max(0) - points.max(0)).max() < 0.15
            assert (joined == 0).sum() == path.count("/")


def test_upright(drawn):
    """Where an average digit's ink lies: 7 is heavy above, 6 below; 9 and ٦ stand on the right, 6 rises left."""
    def mean(kind, k):
        images, labels = drawn[kind]
        return images[labels == k].mean(0)

    def top(image):
        return image[6:12].sum() / image[16:22].sum()

    def left(image, rows):
        return image[rows, :14].sum() / image[rows, 14:].sum()

    assert top(mean("digits", 7)) > 1.3 and top(mean("digits", 9)) > 1.3
    assert top(mean("digits", 6)) < 0.8 and top(mean("digits", 2)) < 1
    above, below = slice(6, 12), slice(16, 22)
    assert left(mean("digits", 9), below) < 0.8 and left(mean("digits", 6), above) > 1
    assert left(mean("arabic", 6), below) < 0.5 and left(mean("arabic", 6), above) > 2
    assert top(mean("arabic", 9)) > 1.3 and top(mean("arabic", 8)) < 1.1 < top(mean("arabic", 7))


def test_classes_can_be_told_apart(drawn):
    """The nearest class mean, a weak reader, must be right on far more than the tenth that chance gives."""
    for kind in KINDS:
        images, labels = drawn[kind]
        flat = images.reshape(len(images), -1).astype(np.float32)
        means = np.stack([flat[:1000][labels[:1000] == k].mean(0) for k in range(10)])
        nearest = ((flat[1000:, None] - means) ** 2).sum(-1).argmin(1)
        assert (nearest == labels[1000:]).mean() > 0.6


def test_fast():
    strokes.generate(10)
    start = time.perf_counter()
    strokes.generate(2000)
    assert time.perf_counter() - start < 4      # 0.2 s on two idle cores; loose, for a busy machine


def test_scanned_characters_are_the_same_in_black_and_white():
    """With frayed edges; some have an outline within the ink."""
    labels = np.tile(np.arange(20), 10)
    usual, _ = strokes.generate(200, seed=4, kind="random-20", labels=labels)
    rough, _ = strokes.generate(200, seed=4, kind="random-20", labels=labels, scanned=True)
    assert set(np.unique(rough)) == {0, 255} and len(np.unique(usual)) > 100
    overlap = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(usual, rough)]
    assert np.median(overlap) > 0.7 and min(overlap) < 0.6
    assert (strokes.generate(20, seed=4, kind="arabic", scanned=True)[0] == strokes.generate(20, seed=4, kind="arabic")[0]).all()
