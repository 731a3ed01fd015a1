"""files.py: files that are written whole or not at all."""
import pytest

from utils.files import UserError, atomic


def test_atomic_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as tmp:
        tmp.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic(path) as tmp:
        tmp.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_atomic_keeps_to_the_users_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic(tmp_path / "ours", sync=False) as tmp:
        tmp.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    with atomic(tmp_path / "a") as first, atomic(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(UserError, match="cannot write"), atomic(path) as tmp:
            tmp.write_text("")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and not list(tmp_path.parent.glob(".*.tmp"))
