"""Scenarios are read with errors that a person can act on, written back equal, and made smaller."""

from dataclasses import fields, is_dataclass, replace
from typing import get_args

import pytest

from dreamer.protocol.errors import InputError
from dreamer.simulations.scenario import model
from dreamer.simulations.scenario.bounds import bounds_of
from dreamer.simulations.scenario.loader import (
    committed,
    dump,
    find,
    is_offload,
    load,
    loads,
    parse,
    scaled,
    scaling,
)
from dreamer.simulations.scenario.tables import hints_of

SWARMS = {name: path for name, path in committed().items() if not is_offload(parse(path))}

SMALL = """\
name = "small"
about = "Does it read?"

[[models]]
name = "base"
size_gb = 1

[origin]
holds = ["base"]

[[groups]]
name = "seeds"
count = 2
holds = ["base"]

[[groups]]
name = "laptops"
count = 30
pulls = [{ model = "base", from_s = 5 }]
"""


def said_of(text):
    with pytest.raises(InputError) as caught:
        loads(text)
    return str(caught.value)


@pytest.mark.parametrize("name", SWARMS)
def test_committed_scenario_loads_and_reads_back_equal(name):
    scenario = load(SWARMS[name])
    assert scenario.name == name, "its file's name is what it is run by"
    assert scenario.about.endswith("?"), "it says which question it answers"
    assert scenario.seed != model.Scenario.seed, "its seed is its own, not whatever the default is"
    assert loads(dump(scenario)) == scenario


def test_every_scenario_of_the_issue_is_there():
    asked = "flash-crowd lab-month ephemeral-pods seeder-leaves partitioned-site nat-heavy "
    asked += "congested-relay malicious-tenth tracker-outage regions experts offload churn"
    assert set(asked.split()) <= set(committed())


def test_what_is_left_out_has_its_default():
    scenario = loads(SMALL)
    laptops = scenario.groups[1]
    assert laptops == model.Group("laptops", 30, pulls=(model.Wish("base", 5.0),))
    assert scenario.network == model.Network()
    assert scenario.origin == model.OriginSpec(holds=("base",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'nat = "symetric"',
            "groups[1].nat: 'symetric' is none of public, full_cone, restricted, port_restricted, "
            "symmetric, no_udp; did you mean 'symmetric'?",
        ),
        ("up_mbti = 5", "groups[1].up_mbti: there is no such key; did you mean 'up_mbit'?"),
        ("up_mbit = 0", "groups[1].up_mbit: 0.0 is not between 0.001 and 1e+07"),
        ("slow_share = 30", "groups[1].slow_share: 30.0 is not between 0 and 1"),
        ("up_mbit = inf", "groups[1].up_mbit: inf is no number that time can pass with"),
        ("up_mbit = true", "groups[1].up_mbit: True is not a number"),
        ('churn = "often"', "groups[1].churn: 'often' is no table: write it as"),
        ("churn = {}", "groups[1].churn: 'on_half_life_s' is missing: it must say a number"),
        ('holds = "base"', "groups[1].holds: 'base' is no list: write […]"),
        ('holds = ["bsae"]', "groups[1].holds[0]: there is no model 'bsae'; did you mean 'base'?"),
        ("leaves_at_s = 5\njoins_from_s = 9\njoins_to_s = 9", "they would leave before they join"),
        (
            "joins_from_s = 9\njoins_to_s = 3",
            "groups[1].joins_to_s: 3 is before its beginning at 9",
        ),
        ("uses_peers = false\nuses_origin = false", "it pulls, but uses neither"),
    ],
)
def test_mistake_in_a_group_names_the_key_and_what_is_allowed(line, said):
    assert said in said_of(f"{SMALL}{line}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL.replace('name = "small"\n', ""), "'name' is missing: it must say text in quotes"),
        (SMALL.replace('"small"', '"s/mall"'), "name: 's/mall' is no name"),
        (SMALL.replace("size_gb = 1", 'size_gb = "1"'), "models[0].size_gb: '1' is not a number"),
        (SMALL.replace("count = 30", "count = 3.5"), "groups[1].count: 3.5 is not a whole number"),
        (SMALL.replace('"laptops"', '"seeds"'), "groups[1].name: 'seeds' is the name of another"),
        (
            SMALL.replace("[origin]", "[orgin]"),
            "orgin: there is no such key; did you mean 'origin'?",
        ),
        (SMALL.replace('holds = ["base"]', ""), "groups[1].pulls[0]: nobody holds 'base'"),
        (SMALL.replace("pulls =", "#"), "groups: nobody pulls anything"),
        (SMALL.replace("name =", "name"), "this is no TOML: "),
        (
            f'{SMALL}[[partitions]]\ngroups = ["pods"]\nspan = {{ from_s = 1, to_s = 2 }}\n',
            "partitions[0].groups[0]: there is no group 'pods'; there are: seeds, laptops",
        ),
        (
            f'{SMALL}[[partitions]]\ngroups = ["seeds"]\nspan = {{ from_s = 2, to_s = 2 }}\n',
            "partitions[0].span: from 2 s to 2 s is no time",
        ),
        (
            f'{SMALL}[[network.lines]]\none = "here"\nother = "hre"\nlatency_ms = 3\n',
            "network.lines[0].other: there is no region 'hre'; did you mean 'here'?",
        ),
        (
            f"{SMALL}[network]\nlines = ["
            + '{ one = "here", other = "here", latency_ms = 3 },' * 2
            + "]\n",
            "network.lines[1]: a line between here and here is there already",
        ),
    ],
)
def test_mistake_in_a_file_is_told_in_words(text, said):
    assert said in said_of(text)


def test_error_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("count = 30", "cuont = 30"))
    with pytest.raises(InputError, match=r"^mine\.toml: groups\[1\]\.cuont: .*'count'\?$"):
        load(path)
    with pytest.raises(InputError, match=r"can't read .*none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_scenario_is_found_by_name_or_path():
    assert find("churn") == committed()["churn"]
    assert str(find("some/where.toml")) == "some/where.toml"
    with pytest.raises(InputError, match="no scenario 'flash-crwd'; did you mean 'flash-crowd'"):
        find("flash-crwd")


def numbers_below(shape):
    for one in fields(shape):
        kind = hints_of(shape)[one.name]
        inner = [kind, *get_args(kind)]
        if {int, float} & set(inner):
            yield shape.__name__, one.name
        for each in inner:
            if is_dataclass(each):
                yield from numbers_below(each)


def test_every_number_of_a_scenario_is_bounded():
    assert [each for each in numbers_below(model.Scenario) if bounds_of(*each) is None] == []


def test_text_of_any_kind_reads_back_equal():
    scenario = replace(loads(SMALL), about='"quoted" \\ back\nline \x7f \x01 – ü \U0001f600')
    assert loads(dump(scenario)) == scenario


def test_value_that_differs_anywhere_reads_back_equal():
    group = model.Group(
        "g",
        3,
        pulls=(model.Wish("base", 1.5, 2.25),),
        churn=model.Churn(100.0, 3.0, keeps_disk=False),
        misdeed="floods",
        clock_skew_s=-1e-9,
        scales=False,
    )
    scenario = replace(
        loads(SMALL),
        groups=(*loads(SMALL).groups, group),
        relays=(model.Relay(), model.Relay(5.0, "there")),
        tracker_outages=(model.Span(1.0, 2.0),),
        network=model.Network(loss=0.1, lines=(model.Line("here", "there", 5.0, 1e6, 0.02),)),
        expect=model.Expect(last_over_bound=1.2, all_finish=False),
    )
    assert loads(dump(scenario)) == scenario


def test_fewer_nodes_keep_proportions_and_what_gives():
    crowd = scaled(load(SWARMS["malicious-tenth"]), 50)
    assert [group.count for group in crowd.groups] == [45, 2, 1, 1, 1]
    small = scaled(loads(SMALL), 10)
    assert [group.count for group in small.groups] == [2, 10]
    regions = scaled(load(SWARMS["regions"]), 13)
    assert [group.count for group in regions.groups] == [1, 1, 6, 3, 4]


@pytest.mark.parametrize("nodes", [5, 6, 17, 999, 12_345])
def test_scaled_scenario_has_as_many_nodes_as_asked_for(nodes):
    assert scaling(scaled(load(SWARMS["malicious-tenth"]), nodes)) == nodes


def test_one_node_of_each_group_always_stays():
    assert scaling(scaled(load(SWARMS["malicious-tenth"]), 1)) == 5


def test_number_of_nodes_is_bounded():
    with pytest.raises(InputError, match="0 machines can't be: say a number from 1 to 100000"):
        scaled(loads(SMALL), 0)
