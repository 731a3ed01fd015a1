"""Jobs in several processes: the rows of one process, each job once, and an end whatever is killed. No torch here."""
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

from study import claims, jobs
from study.claims import Claims
from study.jobs import RowStudy, is_not_alone, run
from study.run_cache import RunCache
from utils.files import HOST, UserError


@dataclass
class Place:
    """What run() looks at of a Context."""
    out: Path
    jobs: int = 0
    say: Callable = print
    is_alone: Callable = is_not_alone


class Squares(RowStudy):
    """A job is (n,). The even ones build on all odd ones; what is begun is written down."""

    def __init__(self, context, seconds=0.0, fault=""):
        super().__init__(context, RunCache(context.out / "squares.jsonl", {"square": int}), seconds=seconds, fault=fault)
        self.seconds, self.fault = seconds, fault

    def begin(self):
        pass

    def key(self, n):
        return {"n": n}

    def is_ready(self, n):
        return n % 2 or all(self.cache.get(self.key(k)) for k in (1, 3, 5))

    def run_one(self, n):
        with open(self.context.out / "begun", "a") as f:
            f.write(f"{n} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")
        if n == 3 and (self.fault == "always" or self.fault == "once" and len(begun(self.context.out, 3)) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if n == 3 and self.fault == "error":
            raise UserError("three is broken: take another number")
        time.sleep(self.seconds)
        return self.cache.add(self.key(n), {"square": n * n})


ALL = [(n,) for n in range(8)]


def begun(out, n=None):
    """What was begun: [(n, process id)]"""
    rows = [tuple(map(int, line.split()[:2])) for line in (out / "begun").read_text().splitlines()]
    return [row for row in rows if n in (None, row[0])]


def is_running(process_id):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, 0)
        return f"{process_id} (" in (text := Path(f"/proc/{process_id}/stat").read_text()) and ") Z" not in text
    return False


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(jobs, "POLL", 0.05)


def test_rows_are_those_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    said, (one, three) = [], (tmp_path / name for name in ("one", "three"))
    one.mkdir()
    three.mkdir()
    rows = run(Squares(Place(one)), ALL)
    assert rows == [{"n": n, "square": n * n} for n in range(8)]
    assert run(Squares(Place(three, 3, lambda *words: said.append(words))), ALL) == rows
    assert sorted(n for n, _ in begun(three)) == list(range(8))              # each once
    lines = (three / "begun").read_text().splitlines()
    assert all(line.endswith(" 1") for line in lines) and os.environ["OMP_NUM_THREADS"] == "7"
    assert {int(line.split()[0]) for line in lines[:4]} >= {1, 3, 5}         # before those that build on them
    assert said[-1][1:] == (8, 8)
    assert not (three / "squares.jsonl").exists()                            # others may be at it, too ...
    assert run(Squares(Place(three, 3)), ALL) == rows and len(begun(three)) == 8
    assert run(Squares(Place(three, is_alone=lambda: True)), ALL) == rows    # ... now nobody is
    assert sorted(path.name for path in three.iterdir()) == ["begun", "squares.jsonl"]
    assert run(Squares(Place(three)), ALL) == rows and len(begun(three)) == 8


def test_two_commands_share_a_folder(tmp_path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(run(Squares(Place(tmp_path, 1), seconds=0.1), ALL)))
               for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] and len(results[0]) == 8
    assert sorted(n for n, _ in begun(tmp_path)) == list(range(8)) and len({p for _, p in begun(tmp_path)}) == 2


def test_the_job_of_a_killed_worker_is_done_by_another(tmp_path):
    rows = run(Squares(Place(tmp_path, 2, is_alone=lambda: True), fault="once"), ALL)
    assert [row["square"] for row in rows] == [n * n for n in range(8)]
    assert sorted(n for n, _ in begun(tmp_path)) == sorted([*range(8), 3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "squares.jsonl"]


@pytest.mark.parametrize("fault, says", [("always", "workers were killed.*fewer --jobs"), ("error", "three is broken")])
def test_faults_end_all(tmp_path, monkeypatch, fault, says):
    monkeypatch.setattr(jobs, "MOST_DEATHS", 1)
    run(Squares(Place(tmp_path, 1)), ALL[1:2])           # the fault may come before any other job is done
    with pytest.raises(UserError, match=says):
        run(Squares(Place(tmp_path, 2), seconds=0.1, fault=fault), ALL)
    assert not any(is_running(process_id) for _, process_id in begun(tmp_path))
    kept = len(list((tmp_path / "squares.jobs").glob("*.json")))
    assert kept == len(RunCache(tmp_path / "squares.jsonl").index) >= 1
    assert len(run(Squares(Place(tmp_path, 1)), ALL)) == 8                   # and goes on from there


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_however_the_command_ends_its_workers_do(tmp_path, number, status):
    code = ("import sys; sys.path[:0] = ['tests']; from pathlib import Path; import test_jobs as t;"
            f"from utils.cli import run_command; place = t.Place(Path({str(tmp_path)!r}), 2);"
            "run_command(lambda: t.run(t.Squares(place, seconds=600), t.ALL))")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() or len(begun(tmp_path)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)                                       # as a terminal does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and said.strip() == ("" if status < 0 else "stopped")
    while any(is_running(process_id) for _, process_id in begun(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((tmp_path / "squares.jobs").iterdir())                   # claims are given back


# ---- claims --------------------------------------------------------------------------------------

def test_a_job_belongs_to_one(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a") and not second.take("a") and second.take("b")
        assert first.others() == {"b"} and second.others() == {"a"}
        first.release("a")
        assert second.others() == set() and second.take("a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host, silent, lives", [
    (HOST, 0, False), (HOST, 10 * claims.SILENT, False),                     # of this machine: nobody holds its lock
    ("zzzz", 0, True), ("zzzz", 10 * claims.SILENT, False)])                 # of another: its clock alone tells
def test_claims_of_the_dead(tmp_path, host, silent, lives):
    (worker := tmp_path / f"{host}0123.worker").write_text(worker.stem)
    os.link(worker, tmp_path / "a.claim")
    os.utime(worker, (time.time() - silent,) * 2)
    with Claims(tmp_path) as own:
        assert own.take("a") is False
        assert own.others() == ({"a"} if lives else set())
        assert own.take("a") is not lives


def test_a_living_worker_of_this_machine_may_be_silent(tmp_path):
    """Its lock tells: a machine that was asleep has no dead workers."""
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        first.take("a")
        os.utime(first.path, (0, 0))
        assert second.others() == {"a"}


def test_a_worker_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.05)
    with Claims(tmp_path) as worker:
        worker.take("a")
        os.utime(worker.path, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "a.claim").stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_folder_without_hard_links_is_an_error(tmp_path, monkeypatch):
    def no_links(*paths):
        raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr(claims.os, "link", no_links)
    with Claims(tmp_path) as worker, pytest.raises(UserError, match="hard links; choose another --out"):
        worker.take("a")


# ---- order ---------------------------------------------------------------------------------------

def test_workers_keep_out_of_each_others_groups(tmp_path):
    class Grouped(Squares):
        def group(self, n):
            return n // 10

        def is_ready(self, n):
            return n != 12
    study, left = Grouped(Place(tmp_path)), [(n,) for n in (1, 2, 3, 11, 12, 13, 21, 22)]
    assert jobs.in_order(study, left, {(1,)}, None) == [(11,), (13,), (21,), (22,), (3,), (2,)]
    assert jobs.in_order(study, left, {(1,)}, 2) == [(21,), (22,), (11,), (13,), (3,), (2,)]
    assert jobs.in_order(study, left, {(1,), (11,), (21,)}, 2) == [(22,), (13,), (3,), (2,)]
