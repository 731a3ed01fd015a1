"""cli.py: option types, progress on a terminal and in a log, durations, errors as one line and a status."""
import io
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from conftest import ENVIRONMENT, ROOT, assert_one_line_error

from utils import cli
from utils.cli import Parser, Progress, format_duration, image_counts, names_from, non_empty_path, number, run_command
from utils.files import UserError


def parse(option_type, text):
    parser = Parser("x")
    parser.add_argument("--option", type=option_type)
    return parser.parse_args(["--option", text]).option


# ---- options -------------------------------------------------------------------------------------

@pytest.mark.parametrize("option_type, text, value", [
    (number(int, at_least=1), "1", 1), (number(float, above=0, at_most=1), "1", 1.0), (number(float), "1e-5", 1e-5),
    (number(int, below=2 ** 64), str(2 ** 64 - 1), 2 ** 64 - 1), (number(int), "9" * 400, int("9" * 400)),
    (non_empty_path, "a b/c", "a b/c"), (names_from(["a", "b", "c"]), "c,a,c", ["a", "c"]),
    (image_counts, "100,10,all,10", [100, 10, None]),
])
def test_types_give_values(option_type, text, value):
    assert parse(option_type, text) == value


@pytest.mark.parametrize("option_type, text, said", [
    (number(int, at_least=1), "0", "--option: 0 is not at least 1"), (number(int), "1.5", "invalid int value"),
    (number(float, above=0, below=1), "1", "1 is not above 0 and below 1"), (number(float), "nan", "nan is not finite"),
    (number(float, above=0), "inf", "inf is not above 0"), (number(float), "x", "invalid float value"),
    (non_empty_path, "", "--option.*empty"), (non_empty_path, "  ", "empty"),
    (names_from(["a", "b"]), "a,x", "'x' is none of a, b"), (names_from(["a", "b"]), "", "'' is none of"),
    (image_counts, "10,,x", "10,100,all"), (image_counts, "10,0", "above 0"),
])
def test_types_refuse_with_one_line_that_names_the_option_and_the_help(option_type, text, said):
    with pytest.raises(UserError, match=said) as error:
        parse(option_type, text)
    assert "--help" in str(error.value) and "\n" not in str(error.value)


def test_places_to_write_to(tmp_path):
    (tmp_path / "file").touch()
    for kind, good, bad in ((cli.new_file(""), ["file", "new", "no/such/file"], [".", ""]),
                            (cli.new_file(".png"), ["a.png", "a.b.PNG"], ["a.npz", "a", "png", ""]),
                            (cli.new_folder, [".", "new", "no/such"], ["file", "file/below", ""])):
        for name in good:
            assert parse(kind, str(tmp_path / name)) == str(tmp_path / name)
        for name in bad:
            with pytest.raises(UserError, match="is a (file|folder): name a|is empty|called .*png"):
                parse(kind, str(tmp_path / name) if name else "")


def test_a_very_long_value_is_not_quoted_in_full():
    with pytest.raises(UserError) as error:
        parse(number(int), "9" * 100_000)
    assert len(str(error.value)) < 1100 and "--option" in str(error.value) and "--help" in str(error.value)


def test_an_unknown_option_is_one_line():
    with pytest.raises(UserError, match="--unknown.*--help"):
        Parser("x").parse_args(["--unknown"])


def test_help_shows_defaults_where_there_are_any(capsys):
    parser = Parser("x")
    parser.add_argument("--epochs", default=7, help="how many")
    cli.add_data_options(parser)
    cli.add_device_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    assert "(default: 7)" in text and "(default: auto)" in text and "None" not in text and "False" not in text
    assert parser.parse_args(["--data-dir", "x", "--no-center"]).no_center
    with pytest.raises(UserError, match="--data-dir"):
        parser.parse_args(["--data-dir", ""])


def test_default_folders(tmp_path, monkeypatch):
    assert str(cli.default_folder("results", "mnist")) == "results"
    assert cli.default_folder("results", "k49") == cli.default_folder("results", "/elsewhere/k49.npz")
    assert cli.default_folder("results", "k49").name == "k49"
    for name in ("scans.2024", "scans.2025"):
        assert cli.default_folder("results", f"some/{name}/").name == name
    monkeypatch.chdir(tmp_path)
    assert cli.default_folder("results", ".").name == tmp_path.name


# ---- progress ------------------------------------------------------------------------------------

class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, tty):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: clock[0] is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    return now


def run(progress, clock, seconds=40, total=40):
    for done in range(total + 1):
        progress("work", done, total)
        clock[0] += seconds / total


def test_durations():
    assert [format_duration(s) for s in (0, 0.4, 65, 59.6, 3599.4, 3665, 36000)] == [
        "0:00", "0:00", "1:05", "1:00", "59:59", "1:01:05", "10:00:00"]


def test_a_log_gets_a_line_every_ten_seconds_and_at_the_end(clock):
    screen = Screen(tty=False)
    progress = Progress(screen, prefix="1/2 ")
    progress("begins")
    run(progress, clock)
    progress.close()
    assert screen.getvalue().splitlines() == [
        "1/2 begins", "1/2 work  0/40", "1/2 work  10/40  ETA 0:30", "1/2 work  20/40  ETA 0:20",
        "1/2 work  30/40  ETA 0:10", "1/2 work  40/40"]


def test_a_terminal_shows_one_line_that_is_redrawn_and_ended(clock):
    screen = Screen(tty=True)
    progress = Progress(screen)
    run(progress, clock)
    progress("done")
    text = screen.getvalue()
    assert text.count("\n") == 2 and text.endswith("work  40/40\n\r\033[Kdone\n")
    assert "\r\033[Kwork  20/40  ETA 0:20\r" in text
    run(progress, clock, seconds=0.5, total=1000)                  # not redrawn a thousand times
    assert screen.getvalue().count("/1,000") < 10


def test_text_and_close_end_a_live_line(clock, monkeypatch):
    monkeypatch.setattr(cli.shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((20, 24)))
    screen = Screen(tty=True)
    progress = Progress(screen)
    progress("a text that is wider than the terminal", 1, 5)
    assert len(screen.getvalue().removeprefix("\r\033[K")) == 19
    progress.close()
    progress.close()
    assert screen.getvalue().endswith("\n") and screen.getvalue().count("\n") == 1


def test_short_work_is_not_shown_and_unknown_totals_have_no_time_left(clock):
    screen = Screen(tty=False)
    run(Progress(screen, delay=2), clock, seconds=1)
    assert screen.getvalue() == ""
    progress = Progress(screen)
    for done in (0, 1000):
        progress("loading", done, 0)
        clock[0] += 11
    assert screen.getvalue().splitlines() == ["loading  0", "loading  1,000"]


def test_a_new_series_has_its_own_speed(clock):
    screen = Screen(tty=False)
    progress = Progress(screen)
    run(progress, clock, seconds=1000, total=10)
    screen.truncate(0)
    progress("resumed", 50, 100)
    clock[0] += 10
    progress("resumed", 60, 100)
    assert screen.getvalue().endswith("resumed  60/100  ETA 0:40\n")


# ---- the frame of every command ------------------------------------------------------------------

def fail_with(error):
    def main():
        raise error
    return main


@pytest.mark.parametrize("error, status, said", [
    (UserError("no such thing"), 2, "error: no such thing\n"),
    (OSError(28, os.strerror(28), "log"), 2, f"error: {os.strerror(28)}: log\n"), (OSError("odd"), 2, "error: odd\n"),
    (KeyboardInterrupt(), 130, "\nstopped\n"), (cli.Terminated(), 143, "\nstopped\n"),
])
def test_errors_become_a_line_and_a_status(capsys, error, status, said):
    with pytest.raises(SystemExit) as end:
        run_command(fail_with(error))
    assert end.value.code == status and capsys.readouterr().err == said


def test_an_error_comes_on_a_line_of_its_own_and_alone(monkeypatch, recwarn):
    screen = Screen(tty=True)
    monkeypatch.setattr(cli.sys, "stderr", screen)
    monkeypatch.setattr(cli.sys, "warnoptions", [])

    def main():
        warnings.warn("of a package", UserWarning, stacklevel=1)
        Progress(screen)("reading", 1, 5)
        raise UserError("a class \x1b[2J\nof two lines")
    with pytest.raises(SystemExit):
        run_command(main)
    assert screen.getvalue() == "\r\033[Kreading  1/5\nerror: a class \\x1b[2J\\nof two lines\n"
    assert Progress.live is None and not recwarn.list


def shell(line, **env):
    """A line of a shell in the repository, with $PYTHON: the finished process."""
    return subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**ENVIRONMENT, "PYTHON": sys.executable, **env})


def test_a_closed_or_full_output_is_one_line():
    done = shell("$PYTHON data.py strokes >&-")
    assert_one_line_error(done, "output is closed")
    done = shell("$PYTHON data.py nothing 2>&-")
    assert done.returncode == 2 and done.stdout == "" and done.stderr == ""
    if os.path.exists("/dev/full"):
        code = "from utils.cli import run_command; run_command(lambda: print('a result'))"
        assert_one_line_error(shell(f'$PYTHON -c "{code}" > /dev/full'), "No space left")


def test_names_that_the_terminal_does_not_have_are_escaped():
    for name, value in (("PYTHONIOENCODING", "ascii"), ("PYTHONIOENCODING", "latin-1:strict")):
        assert_one_line_error(shell("$PYTHON data.py あ.npz", **{name: value}), r"\u3042.npz")
        code = "from utils.cli import run_command; run_command(lambda: print('あ'))"
        assert shell(f'$PYTHON -c "{code}"', **{name: value}).stdout == "\\u3042\n"


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_the_time_left_follows_the_speed_of_the_last_minute(clock):
    screen = Screen(tty=False)
    progress = Progress(screen)
    for done in range(0, 600, 10):                   # 10 a second for a minute ...
        progress("work", done, 10_000)
        clock[0] += 1
    for done in range(600, 720):                     # ... then one
        progress("work", done, 10_000)
        clock[0] += 1
    assert abs(9280 - eta_seconds(screen.getvalue())) < 0.05 * 9280


def eta_seconds(text):
    """Seconds of the last "ETA 2:34:56" in a text."""
    parts = [int(part) for part in text.rsplit("ETA ", 1)[1].split()[0].split(":")]
    return sum(part * 60 ** i for i, part in enumerate(reversed(parts)))


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_unwind_what_is_open_and_handlers_are_put_back(capsys, number, status):
    before, closed = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], []

    def main():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)                                  # Python runs the handler here at the latest
        finally:
            closed.append(1)
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == status and closed and capsys.readouterr().err == "\nstopped\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_ignored_signal_stays_ignored(monkeypatch):
    """As a shell ignores Ctrl-C for what a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_command(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py") if path.name != "models.py"))
def test_ctrl_c_during_the_imports_is_one_line(tmp_path, script):
    """A stand-in for numpy, which all import before anything else, takes a minute."""
    (tmp_path / "numpy.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    number = signal.SIGTERM if script == "train.py" else signal.SIGINT
    process = subprocess.Popen([sys.executable, str(ROOT / script), "--help"], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)})
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert error == "\nstopped\n" and process.returncode == 128 + number
