"""The command line of every script: argparse with one-line errors, the types of its options, progress, exit status.

    Parser("Train one model on one data set.").add_argument("--epochs", type=number(int, above=0))
    run_command(main)                    # UserError -> "error: ..." on stderr, exit status 2
"""
import argparse
import contextlib
import io
import math
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import deque
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


def new_file(ending):
    """An argparse type: a path to write a file with this ending to, as str: not empty, no folder."""
    def checked(text):
        path = Path(non_empty_path(text))
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder: name a file")
        if path.suffix.lower() != ending:
            raise argparse.ArgumentTypeError(f"{text}: what is written there is called *{ending}")
        return text
    return checked


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


class UseFont(argparse.Action):
    """--font FILE takes effect at once, and is no setting of a run."""

    def __call__(self, parser, namespace, value, option=None):
        from utils.figures import use_font  # here: most commands need no Pillow to start
        use_font(value)


def add_font_option(parser):
    """--font, for scripts that draw sheets."""
    parser.add_argument("--font", action=UseFont, type=non_empty_path, metavar="FILE", default=argparse.SUPPRESS,
                        help="a .ttf, .otf or .ttc that has the characters of the classes, for headings (default: the first "
                        "on this machine that has; else headings are numbers)")


def choose_device(name):
    """torch.device of "auto", "cpu" or "cuda". Raises UserError for cuda where there is none."""
    import torch  # here: scripts that need no device start without it
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this torch sees no GPU; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def default_folder(base, dataset):
    """Where the files of a data set go by default: `base` itself for mnist, else base/<name>, as data.load names it."""
    path = Path(dataset).resolve()
    return Path(base) / ("" if dataset == "mnist" else path.stem if path.suffix.lower() in (".npz", ".csv") else path.name)


def format_duration(seconds):
    """65 -> "1:05", 3665 -> "1:01:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


class Progress:
    """progress(text) writes a line; progress(text, done, total) one with the time left.
    On a terminal the latter is redrawn in place, elsewhere written every ten seconds and at the end; never before the
    work has lasted `delay` seconds. `total` 0 or None: unknown. The time left follows from the speed of the last
    RECENT seconds; a new series begins with another total, or when `done` goes back."""
    RECENT = 60
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
                self.total, self.started, self.shown, self.past = total, now, -math.inf, deque()
            self.past.append((now, done))
            while self.past[0][0] < now - self.RECENT and len(self.past) > 2:
                self.past.popleft()
            self.done, ended = done, bool(total) and done >= total
            if now - self.started < self.delay or not (ended or now - self.shown >= self.every):
                return
            self.shown = now
            line += f"  {done:,}/{total:,}" if total else f"  {done:,}"
            since, first = self.past[0]
            if total and first < done < total:
                line += f"  ETA {format_duration((now - since) / (done - first) * (total - done))}"
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


# ---- the frame of every command ------------------------------------------------------------------

class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill`, a shutdown or a batch system sends it: everything is put in order as after Ctrl-C."""


def run_command(main):
    """Call `main()`; turn a UserError into one line on stderr and exit status 2, Ctrl-C into 130, SIGTERM into 143.
    Warnings of packages are not shown, as they would come before that line and mean nothing to a user (python -W shows
    them); names of classes that the terminal's encoding does not have are escaped."""
    if sys.stderr is None:             # closed, `2>&-`: print(file=None) would write to stdout
        sys.stderr = io.StringIO()
    if sys.stdout is None:             # closed, `>&-`: the next file that is opened would be taken for it
        print("error: the standard output is closed: send it to a file, or to /dev/null", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    before = set_handlers(signal.default_int_handler, raise_terminated)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            main()
        sys.stdout.flush()
    except KeyboardInterrupt as e:
        print("\nstopped", file=sys.stderr)
        sys.exit(143 if isinstance(e, Terminated) else 130)
    except BrokenPipeError:  # `... | head` closed the pipe: not an error, but Python would print one while exiting
        discard_output()
        sys.exit(141)
    except (UserError, OSError) as e:  # OSError: a full disk, a folder that vanished: a traceback would not help
        if Progress.live:
            Progress.live.close()
        file = getattr(e, "filename", None)
        message = UserError(f"{getattr(e, 'strerror', None) or e}{f': {file}' if file else ''}")
        print(f"error: {message}", file=sys.stderr)
        if isinstance(e, OSError):
            discard_output()
        sys.exit(2)
    finally:
        set_handlers(*before)


def discard_output():
    """What the standard output could not take is not written again as Python exits, which would print a traceback."""
    with contextlib.suppress(OSError, ValueError):      # one of a test has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def set_handlers(interrupt, terminate):
    """Set what happens at Ctrl-C and at SIGTERM -> what happened before. A signal that whoever started us has ignored
    (a script's background job) stays ignored."""
    before = tuple(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
    if threading.current_thread() is threading.main_thread():        # Python lets no other thread set them
        for number, handler, old in zip((signal.SIGINT, signal.SIGTERM), (interrupt, terminate), before):
            if old != signal.SIG_IGN:
                signal.signal(number, handler)
    return before


def raise_terminated(number, frame):
    raise Terminated


def stop_quietly():
    """Until run_command() takes over there is nothing to put in order: Ctrl-C and SIGTERM end the process at once, with
    one line in place of a traceback. Commands call this before they import what takes seconds."""
    def stop(number, frame):
        os.write(2, b"\nstopped\n")
        os._exit(128 + number)
    set_handlers(stop, stop)
