"""Every run is listed with its command, and why it failed if it did."""

from experiments.reporting.ledger import commands, failures


def test_no_failed_runs_are_no_table(run):
    assert failures([run()]) is None


def test_commands_keep_every_run_failed_or_not(run):
    done = run(command="fedcl distill", seconds=2.0, peak_rss_bytes=9e8)
    table = commands([done, run(seed=1, status="failed")])
    assert table.rows[0] == ("fedcl distill", 0.0, 2.0, 9e8, "completed")
    assert table.rows[1] == ("", 1.0, None, None, "failed")


def test_failed_runs_are_listed_with_the_reason(run):
    table = failures([run(), run(seed=3, status="failed", error="why", command="fedcl distill")])
    assert table.rows == (("dm", 3.0, "why", "fedcl distill"),)
