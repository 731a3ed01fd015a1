"""Files and faults: one-line errors, and files that are written whole or not at all; stdlib only.

    with atomic(path) as tmp:            # write to tmp; renamed to path when the block ends well
        image.save(tmp, format="PNG")
"""
import contextlib
import os
from pathlib import Path


class UserError(Exception):
    """A mistake of the user's or a broken file: one line that says what is wrong, which file, what to do."""

    def __str__(self):
        """One line, whatever names from outside hold: line ends and what a terminal would obey are escaped."""
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in super().__str__())


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
