"""Files and faults: one-line errors, files that are written whole or not at all, one writer at a time; stdlib only.

    with atomic(path) as tmp:            # write to tmp; renamed to path when the block ends well
        image.save(tmp, format="PNG")
    with exclusive(folder / "generator.lock"):           # a second process is refused with a line
        ...
"""
import contextlib
import hashlib
import os
import platform
import re
import time
from pathlib import Path

try:
    import fcntl
except ImportError:                      # Windows: files are written whole, but nothing is locked
    fcntl = None

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]     # in the name of a temporary file: where its writer is
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{4,}\.tmp")
ABANDONED = 3600                         # seconds after which a temporary file of another machine has no writer
cleaned = set()                          # folders that remove_stale has seen in this process


class UserError(Exception):
    """A mistake of the user's or a broken file: one line that says what is wrong, which file, what to do."""

    def __str__(self):
        """One line, whatever names from outside hold: line ends and what a terminal would obey are escaped."""
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in super().__str__())


@contextlib.contextmanager
def atomic(path, sync=True):
    """Yield a temporary `Path` in the folder of `path`; flush it and rename it onto `path` when the block ends well.
    A missing folder is created. On any exception the temporary file is removed and `path` stays as it was, so that a
    full disk or a kill loses nothing that was saved before; what a kill leaves is removed by the next process that
    writes into the folder. `sync=False` leaves the flush to the system: for thousands of small files that can be
    written again. Raises UserError where the folder cannot be written."""
    path = Path(path)
    tmp = descriptor = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        tmp, descriptor = make_temporary(path)
        if fcntl is None:
            os.close(descriptor)         # Windows renames no open file
            descriptor = None
        yield tmp
        if sync:
            with open(tmp, "rb") as f:
                os.fsync(f.fileno())
        os.replace(tmp, path)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; choose another folder") from e
    finally:
        if tmp:
            with contextlib.suppress(OSError):           # it was renamed
                tmp.unlink()
        if descriptor is not None:
            os.close(descriptor)


def make_temporary(path):
    """Create a temporary file beside `path` and lock it: (its Path, its descriptor). Raises OSError."""
    while True:
        tmp = path.parent / f".{path.name}.{HOST}{os.urandom(4).hex()}.tmp"
        descriptor = os.open(tmp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if lock(descriptor) is not False and tmp.exists():
            return tmp, descriptor
        os.close(descriptor)             # between both calls another process has taken it for that of a dead writer


@contextlib.contextmanager
def exclusive(path, shared=False):
    """Hold the lock file `path` as long as the block lasts; its folder is created, the file removed at the end. Yields a
    function that says whether no other process holds it. `shared`: several may hold it, beside none that does so alone;
    the function then tries whether the others have ended, and holds it alone from then on.

    The system takes the lock back when its holder dies, however that happens, so that what a kill leaves never
    blocks: a process id that was given away anew means nothing, nor does the clock. The file says who holds it.
    Raises UserError where another process does, on this machine or, where the network folder passes locks on, on
    another, and where the folder cannot be written. File systems without locks refuse nobody."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if lock(descriptor, shared) is False:
                holder = re.sub(r"[^\w .-]", "", os.read(descriptor, 200).decode("ascii", "replace"))
                os.close(descriptor)
                raise UserError(f"{path.with_suffix('')}.* is being written by {holder or 'another process'}: wait until "
                                "that has ended, or choose another --out")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
            os.close(descriptor)                     # its last holder has removed it in between: once more
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; choose another folder") from e

    def is_alone():
        if lock(descriptor) is True:
            return True
        lock(descriptor, shared=True)                # a refused attempt loses what was held
        return False
    try:
        yield is_alone
    finally:
        with contextlib.suppress(OSError):
            if not shared or lock(descriptor) is not False:
                path.unlink()
        os.close(descriptor)


def lock(descriptor, shared=False):
    """Lock an open file until it is closed or this process dies. -> True; False where another process holds it; None
    where there are no locks, as on some network file systems."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_stale(folder):
    """Remove the temporary files of dead writers from a folder, once in a process: those of this machine that nobody
    has locked, and those of others that have not been touched for an hour."""
    folder = os.path.abspath(folder)
    if folder in cleaned:
        return
    cleaned.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    remove_if_stale(entry)


def remove_if_stale(entry):
    """The same for one temporary file, an os.DirEntry. Raises OSError where it cannot be opened or removed."""
    is_ours = entry.name.split(".")[-2].startswith(HOST)
    is_abandoned = time.time() - entry.stat().st_mtime > ABANDONED
    if is_ours or is_abandoned:
        descriptor = os.open(entry.path, os.O_RDWR)
        try:
            locked = lock(descriptor)
            if locked or locked is None and is_abandoned:
                os.unlink(entry.path)
        finally:
            os.close(descriptor)
