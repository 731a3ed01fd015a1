"""Files and faults: one-line errors, and files that are written whole or not at all; stdlib only.

    with atomic(path) as tmp:            # write to tmp; renamed to path when the block ends well
        image.save(tmp, format="PNG")
"""
import contextlib
import os
import tempfile
from pathlib import Path


class UserError(Exception):
    """A mistake of the user's or a broken file: one line that says what is wrong, which file, what to do."""


@contextlib.contextmanager
def atomic(path, sync=True):
    """Yield a temporary `Path` in the folder of `path`; flush it and rename it onto `path` when the block ends well.

    The folder is made if missing. On any exception the temporary file is removed and `path` stays as it was, so that
    a full disk or a kill loses nothing that was saved before. `sync=False` leaves the flush to the system: right for
    thousands of small files that can be made again. Raises UserError where the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; choose another folder") from e
    os.close(handle)
    tmp = Path(name)
    try:
        yield tmp
        if sync:
            with open(tmp, "rb") as f:
                os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        tmp.chmod(0o666 & ~umask)  # mkstemp makes 0600; the user's own default is wanted
        os.replace(tmp, path)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        tmp.unlink(missing_ok=True)
