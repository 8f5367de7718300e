"""``dreamer cost`` as people and programs read it."""

import json
import time

import pytest

from dreamer.daemon.cli.entry import run


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def rows(out):
    return [line.split() for line in out.splitlines()]


def test_without_a_month_it_is_all_on_record_by_lane(dreamer, served):
    status, out, _ = dreamer("cost")
    assert (status, served.node.costs.asked) == (0, [(None, None)])
    title = "room lab, all on record, since 2026-01, in USD: 2 of 5 members reported"
    assert out.splitlines()[0] == title
    assert ["origin", "953.7", "MiB", "1.00"] in rows(out)
    assert "3 uses of 93.1 GiB: 1.00 USD; without peers 4.50, without the cache 5.50, " in out
    assert "without both 9.00: saved 8.00 (89%)" in out
    assert "besides, the origin keeps 931.3 GiB: 23.00 USD a month" in out


def test_month_alone_is_this_one_and_a_month_may_follow_it(dreamer, served):
    before = time.strftime("%Y-%m", time.gmtime())
    assert dreamer("cost", "--month")[0] == 0
    assert served.node.costs.asked[0][0] in (before, time.strftime("%Y-%m", time.gmtime()))
    status, out, _ = dreamer("cost", "--month", "2026-10", "--room", "lab")
    assert (status, served.node.costs.asked[1]) == (0, ("2026-10", "lab"))
    assert out.startswith("room lab, 2026-10, in USD")
    dreamer("cost", "2026-10")
    assert served.node.costs.asked[2] == ("2026-10", None)
    assert dreamer("cost", "--month=2026-10", "--by", "node")[0] == 0
    assert served.node.costs.asked[3] == ("2026-10", None)
    status, _, err = dreamer("cost", "--month", "october")
    assert (status, "YYYY-MM" in err) == (1, True)


def test_by_node_says_how_old_each_report_is(dreamer):
    _, out, _ = dreamer("cost", "--by", "node")
    assert ["efefefef", "memory", "here", "3"] in [row[:4] for row in rows(out)]
    assert ["01010101", "other", "2", "h", "ago", "0"] in [row[:6] for row in rows(out)]


def test_by_model_is_of_this_node_alone(dreamer):
    _, out, _ = dreamer("cost", "--by", "model")
    assert out.startswith("this node by model, all on record")
    assert ["abababab", "tiny", "3"] in [row[:3] for row in rows(out)]
    assert "(of no model)" in out


def test_a_crossed_alert_is_said(dreamer, served):
    assert "alert" not in dreamer("cost")[1]
    served.node.costs.crossed = True
    assert (
        "alert: origin_gb_per_day of this node is 61.50 in 2026-11-21, more than 50"
        in dreamer("cost")[1]
    )


def test_as_json_it_is_the_whole_document(dreamer):
    status, out, _ = dreamer("cost", "--month", "2026-10", "--json")
    found = json.loads(out)
    assert (status, found["month"], found["rooms"][0]["figures"]["cost"]) == (0, "2026-10", 1.0)
