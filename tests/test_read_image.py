"""examples/read_image.py: digits of the simulator on a page, under uneven light, turned, light on dark; and faults."""
import importlib.util
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, command
from PIL import Image

from datasets import strokes
from utils.files import UserError
from utils.onnx_session import open_session

SAID = ["31415", "92653"]
IMAGES, LABELS = strokes.generate(600, seed=2)


@pytest.fixture(scope="module")
def reader():
    spec = importlib.util.spec_from_file_location("read_image", ROOT / "examples" / "read_image.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def session():
    return open_session(ROOT / "saved_models" / "classifier.onnx", "classifier")


def legible(session):
    """An image of each digit that the classifier is sure of: {digit: uint8 [28, 28]}."""
    p = session.run(["probabilities"], {"image": IMAGES})[0]
    return {d: IMAGES[(p[:, d] * (LABELS == d)).argmax()] for d in range(10)}


@pytest.fixture(scope="module")
def page(session):
    """Two lines of digits on paper, float [500, 700], paper 230, ink 40."""
    glyphs, a = legible(session[0]), np.full((500, 700), 230.0)
    for row, line in enumerate(SAID):
        for column, d in enumerate(line):
            ink = Image.fromarray(glyphs[int(d)]).resize((98, 98), Image.Resampling.BICUBIC)
            y, x = 100 + 150 * row, 100 + 105 * column
            a[y:y + 98, x:x + 98] -= np.asarray(ink) * (190 / 255)
    return a


def digits(reader, session, image, path):
    """What is read on this picture: a str for each line."""
    image.save(path)
    lines = reader.read_image(path, session[0])[1]
    return ["".join(session[1]["classes"][k] for k, *_ in line) for line in lines]


def conditions(page):
    noise = np.random.default_rng(0).normal(0, 5, page.shape)
    shadow = 1 - 0.5 / (1 + np.exp(-(np.arange(700) - 300) / 15))
    desk = np.pad(page * shadow, 60, constant_values=50)
    desk = desk + np.random.default_rng(0).normal(0, 3, desk.shape)

    def as_image(a):
        return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))

    return {"plain": as_image(page), "faint": as_image(230 - (230 - page) * 0.25), "noise": as_image(page + noise),
            "shadow on a desk": as_image(desk), "light on dark": as_image(255 - page + noise),
            "turned": as_image(page + noise).rotate(9, Image.Resampling.BILINEAR, fillcolor=230),
            "large": as_image(page).resize((2800, 2000), Image.Resampling.BICUBIC)}


def test_reads_lines_in_order_under_any_light(reader, session, page, tmp_path):
    for name, image in conditions(page).items():
        assert digits(reader, session, image, tmp_path / f"{name}.png") == SAID, name


def test_grain_smaller_than_any_digit_has_no_say_in_the_usual_size(reader):
    a = np.full((300, 300), 200, np.uint8)
    a[20:60, 30:34] = 60                                                    # a 1
    for y in range(100, 295, 10):
        for x in range(5, 290, 10):
            a[y:y + 5, x:x + 5] = 60                                        # of a desk: more ink in all
    _, digits, boxes, usual = reader.find_digits(a < 100, a, np.full_like(a, 200))
    assert len(digits) == 1 and usual == 40 and boxes[0].tolist() == [30, 20, 34, 60]


def test_boxes_and_the_picture_of_answers(reader, session, page, tmp_path):
    image = conditions(page)["shadow on a desk"].resize((2460, 1860))
    image.save(tmp_path / "a.jpg")
    image, lines = reader.read_image(tmp_path / "a.jpg", session[0])
    for row, line in enumerate(lines):
        for column, (_, probability, (left, top, right, bottom)) in enumerate(line):
            y, x = (160 + 150 * row) * 3, (160 + 105 * column) * 3
            assert probability > 0.5 and x - 9 <= left < right <= x + 303 and y - 9 <= top < bottom <= y + 303
    drawn = reader.draw_answers(image, lines, session[1]["classes"])
    assert max(drawn.size) == 1400 and (np.asarray(drawn) == reader.figures.ACCENT).all(-1).sum() > 2000


def test_parts_of_a_digit_belong_together_and_specks_do_not_count(reader):
    mask = np.zeros((200, 400), bool)
    mask[60:120, 50:56] = mask[60:66, 90:130] = mask[72:120, 90:96] = True   # a 1; a 5 with its bar apart
    mask[100:102, 300:303] = mask[20:23, 20:22] = True
    paper = np.full(mask.shape, 220, np.uint8)
    _, found, boxes, usual = reader.find_digits(mask, np.where(mask, 30, paper), paper)
    assert sorted(map(len, found)) == [1, 2] and 40 <= usual <= 60
    assert sorted(boxes.tolist()) == [[50, 60, 56, 120], [90, 60, 130, 120]]


def test_lines_that_fall_are_read_in_order(reader):
    angle = np.radians(12)
    centres = np.array([(x, y) for y in (0, 60, 120) for x in (0, 50, 100, 150, 200)]) @ np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    boxes = np.hstack([centres - 20, centres + 20])
    shuffled = np.random.default_rng(0).permutation(15)
    lines, found = reader.reading_order(boxes[shuffled], 40)
    assert [shuffled[line].tolist() for line in lines] == np.arange(15).reshape(3, 5).tolist()
    assert abs(found - 12) <= 2
    assert reader.reading_order(boxes[:1], 40) == ([[0]], 0)


def test_the_command_and_its_faults(reader, session, page, tmp_path, monkeypatch):
    conditions(page)["plain"].save(tmp_path / "a.png")
    done = command("examples/read_image.py", tmp_path / "a.png", "--out", tmp_path / "boxes.png")
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0].replace(" ", "") for line in done.stdout.splitlines()[:2]] == SAID
    assert Image.open(tmp_path / "boxes.png").size == (700, 500)
    Image.new("L", (300, 200), 220).save(tmp_path / "blank.png")
    assert_one_line_error(command("examples/read_image.py", tmp_path / "blank.png"), "blank.png", "no digit")
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.4")
    for name, expected in (("scan.pdf", "PNG or JPEG"), ("none.png", "none.png")):
        with pytest.raises(UserError, match=expected):
            reader.read_image(tmp_path / name, session[0])
    monkeypatch.setattr(reader, "MOST", 0)
    with pytest.raises(UserError, match="10 things"):
        reader.read_image(tmp_path / "a.png", session[0])
