"""Trainings that are killed in earnest and resumed: benchmarks/kill.py, in small."""
from conftest import command


def test_three_kills_end_with_the_weights_of_a_run_that_was_never_killed():
    done = command("benchmarks/kill.py", "--kills", 3, "--models", "cgan", "--epochs", 2, "--seed", 9, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all | 3 |" in done.stdout and done.stdout.count("the same weights, nothing left\n") == 3
