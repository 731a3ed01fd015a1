import csv

import numpy as np
import pytest
from conftest import assert_one_line_error, command
from PIL import Image


def read(folder):
    """{file: (image, row of labels.csv)}"""
    with open(folder / "labels.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return {r["file"]: (np.asarray(Image.open(folder / r["file"])), r) for r in rows}


def make(generator, out, *more):
    done = command("generate_digits.py", "--generator", generator, "--out", out, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pngs_labels_and_sheet(trained, tmp_path):
    said = make(trained / "generator.onnx", tmp_path / "a", "--num_digits", 12)
    assert str(tmp_path / "a") in said
    found = read(tmp_path / "a")
    assert len(found) == 12 and len(list((tmp_path / "a").iterdir())) == 14
    assert "00000_0_thin.png" in found and (tmp_path / "a" / "sheet.png").is_file()
    for name, (image, row) in found.items():
        assert image.shape == (28, 28) and image.dtype == np.uint8
        assert name.split("_")[1] == row["class"] and name.endswith(row["style"] + ".png")
        assert (float(row["thickness"]) >= 0.5) == (row["style"] == "thick")


def test_both_files_and_any_number_give_the_same_images(trained, tmp_path):
    make(trained / "generator.pth", tmp_path / "pth", "--num_digits", 70, "--seed", 5)
    make(trained / "generator.onnx", tmp_path / "onnx", "--num_digits", 70, "--seed", 5)
    make(trained / "generator.onnx", tmp_path / "few", "--num_digits", 7, "--seed", 5)
    make(trained / "generator.onnx", tmp_path / "other", "--num_digits", 7, "--seed", 6)
    pth, other_file, few, other = (read(tmp_path / n) for n in ("pth", "onnx", "few", "other"))
    assert list(pth) == list(other_file)
    assert max(abs(pth[n][0].astype(int) - other_file[n][0]).max() for n in pth) <= 1
    for name, (image, _) in few.items():
        assert np.array_equal(image, other_file[name][0])
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(few.values(), other.values()))


def test_digits_style_and_thickness(trained, tmp_path):
    make(trained / "generator.onnx", tmp_path / "a.npz", "--num_digits", 30, "--digits", "0,3,9", "--style", "thick",
         "--format", "npz")
    with np.load(tmp_path / "a.npz") as z:
        assert z["images"].shape == (30, 28, 28) and z["images"].dtype == np.uint8
        assert z["labels"].dtype == np.int64 and list(z["labels"][:4]) == [0, 3, 9, 0]
        assert z["thickness"].dtype == np.float32 and z["thickness"].min() >= 0.5
        assert list(z["classes"]) == [str(i) for i in range(10)]
    make(trained / "generator.onnx", tmp_path / "b.npz", "--num_digits", 5, "--thickness", 0.8, "--format", "npz")
    with np.load(tmp_path / "b.npz") as z:
        np.testing.assert_allclose(z["thickness"], 0.8, rtol=1e-6)


def test_a_sheet_alone(trained, tmp_path):
    make(trained / "generator.onnx", tmp_path / "s.png", "--num_digits", 40, "--format", "sheet")
    assert min(Image.open(tmp_path / "s.png").size) > 100 and len(list(tmp_path.iterdir())) == 1


def test_a_second_run_leaves_no_image_without_its_label(trained, tmp_path):
    make(trained / "generator.onnx", tmp_path, "--num_digits", 30)
    (tmp_path / "mine.png").write_bytes(b"not ours")
    (tmp_path / "00099_3_thin.png").write_bytes(b"left by a run that was stopped")
    make(trained / "generator.onnx", tmp_path, "--num_digits", 4, "--digits", "7")
    found = read(tmp_path)
    assert len(found) == 4 and {p.name for p in tmp_path.glob("0*.png")} == set(found)
    assert (tmp_path / "mine.png").exists()


def test_a_labels_csv_of_the_users_own_is_kept(trained, tmp_path):
    (tmp_path / "labels.csv").write_text("name,weight\na,1\n")
    assert_one_line_error(command("generate_digits.py", "--generator", trained / "generator.onnx", "--out", tmp_path),
                          "labels.csv")
    assert (tmp_path / "labels.csv").read_text().startswith("name") and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("words, said", [
    (["--digits", "0,x"], "'x'"), (["--digits", "12"], "'12'"), (["--digits", ""], "''"),
    (["--num_digits", "0"], "at least 1"), (["--thickness", "1.5"], "1.5"), (["--thickness", "nan"], "nan"), (["--seed", "-1"], "-1"),
    (["--thickness", "0.5", "--style", "thin"], "--style"),
])
def test_wrong_wishes(trained, tmp_path, words, said):
    done = command("generate_digits.py", "--generator", trained / "generator.onnx", "--out", tmp_path / "o", *words)
    assert_one_line_error(done, said)
    assert not (tmp_path / "o").exists()


def test_wrong_files(trained, tmp_path):
    (tmp_path / "bad.onnx").write_text("x")
    (tmp_path / "bad.pth").write_text("x")
    for generator in ("none.pth", "bad.onnx", "bad.pth", "data.npz"):
        assert_one_line_error(command("generate_digits.py", "--generator", tmp_path / generator), generator)
    for name in ("classifier.onnx", "discriminator.pth"):
        assert_one_line_error(command("generate_digits.py", "--generator", trained / name), name)
    (tmp_path / "file").write_text("")
    assert_one_line_error(command("generate_digits.py", "--generator", trained / "generator.onnx", "--out",
                                  tmp_path / "file"), "file")
    assert (tmp_path / "file").read_text() == ""
