"""Several processes that train together: the losses, the files and the mistakes of one. What takes processes is in several.py."""
import json

import pytest
import torch

from training import distributed
from training.augment import shift, warp
from utils.files import UserError


@pytest.fixture(scope="module")
def seen(several):
    done, folder, _ = several
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "seen.json").read_text(encoding="utf-8"))


def rows_and_record(several, name, model):
    folder = several[1] / name
    rows = [json.loads(row) for row in (folder / f"{model}.log.jsonl").read_text().splitlines()]
    return rows, json.loads((folder / f"{model}.json").read_text(encoding="utf-8"))


# ---- the arithmetic ------------------------------------------------------------------------------

def test_two_processes_give_the_losses_of_one(seen):
    """In float64, as an optimizer makes a large step of a gradient that is zero but for rounding (docs/scale.md); 100 steps
    of a classifier, some of each other kind of loss, those around a refit of the prior of a CVAE."""
    assert set(seen["gaps"]) == {"cgan", "acgan", "cvae", "classifier-tiny", "classifier-adversarial"}
    assert max(seen["gaps"].values()) < 1e-9


def test_batch_norm_of_three_processes_is_that_of_one(seen):
    """Images, gradients of images, weight and bias, running mean and variance, steps, images in eval mode. (Sums over 150
    values around 9 are good to 1e-3.)"""
    assert len(seen["batch norm"]) == 8
    assert all(gap <= limit for gap, limit in zip(seen["batch norm"], (1e-5, 1e-4, 1e-3, 1e-3, 1e-6, 1e-6, 0, 1e-5)))


def test_what_is_drawn_for_a_batch_is_shared_out(monkeypatch):
    def rng():
        return torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 28, 28, generator=rng())
    whole = [torch.randn((6, 3), generator=rng()), shift(images, 2, rng()), warp(images, rng())]
    monkeypatch.setattr(distributed, "size", 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", rank)
        own = distributed.part(images)
        parts = [distributed.draw(torch.randn, (2, 3), generator=rng()), shift(own, 2, rng()), warp(own, rng())]
        assert all(torch.allclose(a[2 * rank:2 * rank + 2], b, atol=1e-6) for a, b in zip(whole, parts))


def test_a_batch_is_shared_out_evenly_or_not_at_all(monkeypatch):
    distributed.check_parts(33)
    monkeypatch.setattr(distributed, "size", 3)
    distributed.check_parts(33)
    for batch in (32, 2, 1):
        with pytest.raises(UserError, match=f"a batch of {batch} .* 3 processes"):
            distributed.check_parts(batch)


# ---- one run -------------------------------------------------------------------------------------

def test_two_processes_leave_and_say_what_one_does(seen, several):
    one, two = seen["one"], seen["two"]
    assert one["status"] == [0] and two["status"] == [0, 0] and one["errors"] == two["errors"] == []
    assert one["files"] == two["files"] and len(one["said"]) == len(two["said"])
    (rows, record), (rows2, record2) = (rows_and_record(several, name, "generator") for name in ("one", "two"))
    assert [row["step"] for row in rows] == [row["step"] for row in rows2]
    for a, b, rel in zip(rows, rows2, (1e-5, 1e-2, 1e-2)):            # rounding grows, see docs/scale.md
        assert all(a[name] == pytest.approx(b[name], rel=rel) for name in ("D", "G", "label", "width"))
    assert record["machine"]["processes"] == 1 and record2["machine"]["processes"] == 2
    assert record["settings"] == record2["settings"] and record["steps"] == record2["steps"] == 10


@pytest.mark.parametrize("who", ["killed", "killed leader", "hung"])
def test_a_process_that_is_killed_or_hangs_ends_all_with_one_line(seen, who):
    run = seen[who]
    assert sorted(run["status"]) == [-9, 2]
    assert len(run["errors"]) == 1 and run["errors"][0].startswith("error: another process of this run has died")
    assert "classifier-tiny.resume.pth" in run["files"]


def test_a_run_goes_on_with_another_number_of_processes(seen, several):
    run = seen["resumed"]
    assert run["status"] == [0, 0, 0] and run["errors"] == []
    rows, record = rows_and_record(several, "resumed", "classifier-tiny")
    assert record["machine"]["processes"] == 3 and record["steps"] == 40 == rows[-1]["step"]
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert not any("resume" in name or "lock" in name for name in run["files"])


def test_sigterm_to_all_stops_as_it_stops_one(seen):
    run = seen["stopped"]
    assert run["status"] == [143, 143] and run["errors"] == ["", "stopped"]
    assert run["said"][-1].startswith("stopped at step") and "--resume" in run["said"][-1]


def test_the_leader_decides_how_many_epochs_fit(seen, several):
    """All take the same number of steps, else one would wait for the other in vain."""
    run = seen["minutes"]
    _, record = rows_and_record(several, "minutes", "classifier-tiny")
    assert run["status"] == [0, 0] and run["errors"] == []
    assert len(record["plans"]) > 1 and record["steps"] == 5 * record["epochs"] == 5 * record["plans"][-1][1]


def test_a_loss_that_is_no_number_ends_all_with_one_line(seen):
    run = seen["nan"]
    assert run["status"] == [2, 2] and len(run["errors"]) == 1 and "not a number" in run["errors"][0]


# ---- mistakes ------------------------------------------------------------------------------------

@pytest.mark.parametrize("mistake, words", [
    ("uneven", ["batch of 33", "2 processes"]), ("too many", ["batch of 2", "3 processes"]), ("data", ["differ in data"]),
    ("settings", ["--lr", "0.01", "0.02"]), ("mistake", ["--lr"]), ("one mistake", ["--dataset", "nowhere"]),
    ("missing", ["rank 1 of 2", "has not come within 1 s"]),
])
def test_a_mistake_is_one_line_however_many_there_are(seen, mistake, words):
    run = seen[mistake]
    assert set(run["status"]) == ({2, 0} if mistake == "missing" else {2}) and run["files"] == []
    assert len(run["errors"]) == 1 and run["errors"][0].startswith("error: ") and all(w in run["errors"][0] for w in words)


# ---- torchrun ------------------------------------------------------------------------------------

def test_torchrun_itself(several):
    """A run that fails, as it is short: its line comes once though torchrun ends the other process, and its status tells."""
    _, folder, done = several
    assert done.returncode == 1 and not (folder / "new").exists()
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "batch of 33" in errors[0]
    assert "stopped" not in done.stderr and "train.py FAILED" in done.stderr
