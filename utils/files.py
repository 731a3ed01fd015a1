"""Files and faults: one-line errors, and files that are written whole or not at all; stdlib only.

    with atomic(path) as tmp:            # write to tmp; renamed to path when the block ends well
        image.save(tmp, format="PNG")
"""
import contextlib
import os
import unicodedata
from pathlib import Path

MAX_MESSAGE = 2000             # characters of an error


def one_line(text):
    """The text as one line that a terminal can show: line ends are spaces, control characters escaped, the middle of
    what is too long is left out. Names and messages of other programs may hold anything."""
    text = "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs") else c
                   for c in " ".join(str(text).strip().splitlines()))
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 2:]}"


class UserError(Exception):
    """A mistake of the user's or a broken file: one line that says what is wrong, which file, what to do."""

    def __init__(self, message):
        super().__init__(one_line(message))


def expand_home(path):
    """The Path with ~ as the user's own folder. Raises UserError for one that no system takes."""
    try:
        path = Path(path).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError) as e:   # no such user, a zero byte, a name too long
        raise UserError(f"cannot use the path {str(path)!r}: {getattr(e, 'strerror', None) or e}") from e
    return path


@contextlib.contextmanager
def atomic(path, sync=True):
    """Yield a temporary `Path` in the folder of `path`; flush it and rename it onto `path` when the block ends well.
    A missing folder is created. On any exception the temporary file is removed and `path` stays as it was, so that a
    full disk or a kill loses nothing that was saved before. `sync=False` leaves the flush to the system: for thousands
    of small files that can be written again. Raises UserError where the folder cannot be written."""
    path = Path(path)
    tmp = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp.touch(exist_ok=False)
        yield tmp
        if sync:
            with open(tmp, "rb") as f:
                os.fsync(f.fileno())
        os.replace(tmp, path)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; choose another folder") from e
    finally:
        with contextlib.suppress(OSError):           # it was renamed, or never made
            tmp.unlink()
