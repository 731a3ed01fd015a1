"""files.py: files that are written whole or not at all, what dead writers leave, one writer at a time."""
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from utils import files
from utils.files import HOST, UserError, atomic, exclusive


@pytest.fixture
def other_process():
    """Start a process that holds something: a block that is entered, then waits; its end is up to the test."""
    started = []

    def hold(block):
        code = f"import time; from utils.files import atomic, exclusive\nwith {block}:\n print('in', flush=True); time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "in\n"
        return started[-1]
    yield hold
    for process in started:
        process.kill()
        process.communicate()


def backdate(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def write_anew(path):
    """As the next process would write it: in this one the folder has been looked through already."""
    files.cleaned.clear()
    with atomic(path) as tmp:
        tmp.write_text("x")


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


# ---- what dead writers leave ---------------------------------------------------------------------

def test_the_temporary_file_of_a_dead_writer_goes_and_that_of_a_living_one_stays(tmp_path, other_process):
    dead, living = (other_process(f"atomic({str(tmp_path / name)!r})") for name in ("dead.pth", "living.pth"))
    dead.kill()
    dead.wait()
    left = sorted(tmp_path.iterdir())
    assert [path.name.rsplit(".", 2)[0] for path in left] == [".dead.pth", ".living.pth"]
    for path in left:
        backdate(path, 2 * files.ABANDONED)
    write_anew(tmp_path / "next.txt")
    assert sorted(tmp_path.iterdir()) == [left[1], tmp_path / "next.txt"]
    assert living.poll() is None


@pytest.mark.parametrize("name, age, stays", [
    (f".a.pth.{HOST}01234567.tmp", 0, False),
    (".a.pth.deadbeef.tmp", 10, True), (".a.pth.deadbeef.tmp", 7200, False),                 # of another machine
    (".a.pth.tmp", 7200, True), ("a.pth.deadbeef.tmp", 7200, True), (".a.pth.backup1.tmp", 7200, True),    # not ours
])
def test_which_temporary_files_go(tmp_path, name, age, stays):
    (tmp_path / name).write_text("")
    backdate(tmp_path / name, age)
    write_anew(tmp_path / "next.txt")
    assert (tmp_path / name).exists() == stays


def test_a_file_that_is_taken_for_stale_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    taken, lock = [], files.lock

    def lock_late(descriptor):
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return lock(descriptor)
    monkeypatch.setattr(files, "lock", lock_late)
    with atomic(tmp_path / "a") as tmp:
        tmp.write_text("x")
    assert len(taken) == 1 and [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "x"


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    looked, scandir = [], os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda folder: looked.append(folder) or scandir(folder))
    for i in range(3):
        with atomic(tmp_path / f"{i}") as tmp:
            tmp.write_text("")
    assert looked == [str(tmp_path)]


# ---- one writer at a time ------------------------------------------------------------------------

def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path, other_process):
    path = tmp_path / "new" / "generator.lock"
    holder = other_process(f"exclusive({str(path)!r})")
    with pytest.raises(UserError, match=f"generator.* process {holder.pid} on .*--out") as error, exclusive(path):
        pass
    assert "\n" not in str(error.value)
    with exclusive(path.with_name("classifier.lock")):
        pass
    holder.kill()                                          # however a holder dies, it blocks nobody
    holder.wait()
    assert path.is_file()
    with exclusive(path):
        assert str(os.getpid()) in path.read_text()
    assert not list(path.parent.iterdir())


def test_a_shared_lock_is_shared_and_the_last_one_is_alone(tmp_path, other_process):
    path = tmp_path / "a.lock"
    holder = other_process(f"exclusive({str(path)!r}, shared=True)")
    with exclusive(path, shared=True) as is_alone:
        assert not is_alone()
        with pytest.raises(UserError, match="being written"), exclusive(path):
            pass
        with exclusive(path, shared=True):
            pass
        holder.kill()
        holder.wait()
        assert is_alone()
        with pytest.raises(UserError, match="being written"), exclusive(path, shared=True):
            pass
    assert not list(tmp_path.iterdir())


def test_who_asks_whether_he_is_alone_keeps_his_share(tmp_path):
    with exclusive(tmp_path / "a.lock", shared=True) as one, exclusive(tmp_path / "a.lock", shared=True) as other:
        assert not one() and not other()


def test_a_lock_file_means_nothing_without_its_lock(tmp_path):
    """Its text may name a process id that another program has by now."""
    path = tmp_path / "a.lock"
    path.write_text(f"process {os.getppid()} on elsewhere\n" * 50)
    with exclusive(path):
        assert path.read_text().startswith(f"process {os.getpid()} on ") and "\n" not in path.read_text()
        with pytest.raises(UserError, match=f"process {os.getpid()} "), exclusive(path):
            pass
    assert not path.exists()


def test_a_lock_goes_with_its_block_however_that_ends(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "a.lock"):
            raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_refuses_nobody_and_a_place_without_files_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write.*a.lock"), exclusive(tmp_path / "file" / "a.lock"):
        pass

    def no_locks(*arguments):
        raise OSError(95, "Operation not supported")
    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with exclusive(tmp_path / "a.lock"), exclusive(tmp_path / "a.lock"):
        pass
    monkeypatch.setattr(files, "fcntl", None)
    with exclusive(tmp_path / "a.lock"), atomic(tmp_path / "a") as tmp:
        tmp.write_text("x")
    assert (tmp_path / "a").read_text() == "x" and {p.name for p in tmp_path.iterdir()} == {"file", "a"}


def test_an_error_is_one_line_that_no_terminal_obeys():
    assert str(UserError("classes a\nb, \x1b[2J, あ, \ud800, a\u202eb")) == r"classes a\nb, \x1b[2J, あ, \ud800, a\u202eb"
