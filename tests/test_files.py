import os

import pytest

from utils.cli import Parser, run_command
from utils.files import UserError, atomic


def test_atomic_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as tmp:
        tmp.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic(path) as tmp:
        tmp.write_text("two")
        1 / 0
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_atomic_keeps_to_the_users_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic(tmp_path / "ours") as tmp:
        tmp.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"), atomic(tmp_path / "file" / "x"):
        pass


def fail_with(error):
    def main():
        raise error
    return main


@pytest.mark.parametrize("error, status, said", [
    (UserError("no such thing"), 2, "error: no such thing\n"),
    (OSError(28, os.strerror(28), "log"), 2, f"error: {os.strerror(28)}: log\n"),
    (KeyboardInterrupt(), 130, "\nstopped\n"),
])
def test_run_turns_errors_into_a_line_and_a_status(capsys, error, status, said):
    with pytest.raises(SystemExit) as end:
        run_command(fail_with(error))
    assert end.value.code == status and capsys.readouterr().err == said


def test_a_wrong_option_is_one_line():
    with pytest.raises(UserError, match="--help"):
        Parser("x").parse_args(["--unknown"])
