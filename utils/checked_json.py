"""JSON and what else comes from outside, made sure of its form before it is used; stdlib only.

    record = read_json("generator.json", {"dataset": str, "plans": [[int]]})
"""
import json
import math
from pathlib import Path

from utils.files import UserError

MAX_JSON = 256 << 20       # bytes of a file
MAX_VALUES = 1_000_000         # on one level of it
MAX_DEPTH = 32             # of lists and dicts in each other; what is written here has 7 levels


def parse_json(text, what, form=object):
    """The value of JSON text, str or bytes, of this form (see matches). `what` names it in the UserError that is raised
    for what is no JSON, is nested too deep, holds text that is no Unicode, or has another form."""
    try:
        value = json.loads(text)
        if is_plain(value) and matches(value, form):
            return value
        reason = "of another form than it should be"
    except (ValueError, RecursionError) as e:
        reason = "no JSON" if isinstance(e, ValueError) else "nested too deep"
    raise UserError(f"{what} is {reason}: damaged, or not of this program")


def read_json(path, form=object):
    """parse_json of a file."""
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_JSON:
        raise UserError(f"{path} has more than {MAX_JSON >> 20} MB, which no file of this program has")
    return parse_json(path.read_bytes(), path, form)


def is_plain(value, is_leaf=lambda value: False):
    """Whether a value is made of JSON types, no deeper than MAX_DEPTH, its texts all Unicode; and of what else
    `is_leaf` finds right."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for v in level:
            if isinstance(v, str):
                if not is_text(v):
                    return False
            elif isinstance(v, dict):
                below += [*v, *v.values()]
            elif isinstance(v, (list, tuple)):
                below += v
            elif not (v is None or isinstance(v, (bool, float)) or is_leaf(v) or type(v) is int and abs(v) < 1 << 64):
                return False
        level = below
        if not level or len(level) > MAX_VALUES:
            return not level
    return False


def matches(value, form):
    """Whether a value of JSON types has this form: a type (float: any finite number), None, a number or a text that it
    must equal, [form] for a list of such, a dict of forms by key ("key?": may be missing; more keys may be there),
    {str: form} for a dict of any keys, a function that tells, or a tuple of forms, of which one will do."""
    if isinstance(form, tuple):
        return any(matches(value, f) for f in form)
    if isinstance(form, list):
        return isinstance(value, (list, tuple)) and all(matches(v, form[0]) for v in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(isinstance(k, str) and matches(v, form[str]) for k, v in value.items())
        return all(matches(value[k.rstrip("?")], f) if k.rstrip("?") in value else k.endswith("?")
                   for k, f in form.items())
    if form is float:
        return type(value) in (int, float) and math.isfinite(value)
    if form in (int, bool):
        return type(value) is form
    if form is None or isinstance(form, (int, str)):
        return type(value) is type(form) and value == form
    return isinstance(value, form) if isinstance(form, type) else bool(form(value))


def is_text(value):
    """Whether a str can be written as UTF-8: without halves of surrogate pairs."""
    return value == value.encode("utf-8", "replace").decode()


def is_share(value):
    """Whether JSON is a number from 0 to 1."""
    return matches(value, float) and 0 <= value <= 1


def is_duration(value):
    """Whether JSON is a number of seconds: finite, not negative."""
    return matches(value, float) and value >= 0


def is_name_list(value):
    """Whether JSON is a list of names of classes, at least one."""
    return matches(value, [str]) and 0 < len(value) and all(0 < len(name) <= 1000 for name in value)
