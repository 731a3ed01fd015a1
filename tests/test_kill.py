"""Trainings that are killed in earnest and resumed: benchmarks/kill.py, in small."""


def test_three_kills_end_with_the_weights_of_a_run_that_was_never_killed(three_kills):
    assert three_kills.returncode == 0, three_kills.stdout + three_kills.stderr
    assert "| all | 3 |" in three_kills.stdout
    assert three_kills.stdout.count("the same weights, nothing left\n") == 3
