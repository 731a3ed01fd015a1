"""The command line of every script: argparse with one-line errors, the types of its options, progress, exit status.

    parser = Parser("Train one model on one data set.")
    parser.add_argument("--epochs", type=number(int, above=0))
    add_data_options(parser)

    progress = Progress()
    progress("reading", 3, 10)           # reading  3/10  ETA 0:07

    if __name__ == "__main__":
        run_command(main)                # UserError -> "error: ..." on stderr, exit status 2
"""
import argparse
import math
import os
import shutil
import sys
import time
from pathlib import Path

from utils.files import UserError


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


# ---- options and their types -----------------------------------------------------------------------------------------

def number(kind, above=-math.inf, at_least=-math.inf, below=math.inf, at_most=math.inf):
    """An argparse type: an int or a float (`kind`) within these bounds; never nan or infinite."""
    bounds = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    said = " and ".join(f"{word} {bound:,}" for word, bound in bounds.items() if math.isfinite(bound))

    def parse(text):
        value = kind(text)
        if not (above < value < below and at_least <= value <= at_most and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text} is not {said or 'finite'}")
        return value
    parse.__name__ = kind.__name__                 # argparse: "invalid int value"
    return parse


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
    count = number(int, above=0)
    return list(dict.fromkeys(None if word == "all" else count(word) for word in text.split(",")))


def add_data_options(parser, center=True):
    """--data-dir, and with `center` --no-center: how every script finds its data set."""
    parser.add_argument("--data-dir", help="where named data sets lie (default: $GLYPHS_DATA, else data/)")
    if center:
        parser.add_argument("--no-center", action="store_true", help="keep the frame of your own images; otherwise "
                            "they are cropped and centred")


def add_device_option(parser):
    """--device, for choose_device()."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: cuda where there is one")


def choose_device(name):
    """torch.device of "auto", "cpu" or "cuda". Raises UserError for cuda where there is none."""
    import torch  # here: scripts that need no device start without it
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this torch sees no GPU; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def default_folder(base, dataset):
    """Where the files of a data set go by default: `base` itself for mnist, else base/<name>."""
    return Path(base) / ("" if dataset == "mnist" else Path(dataset).stem)


# ---- progress --------------------------------------------------------------------------------------------------------

def format_duration(seconds):
    """65 -> "1:05", 3665 -> "1:01:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Lines about long work: progress(text) writes a line of its own, progress(text, done, total) one with the time left.

    The latter is redrawn in place on a terminal; elsewhere it comes every `every` seconds and at the end. Nothing is
    shown of work that has not yet lasted `delay` seconds. `total` 0: unknown. The time left is guessed from the speed
    since the first call of a series; a new series begins with another total, or when `done` goes back.
    """

    def __init__(self, stream=None, prefix="", every=10.0, delay=0.0):
        self.stream, self.prefix, self.every, self.delay = stream or sys.stdout, prefix, every, delay
        self.tty, self.started = self.stream.isatty(), time.monotonic()
        self.total, self.done, self.shown, self.is_live = None, 0, -math.inf, False

    def __call__(self, text, done=None, total=None):
        text = f"{self.prefix}{text}"
        if done is None:
            self._write(f"{self._clear()}{text}\n")
            self.is_live = False
            return
        now = time.monotonic()
        if total != self.total or done < self.done:
            self.started, self.first, self.total, self.shown = now, done, total, -math.inf
        self.done = done
        finished = done == total
        if now - self.started < self.delay or not (self.tty or finished or now - self.shown >= self.every):
            return
        self.shown = now
        line = f"{text}  {done:,}" + (f"/{total:,}" if total else "")
        if total and self.first < done < total:
            line += f"  ETA {format_duration((now - self.started) / (done - self.first) * (total - done))}"
        if self.tty:
            line = line[:shutil.get_terminal_size().columns - 1]
        self.is_live = self.tty and not finished
        self._write(self._clear() + line + ("" if self.is_live else "\n"))

    def _clear(self):
        return "\r\033[K" if self.tty else ""

    def _write(self, text):
        print(text, end="", file=self.stream, flush=True)

    def close(self):
        """End a live line, so that what follows begins on a line of its own."""
        if self.is_live:
            self._write("\n")
            self.is_live = False


# ---- the frame of every command --------------------------------------------------------------------------------------

def run_command(main):
    """Call `main()`; turn a UserError into one line on stderr and exit status 2, and Ctrl-C into status 130."""
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
