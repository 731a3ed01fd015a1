"""generate_digits.py: what a sample is, and the command on the shipped models."""
import csv
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import ROOT, command
from PIL import Image

import generate_digits
from generate_digits import draw_noise, sample_all, sample_conditions
from utils.files import UserError

MODELS = ROOT / "saved_models"
KNOWN_NOISE, KNOWN_U = [0.7462022, -0.0031871, -1.3263309, 0.6544232], [0.6757693896157496]


# ---- what a sample is ----------------------------------------------------------------------------

class Echo:
    """A generator whose images say what they were made from: the sampling law can be read off them."""
    classes, latent = ["a", "b", "c"], 6

    def __call__(self, noise, label, thickness):
        images = np.zeros((len(noise), 28, 28), np.uint8)
        images[:, 0, :6] = (noise * 20 + 128).clip(0, 255)
        images[:, 1, 0], images[:, 1, 1] = label, thickness * 255
        return images


def test_noise_is_standard_normal():
    noise, u = draw_noise(seed=1, start=0, n=20_000, latent=64)
    assert noise.dtype == np.float32 and np.isfinite(noise).all()
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 1) < 0.005
    assert abs((noise ** 4).mean() - 3) < 0.05                                # the kurtosis of a normal
    assert abs(np.corrcoef(noise[:, :8].T) - np.eye(8)).max() < 0.04          # dimensions do not follow each other
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.04         # nor do samples
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(u, noise[:, 0])[0, 1]) < 0.04


@pytest.mark.parametrize("latent", [1, 16, 63, 64])
def test_draw_depends_on_seed_and_index_alone(latent):
    whole, u = draw_noise(5, 0, 100, latent)
    for start, n in ((0, 1), (7, 13), (64, 36)):
        part, v = draw_noise(5, start, n, latent)
        assert np.array_equal(part, whole[start:start + n]) and np.array_equal(v, u[start:start + n])
    assert not np.allclose(draw_noise(6, 0, 100, latent)[0], whole)


def test_known_values():
    """The numbers behind a seed are part of the contract: they may never change."""
    noise, u = draw_noise(0, 3, 1, 4)
    np.testing.assert_allclose(noise[0], KNOWN_NOISE, rtol=1e-5)
    np.testing.assert_allclose(u, KNOWN_U, rtol=1e-12)


def test_a_longer_run_begins_with_the_shorter_one():
    long = sample_all(Echo(), 300, seed=2)
    for n in (1, 10, 63, 64, 65, 200):
        for a, b in zip(sample_all(Echo(), n, seed=2), long):
            assert len(a) == n and np.array_equal(a, b[:n])


@pytest.mark.parametrize("classes", [[0], [0, 1], [0, 1, 2], [2, 0]])
def test_labels_cycle_and_styles_are_balanced(classes):
    _, labels, t = sample_all(Echo(), 24 * len(classes), digits=classes)
    assert labels.dtype == np.int64 and t.dtype == np.float32
    assert list(labels[:2 * len(classes)]) == classes * 2
    for k in classes:
        assert np.sum(labels == k) == 24 and np.sum(t[labels == k] >= 0.5) == 12


def test_styles_keep_to_their_half():
    for style, low, high in (("thin", 0, 0.5), ("thick", 0.5, 1)):
        _, _, t = sample_all(Echo(), 4000, style=style)
        assert low <= t.min() < low + 0.01 and high - 0.01 < t.max() <= high
        assert (t >= 0.5).all() == (style == "thick") and abs(t.mean() - (low + 0.25)) < 0.01
    _, t = sample_conditions(np.array([1 - 2.0 ** -53]), 0, [0], "thin")
    assert t[0] < 0.5                                                         # the largest u of all
    _, _, t = sample_all(Echo(), 50, thickness=0.8)
    assert (t == np.float32(0.8)).all()


# ---- the command ---------------------------------------------------------------------------------

def generate(out, *words, generator="generator.onnx"):
    generate_digits.main(["--generator", str(MODELS / generator), "--out", str(out), *map(str, words)])


def read(folder):
    """{file: (image, row of labels.csv)}"""
    with open(folder / "labels.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {r["file"]: (np.asarray(Image.open(folder / r["file"])), r) for r in rows}


def test_the_command_writes_pngs_labels_and_a_sheet_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch here')")
    done = command("generate_digits.py", "--generator", MODELS / "generator.onnx", "--out", tmp_path / "a",
                   "--num-digits", 12, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert str(tmp_path / "a") in done.stdout
    images = read(tmp_path / "a")
    assert len(images) == 12 and len(list((tmp_path / "a").iterdir())) == 14
    assert "00000_0_thin.png" in images and (tmp_path / "a" / "sheet.png").is_file()
    for name, (image, row) in images.items():
        assert image.shape == (28, 28) and image.dtype == np.uint8
        assert name.split("_")[1] == row["class"] and name.endswith(row["style"] + ".png")
        assert (float(row["thickness"]) >= 0.5) == (row["style"] == "thick")


def test_pth_and_onnx_give_the_same_images():
    a, b = (generate_digits.open_generator(MODELS / f"generator.{kind}") for kind in ("pth", "onnx"))
    assert a.classes == b.classes and a.latent == b.latent
    for x, y in zip(sample_all(a, 70, seed=5), sample_all(b, 70, seed=5)):
        assert np.abs(x.astype(float) - y).max() <= (1 if x.ndim == 3 else 0)
    assert not np.array_equal(sample_all(b, 7, seed=5)[0], sample_all(b, 7, seed=6)[0])


def test_npz_with_digits_style_and_thickness(tmp_path):
    generate(tmp_path / "a.npz", "--num_digits", 70, "--digits", "0,3,9", "--style", "thick", "--format", "npz")
    source = generate_digits.open_generator(MODELS / "generator.onnx")
    with np.load(tmp_path / "a.npz") as z:
        wanted = sample_all(source, 70, digits=[0, 3, 9], style="thick")
        for name, array in zip(("images", "labels", "thickness"), wanted):
            assert z[name].dtype == array.dtype and np.array_equal(z[name], array)
        assert list(z["labels"][:4]) == [0, 3, 9, 0] and z["thickness"].min() >= 0.5
        assert list(z["classes"]) == [str(i) for i in range(10)]
    generate(tmp_path / "b.npz", "--num_digits", 5, "--thickness", 0.8, "--format", "npz")
    with np.load(tmp_path / "b.npz") as z:
        np.testing.assert_allclose(z["thickness"], 0.8, rtol=1e-6)


def test_a_sheet_alone_says_when_it_holds_no_more(tmp_path, capsys):
    generate(tmp_path / "s.png", "--num_digits", 500, "--format", "sheet", "--digits", "3")
    assert min(Image.open(tmp_path / "s.png").size) > 100 and len(list(tmp_path.iterdir())) == 1
    assert "400 images" in capsys.readouterr().out


def test_a_second_run_leaves_no_image_without_its_label(tmp_path):
    generate(tmp_path, "--num_digits", 12)
    (tmp_path / "mine.png").write_bytes(b"not ours")
    (tmp_path / "00099_3_thin.png").write_bytes(b"left by a run that was stopped")
    generate(tmp_path, "--num_digits", 4, "--digits", "7")
    images = read(tmp_path)
    assert len(images) == 4 and {p.name for p in tmp_path.glob("0*.png")} == set(images)
    assert (tmp_path / "mine.png").exists()


@pytest.mark.parametrize("head", ["name,weight", ",".join(generate_digits.COLUMNS) + ",notes"])
def test_a_labels_csv_of_the_users_own_is_kept(tmp_path, head):
    (tmp_path / "labels.csv").write_text(f"{head}\na,1\n")
    with pytest.raises(UserError, match=r"labels\.csv"):
        generate(tmp_path)
    assert (tmp_path / "labels.csv").read_text().startswith(head) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("own", ["sheet.png", "7/a.png"])
def test_a_folder_of_the_users_own_is_kept(tmp_path, own):
    """As a data set, whose pictures a labels.csv would hide."""
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_bytes(b"not ours")
    with pytest.raises(UserError, match="choose another --out"):
        generate(tmp_path)
    assert [p.name for p in tmp_path.rglob("*.*")] == [Path(own).name]


def test_a_run_that_was_stopped_leaves_a_folder_for_the_next(tmp_path, monkeypatch):
    generate(tmp_path, "--num_digits", 4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate_digits.csv, "writer", Mock(side_effect=KeyboardInterrupt))
        generate(tmp_path, "--num_digits", 4)
    generate(tmp_path, "--num_digits", 4)
    assert len(read(tmp_path)) == 4


def test_classes_are_named_by_name_or_by_number_where_no_name_is_one():
    assert generate_digits.class_indices("b, a,2", ["a", "b", "c"]) == [1, 0, 2]
    assert generate_digits.class_indices("7,5", ["5", "7"]) == [1, 0]
    assert generate_digits.class_indices("0,٢,1", list("٠١٢")) == [0, 2, 1], "Arabic digits, on a keyboard without them"
    for text, classes in (("0", "57"), ("3", "abc"), ("-1", "ab"), ("", "ab"), ("a,,b", "ab")):
        with pytest.raises(UserError, match="no class"):
            generate_digits.class_indices(text, list(classes))


@pytest.mark.parametrize("words, said", [
    (["--digits", "0,x"], "'x'"), (["--digits", "12"], "'12'"), (["--digits", ""], "''"),
    (["--num_digits", "0"], "at least 1"), (["--thickness", "1.5"], "1.5"), (["--thickness", "nan"], "nan"),
    (["--seed", "-1"], "-1"), (["--seed", str(2 ** 64)], "below"), (["--thickness", "0", "--style", "thin"], "--style"),
    (["--out", ""], "--out.*empty"), (["--generator", " "], "--generator.*empty"),
])
def test_wrong_options_name_themselves_and_write_nothing(tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        generate(tmp_path / "o", *words)
    assert not any(tmp_path.iterdir())


def test_wrong_files_are_named(tmp_path):
    for name in ("bad.onnx", "bad.pth", "data.npz"):
        (tmp_path / name).write_text("x")
    for path in (*map(tmp_path.joinpath, ("none.pth", "bad.onnx", "bad.pth", "data.npz")), MODELS / "classifier.onnx",
                 MODELS / "acgan_discriminator.pth"):
        with pytest.raises(UserError, match=path.name):
            generate_digits.main(["--generator", str(path), "--out", str(tmp_path / "out")])
    for out, kind in ((tmp_path / "data.npz", "png"), (tmp_path, "npz")):
        with pytest.raises(UserError, match="--out"):
            generate(out, "--format", kind)
    assert (tmp_path / "data.npz").read_text() == "x" and len(list(tmp_path.iterdir())) == 3
