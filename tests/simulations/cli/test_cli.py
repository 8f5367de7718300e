"""The command line of the simulator: what it prints, its status, and that runs repeat."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dreamer.simulations.cli.entry import run
from dreamer.simulations.cli.progress import Standing, Watch
from dreamer.simulations.scenario.loader import committed

SIM = [sys.executable, "-m", "dreamer.simulations.cli"]

TINY = """\
name = "tiny"
about = "Does the command work?"
seed = 3
block_mib = 16

[[models]]
name = "base"
size_gb = 0.2

[origin]
holds = ["base"]

[[groups]]
name = "laptops"
count = 4
pulls = [{ model = "base", to_s = 1 }]
"""


@pytest.fixture
def tiny(tmp_path):
    """The file of a scenario that is over in a moment; appended to it are expectations."""
    path = tmp_path / "tiny.toml"

    def write(more=""):
        path.write_text(TINY + more)
        return str(path)

    return write


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_list_names_every_scenario_and_what_it_answers(capsys):
    assert run(["list", "--json"]) == 0
    listed = document(capsys)
    assert [row["name"] for row in listed] == list(committed())
    [crowd] = [row for row in listed if row["name"] == "flash-crowd"]
    assert crowd["nodes"] == 1000
    assert crowd["models"] == [{"name": "base-7b", "size_gb": 14.0}]
    assert all(row["about"] for row in listed)


def test_list_for_people_is_a_table(capsys):
    assert run(["list"]) == 0
    assert "flash-crowd" in capsys.readouterr().out


def test_listing_loads_neither_pictures_nor_engine():
    script = "import sys; from dreamer.simulations.cli.entry import run; run(['list'])\n"
    script += "print([n for n in sys.modules if n.startswith(('matplotlib', 'numpy', "
    script += "'dreamer.simulations.engine'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_same_seed_gives_the_same_trace_in_two_processes(tiny):
    command = [*SIM, "run", tiny(), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (json.loads(process.communicate(timeout=50)[0]) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert len(one["trace_hash"]) == 32
    assert one["trace_hash"] == other["trace_hash"]
    assert one["each"] == other["each"]


def test_another_seed_gives_another_trace(tiny, capsys):
    assert run(["run", tiny(), "--json"]) == 0
    one = document(capsys)
    assert run(["run", tiny(), "--json", "--seed", "4"]) == 0
    assert document(capsys)["trace_hash"] != one["trace_hash"]


def test_run_says_how_to_do_it_again(tiny, capsys):
    path = tiny()
    assert run(["run", path, "--json", "--nodes", "2", "--block-mib", "64"]) == 0
    result = document(capsys)
    assert result["replay"] == f"dreamer-sim run {path} --seed 3 --nodes 2 --block-mib 64"
    assert result["nodes"] == 2
    assert result["engine"]["blocks_moved"] == 6


def test_missed_figure_is_told_and_fails(tiny, capsys):
    path = tiny("[expect]\norigin_copies = 0.5\n")
    assert run(["run", path]) == 1
    out = capsys.readouterr().out
    assert "expected at most 0.5" in " ".join(out.split())
    assert f"dreamer-sim run {path}" in "".join(out.split("\n"))


def test_unchecked_run_takes_the_same_course(tiny, capsys):
    assert run(["run", tiny(), "--json"]) == 0
    checked = document(capsys)
    assert run(["run", tiny(), "--json", "--unchecked"]) == 0
    unchecked = document(capsys)
    assert checked["trace_hash"] == unchecked["trace_hash"]
    assert checked["checks"] > 0
    assert unchecked["checks"] == 0


def test_report_is_written_where_asked(tiny, tmp_path, capsys):
    assert run(["run", tiny(), "--out", str(tmp_path / "report")]) == 0
    assert f"report: {tmp_path / 'report'}" in capsys.readouterr().err
    assert list((tmp_path / "report").glob("*.html"))
    folder = str(tmp_path / "report")
    assert run(["compare", folder, folder, "--json"]) == 0
    assert document(capsys)


def test_mistake_in_a_scenario_is_one_line(tiny, capsys):
    assert run(["run", tiny('nat = "symetric"\n')]) == 1
    err = capsys.readouterr().err
    assert err.startswith("dreamer-sim: tiny.toml: groups[0].nat: 'symetric' is none of public, ")
    assert err.count("\n") == 1


def test_unknown_scenario_names_the_nearest(capsys):
    assert run(["run", "flash-crwd", "--json"]) == 1
    failure = document(capsys)["error"]
    assert failure["code"] == "bad_input"
    assert "did you mean 'flash-crowd'?" in failure["message"]


def test_mistake_in_the_options_is_usage(capsys):
    assert run(["run", "flash-crowd", "--nodes", "0"]) == 2
    assert "see: dreamer-sim run --help" in capsys.readouterr().err


class RunUnderWay:
    """What progress looks at."""

    fetched_bytes = 250
    to_fetch_bytes = 1000
    pulls_done = 1
    pulls_total = 4

    clock = SimpleNamespace(now=12.0, happened=6000)


def test_progress_is_shown_once_in_an_interval():
    now, shown = [100.0], []
    watch = Watch(shown.append, 3.0, lambda: now[0])
    for at in (101.0, 103.0, 104.0, 105.9, 106.0):
        now[0] = at
        watch(RunUnderWay)
    assert shown == [
        Standing(12.0, 0.25, 1, 4, 2000.0),
        Standing(12.0, 0.25, 1, 4, 1000.0),
    ]
    assert str(shown[0]) == ("at 12.0 s, 1 of 4 pulls ended, 25% of all bytes, 2,000 events/s")
