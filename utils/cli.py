"""The command line of every script: argparse with one-line errors, the types of its options, progress, exit status.

    Parser("Train one model on one data set.").add_argument("--epochs", type=number(int, above=0))
    run_command(main)                    # UserError -> "error: ..." on stderr, exit status 2
"""
import argparse
import math
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

from utils.files import UserError
from utils.limits import MAX_IMAGES

LONGEST = 1000                 # characters of what is said of an option, which may be quoted in it


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one to show."""
    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, as all others are."""
    def __init__(self, description):
        super().__init__(description=description, formatter_class=Help)

    def error(self, message):
        message = message if len(message) <= LONGEST else f"{message[:LONGEST // 2]} ... {message[-LONGEST // 2:]}"
        raise UserError(f"{message}; see {self.prog} --help")


def number(kind, above=-math.inf, at_least=-math.inf, below=math.inf, at_most=math.inf):
    """An argparse type: an int or a float (`kind`) within these bounds; never nan or infinite."""
    bounds = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    wanted = " and ".join(f"{word} {bound:,}" for word, bound in bounds.items() if math.isfinite(bound))

    def parse(text):
        value = kind(text)
        if not (above < value < below and at_least <= value <= at_most):  # false for nan and infinity, too
            raise argparse.ArgumentTypeError(f"{text} is not {wanted or 'finite'}")
        return value
    parse.__name__ = kind.__name__                 # argparse: "invalid int value"
    return parse


def non_empty_path(text):
    """An argparse type: a path as str. "", as an unset shell variable gives it, never means the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: name a file or folder")
    return text


def new_file(text):
    """An argparse type: a path to write a file to, as str: not empty, no folder."""
    if Path(non_empty_path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file")
    return text


def new_folder(text):
    """An argparse type: a folder to write to, as str, there or not yet: not empty, no file, nor in one."""
    path = Path(non_empty_path(text))
    if file := next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None):
        raise argparse.ArgumentTypeError(f"{file} is a file: name a folder")
    return text


def names_from(known):
    """An argparse type: names from `known` with commas between -> a list in the order of `known`."""
    def parse(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return [name for name in known if name in text.split(",")]
    return parse


def image_counts(text):
    """An argparse type: numbers of images, each once; "10,100,all" -> [10, 100, None]."""
    try:
        count = number(int, above=0, at_most=MAX_IMAGES)
        return list(dict.fromkeys(None if w == "all" else count(w) for w in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list such as 10,100,all") from None


def add_data_options(parser, center=True):
    """--data-dir, and with `center` --no-center: how every script finds its data set."""
    add = parser.add_argument
    add("--data-dir", type=non_empty_path, help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    if center:
        add("--no-center", action="store_true", help="keep the frame of your own images; else it is cropped, centred")


def add_device_option(parser):
    """--device, for choose_device()."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda if there is one")


def choose_device(name):
    """torch.device of "auto", "cpu" or "cuda". Raises UserError for cuda where there is none."""
    import torch  # here: scripts that need no device start without it
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this torch sees no GPU; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def default_folder(base, dataset):
    """Where the files of a data set go by default: `base` itself for mnist, else base/<name>."""
    return Path(base) / ("" if dataset == "mnist" else Path(dataset).stem)


def format_duration(seconds):
    """65 -> "1:05", 3665 -> "1:01:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


class Progress:
    """progress(text) writes a line; progress(text, done, total) one with the time left.
    On a terminal the latter is redrawn in place, elsewhere written every ten seconds and at the end; never before the
    work has lasted `delay` seconds. `total` 0 or None: unknown. The time left follows from the speed since the first
    call of a series; a new series begins with another total, or when `done` goes back."""
    live = None                                    # the one whose line is not ended yet

    def __init__(self, stream=None, prefix="", delay=0.0):
        self.stream, self.prefix, self.delay = stream or sys.stdout, prefix, delay
        self.tty = self.stream.isatty()
        self.every = 0.1 if self.tty else 10
        self.total, self.done, self.is_live = -1, 0, False

    def __call__(self, text, done=None, total=None):
        line, now, ended = f"{self.prefix}{text}", time.monotonic(), True
        if done is not None:
            if total != self.total or done < self.done:
                self.total, self.started, self.first, self.shown = total, now, done, -math.inf
            self.done, ended = done, bool(total) and done >= total
            if now - self.started < self.delay or not (ended or now - self.shown >= self.every):
                return
            self.shown = now
            line += f"  {done:,}/{total:,}" if total else f"  {done:,}"
            if total and self.first < done < total:
                line += f"  ETA {format_duration((now - self.started) / (done - self.first) * (total - done))}"
        self.is_live = self.tty and not ended
        Progress.live = self if self.is_live else None
        if self.is_live:                           # cut: what the terminal wraps cannot be redrawn
            line = line[:shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{line}" if self.tty else line, end="" if self.is_live else "\n", file=self.stream, flush=True)

    def close(self):
        """End a live line, so that what follows begins on a line of its own."""
        if self.is_live:
            print(file=self.stream, flush=True)
            Progress.live = None
        self.is_live = False


def run_command(main):
    """Call `main()`; turn a UserError into one line on stderr and exit status 2, and Ctrl-C into status 130. Warnings
    of packages are not shown, as they would come before that line and mean nothing to a user (python -W shows them)."""
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `... | head` closed the pipe: not an error, but Python would print one while exiting
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (UserError, OSError) as e:  # OSError: a full disk, a folder that vanished: a traceback would not help
        if Progress.live:
            Progress.live.close()
        file = getattr(e, "filename", None)
        message = UserError(f"{getattr(e, 'strerror', None) or e}{f': {file}' if file else ''}")
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
