"""checked_json.py: JSON that is not trusted."""
import json

import pytest

from utils.checked_json import is_plain, matches, parse_json, read_json
from utils.files import UserError


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
