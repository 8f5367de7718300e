"""CSV for notebooks: the columns that are promised, and totals that are the result's."""

import csv
import io

from dreamer.simulations.report.result import RelayUse
from dreamer.simulations.report.spreadsheets import nodes_csv, pulls_csv, traffic_csv


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_bytes_of_all_machines_are_those_of_the_result(run):
    result = run(30)
    read = rows(nodes_csv(result))
    assert len(read) == 30
    for column in ("up_bytes", "down_bytes"):
        assert sum(int(row[column]) for row in read) == sum(
            getattr(node, column) for node in result.each
        )


def test_bytes_of_all_steps_are_those_of_the_result(run):
    result = run()
    read = rows(traffic_csv(result))
    assert [float(row["from_s"]) for row in read] == [0.0, 40.0, 80.0, 120.0]
    for lane, counts in result.traffic.by_lane.items():
        assert [int(row[f"{lane}_bytes"]) for row in read] == counts
    assert int(read[-1]["relay_so_far_bytes"]) == result.relay.bytes


def test_a_relay_count_shorter_than_the_run_goes_on_at_its_end(run):
    read = rows(traffic_csv(run(relay=RelayUse(9, 10, [4]))))
    assert [row["relay_so_far_bytes"] for row in read] == ["4", "9", "9", "9"]


def test_each_pull_has_a_line_with_its_time_or_why_there_is_none(run, machine):
    odd = machine(1, name='a "b",\nc', pulled_s={}, finished_at_s={}, unfinished={"llm": "left, 1"})
    read = rows(pulls_csv(run(each=[machine(0), odd])))
    assert read[0]["pulled_s"] == "112.0"
    assert read[0]["finished_at_s"] == "115.0"
    assert (read[1]["name"], read[1]["pulled_s"], read[1]["why"]) == ('a "b",\nc', "", "left, 1")


def test_a_run_in_which_nothing_moved_has_its_header_lines(bare_run):
    assert traffic_csv(bare_run) == "from_s,relay_so_far_bytes\n"
    (row,) = rows(nodes_csv(bare_run))
    assert (row["pulls_unfinished"], row["slowest_pull_s"]) == ("1", "")
