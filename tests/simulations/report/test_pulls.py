"""Who pulled what: by group, and the slowest."""

from dreamer.simulations.report.pulls import groups, pulls, slowest


def test_a_group_is_summed_over_its_machines_in_the_order_of_the_scenario(run, machine):
    seed = machine(0, group="seed", pulled_s={}, finished_at_s={}, down_bytes=0)
    found = groups(run(each=[seed, machine(1), machine(3), machine(2)]))
    assert [(one.name, one.machines, one.finished, one.wanted) for one in found] == [
        ("seed", 1, 0, 0),
        ("office", 2, 2, 2),
        ("home", 1, 1, 1),
    ]
    assert found[0].median_s is None
    assert (found[1].median_s, found[1].last_s) == (114.0, 115.0)
    assert found[1].up_bytes == 2 * machine(1).up_bytes


def test_a_machine_with_several_models_has_several_pulls(run, machine):
    node = machine(0, pulled_s={"a": 1.0, "b": 2.0}, unfinished={"c": "it left"})
    assert [(one.model, one.seconds, one.why) for one in pulls([node])] == [
        ("a", 1.0, ""),
        ("b", 2.0, ""),
        ("c", None, "it left"),
    ]


def test_what_never_finished_is_slower_than_anything(run, machine):
    stuck = {"pulled_s": {}, "unfinished": {"llm": "its sources are gone"}}
    each = [machine(at) for at in range(20)]
    each[4] = machine(4, stayed=False, **stuck)
    each[9] = machine(9, **stuck)
    names = [pull.node.name for pull in slowest(run(20, each=each), count=4)]
    assert names == ["laptop-9", "laptop-4", "laptop-19", "laptop-18"]


def test_machines_that_misbehave_are_not_among_the_slowest(run, machine):
    found = slowest(run(each=[machine(0), machine(1, honest=False)]))
    assert [pull.node.name for pull in found] == ["laptop-0"]
