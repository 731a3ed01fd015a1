"""The number of threads follows the speed of steps, on a simulated machine of so many cores."""
import random

import pytest

from training import threads


class Machine:
    """Steps of 50 ms on one thread, of which the others may take over 80 %; `busy(now)`: whether another process
    computes, so that threads on all cores wait for one of them at every operation; `tells`: how long cores are idle."""

    def __init__(self, monkeypatch, cores, busy, tells=True):
        self.threads, self.cores, self.busy, self.now = cores, cores, busy, 0.0
        self.random, self.history, self.idle = random.Random(0), [], 0.0
        monkeypatch.setattr(threads, "idle_seconds", lambda: self.idle if tells else None)
        monkeypatch.setattr(threads, "MOST", cores)
        monkeypatch.setattr(threads.torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(threads.torch, "set_num_threads", lambda n: setattr(self, "threads", n))

    def step(self):
        seconds = 0.05 * (0.2 + 0.8 / self.threads) * self.random.uniform(0.95, 1.1)
        if self.busy(self.now) and self.threads == self.cores:
            seconds *= 20
        self.now += seconds
        self.idle += max(0, self.cores - self.threads - self.busy(self.now)) * seconds
        self.history.append((self.now, self.threads))
        return seconds

    def run(self, seconds):
        tuner = threads.ThreadTuner()
        while self.now < seconds:
            tuner.add(self.step())
        return self

    def share(self, n, since=0.0):
        """Of the time since then, the share with n threads."""
        counted = [(now - before, k) for (before, _), (now, k) in zip(self.history, self.history[1:]) if now > since]
        return sum(t for t, k in counted if k == n) / sum(t for t, k in counted)


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_an_idle_machine_keeps_all_threads(monkeypatch, cores):
    assert Machine(monkeypatch, cores, lambda now: False).run(60).share(cores) > 0.97


@pytest.mark.parametrize("cores, tells", [(2, True), (2, False), (8, True), (8, False)])
def test_beside_a_busy_process_half_the_threads_work(monkeypatch, cores, tells):
    machine = Machine(monkeypatch, cores, lambda now: True, tells).run(120)
    assert machine.share(cores // 2) > (0.95 if tells else 0.9)


def test_threads_follow_a_process_that_comes_and_goes(monkeypatch):
    machine = Machine(monkeypatch, 2, lambda now: 60 < now < 120).run(240)
    assert machine.share(2, since=180) > 0.95                   # found out at most a minute later
    during = [k for now, k in machine.history if 62 < now < 120]
    assert during.count(1) > 0.95 * len(during)


def test_the_process_gets_its_threads_back(monkeypatch):
    machine = Machine(monkeypatch, 8, lambda now: False)
    with threads.ThreadTuner():
        assert machine.threads == 1
    assert machine.threads == 8


def test_a_hiccup_is_soon_forgotten(monkeypatch):
    machine = Machine(monkeypatch, 2, lambda now: 10 < now < 10.5).run(30)
    assert machine.share(2, since=15) > 0.97


def test_the_next_training_begins_where_the_last_one_ended_and_may_grow(monkeypatch):
    machine = Machine(monkeypatch, 2, lambda now: now < 30).run(30)
    assert machine.threads == 1
    assert machine.run(60).share(2, since=40) > 0.9
