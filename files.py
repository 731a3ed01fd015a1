"""Files and faults, shared by every script: atomic writes, one-line errors, the command line (stdlib only).

    with atomic(path) as tmp:            # write to tmp; renamed to path when the block ends well
        image.save(tmp, format="PNG")

    if __name__ == "__main__":
        run(main)                        # UserError -> "error: ..." on stderr, exit status 2
"""
import argparse
import contextlib
import os
import sys
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


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, as all others are."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=Help)

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")


# ---- argparse types --------------------------------------------------------------------------------------------------

def above_zero(text):
    """A whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def sizes(text):
    """Numbers of images, each once: "10,100,all" -> [10, 100, None]."""
    return list(dict.fromkeys(None if t == "all" else above_zero(t) for t in text.split(",")))


def some(known):
    """A type: names from `known` with commas between, as a list in the order of `known`."""
    def names(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return [name for name in known if name in text.split(",")]
    return names


# ---- the frame of every command --------------------------------------------------------------------------------------

def run(main):
    """Call `main()`, turn a UserError into one line on stderr and exit status 2, and Ctrl-C into status 130."""
    try:
        main()
        sys.stdout.flush()
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `... | head` closed the pipe: not an error, but Python would print one while exiting
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as e:     # a full disk, a folder that vanished: nothing that a traceback would help with
        print(f"error: {e.strerror or e}{f': {e.filename}' if e.filename else ''}", file=sys.stderr)
        sys.exit(2)
