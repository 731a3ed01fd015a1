"""Trainings that are killed in earnest and resumed: benchmarks/kill.py, in small."""


def test_kills_end_with_the_weights_of_a_run_that_was_never_killed(kills):
    assert kills.returncode == 0, kills.stdout + kills.stderr
    assert "| all | 2 |" in kills.stdout
    assert kills.stdout.count("the same weights, nothing left\n") == 2
