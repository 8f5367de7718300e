"""A result as JSON, and back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.protocol.errors import InputError
from dreamer.simulations.report.record import as_document, from_json, read_result, to_json
from dreamer.simulations.report.result import (
    Engine,
    NodeResult,
    OriginUse,
    RelayUse,
    RunResult,
    Traffic,
)

COUNTS = st.integers(0, 2**62)
SECONDS = st.floats(0, 1e9, allow_nan=False)
NAMES = st.text(max_size=12)
TIMES = st.dictionaries(NAMES, SECONDS, max_size=3)
NODES = st.builds(
    NodeResult,
    name=NAMES,
    group=NAMES,
    up_bytes=COUNTS,
    down_bytes=COUNTS,
    pulled_s=TIMES,
    finished_at_s=TIMES,
    unfinished=st.dictionaries(NAMES, NAMES, max_size=2),
    stayed=st.booleans(),
    honest=st.booleans(),
)
TRAFFIC = st.integers(0, 5).flatmap(
    lambda steps: st.builds(
        Traffic,
        st.floats(0.001, 1e6),
        st.dictionaries(NAMES, st.lists(COUNTS, min_size=steps, max_size=steps), max_size=4),
    )
)
RESULTS = st.builds(
    RunResult,
    scenario=NAMES,
    about=NAMES,
    seed=st.integers(0, 2**62),
    nodes=COUNTS,
    replay=NAMES,
    ended_at_s=SECONDS,
    bound_s=SECONDS,
    last_s=SECONDS,
    median_s=SECONDS,
    each=st.lists(NODES, max_size=4),
    traffic=TRAFFIC,
    origin=st.builds(OriginUse, COUNTS, COUNTS, COUNTS, SECONDS),
    relay=st.builds(RelayUse, COUNTS, COUNTS, st.lists(COUNTS, max_size=4)),
    violations=st.lists(NAMES, max_size=2),
    missed=st.lists(NAMES, max_size=2),
    engine=st.builds(Engine, NAMES, COUNTS, SECONDS, SECONDS, COUNTS),
)


@settings(max_examples=40)
@given(RESULTS)
def test_every_result_reads_back_as_it_was(result):
    assert from_json(to_json(result)) == result


def test_the_hash_of_the_trace_stands_at_the_top(run):
    document = json.loads(to_json(run()))
    assert document["trace_hash"] == document["engine"]["trace_hash"] == "5ca1ab1e" * 4
    assert document == as_document(run())


def test_a_result_from_before_a_field_was_added_is_still_read(run):
    document = as_document(run())
    del document["checks"]
    assert from_json(json.dumps(document).encode()).checks == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "dreamer-sim-costs"}, "not a run's result"),
        ({"format": None}, "not a run's result"),
        ({"version": 2}, "version 2"),
        ({"seed": "7"}, r"damaged.*\$\.seed"),
        ({"last_s": None}, r"damaged.*\$\.last_s"),
        ({"traffic": {"step_s": 0.0, "by_lane": {}}}, "damaged.*steps"),
        ({"traffic": {"step_s": 1.0, "by_lane": {"a": [1], "b": [1, 2]}}}, "damaged.*steps"),
        ({"each": [{"name": "laptop-0"}]}, r"damaged.*\$\.each\[0\]"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_a_reason(run, change, words):
    document = as_document(run()) | change
    with pytest.raises(InputError, match=f"^here .*{words}"):
        from_json(json.dumps(document).encode(), "here")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"7", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(InputError, match="not a run's result"):
        from_json(data)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"can't read .*away\.json: No such file"):
        read_result(tmp_path / "away.json")
