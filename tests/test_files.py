"""files.py: files that are written whole or not at all, JSON that is not trusted, errors of one line."""
import json

import pytest

from utils.files import UserError, atomic, is_plain, matches, parse_json, read_json


def test_atomic_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as tmp:
        tmp.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic(path) as tmp:
        tmp.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_atomic_keeps_to_the_users_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic(tmp_path / "ours", sync=False) as tmp:
        tmp.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    with atomic(tmp_path / "a") as first, atomic(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(UserError, match="cannot write"), atomic(path) as tmp:
            tmp.write_text("")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and not list(tmp_path.parent.glob(".*.tmp"))


# ---- JSON ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "[" * 40 + "]" * 40, '{"a":' * 50_000, "", "{",
                                  b"\xff", '"\\ud800"',
                                  '{"\\udfff": 1}', "9" * 5000, str(2 ** 70), "[1"])
def test_json_that_is_none_or_cannot_be_used(tmp_path, text):
    with pytest.raises(UserError, match="the row"):
        parse_json(text, "the row")
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="a.json"):
        read_json(tmp_path / "a.json")


def test_json_of_every_type_passes():
    value = {"a": [1, -2.5, None, True, "あ", {}], "b": 2 ** 64 - 1}
    assert parse_json(json.dumps(value), "x") == value and parse_json(json.dumps(value).encode(), "x",
                                                                      {"b": int}) == value
    assert is_plain({"a": [(1, 2)]}) and not is_plain({"a": {1, 2}}) and is_plain({1}, lambda v: v == {1})


@pytest.mark.parametrize("value, form, fits", [
    (1, int, True), (True, int, False), (1.0, int, False), (1, float, True), (1.5, float, True),
    (float("nan"), float, False),
    (float("inf"), float, False), ("1", float, False), (True, bool, True), (None, None, True), (0, None, False),
    ("all", "all", True), (["all"], "all", False), (1, 1, True), (True, 1, False), ("2", (1, "2"), True),
    (None, (int, None), True),
    ([1, 2], [int], True), ([], [int], True), ([1, "a"], [int], False), ("ab", [str], False), ({}, {"a": int}, False),
    ({"a": 1, "b": 2}, {"a": int}, True), ({}, {"a?": int}, True), ({"a": "x"}, {"a?": int}, False),
    ({"x": 1}, {str: int}, True),
    ({"x": "1"}, {str: int}, False), ([], {"a?": int}, False), ({"a": {"b": [1]}}, {"a": {"b": [float]}}, True),
    (3, lambda v: v > 2, True),
    (1, lambda v: v > 2, False), ({"a": None}, dict, True), ([], dict, False)])
def test_forms(value, form, fits):
    assert matches(value, form) is fits


def test_an_error_is_one_line_that_no_terminal_obeys():
    assert str(UserError("classes a\nb, \x1b[2J, あ, \ud800, a\u202eb")) == r"classes a\nb, \x1b[2J, あ, \ud800, a\u202eb"
