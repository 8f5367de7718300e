"""Many writers with compare and swap: each change is made on what its author saw, or not at all."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamer.protocol.errors import NoMatchError, StaleError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.aliases import steps
from dreamer.protocol.registry.changes import MoveAlias, Promote, Publish, RemoveAlias
from dreamer.protocol.registry.expectation import ANY

MODELS = [ManifestId(bytes([number]) * 32) for number in (1, 2, 3)]
NAMES = ["prod", "next"]

names = st.sampled_from(NAMES)
models = st.sampled_from(MODELS)
expectations = st.sampled_from([ANY, None, *MODELS])
changes = st.one_of(
    st.builds(MoveAlias, names, models, expectations),
    st.builds(RemoveAlias, names, expectations),
    st.builds(Promote, names, names, expectations),
)


def outcome(means: dict[str, ManifestId], change: object) -> object:
    """Make a change in a plain dictionary; return the error that it deserves, if any."""
    match change:
        case MoveAlias(alias, target, expected):
            pass
        case Promote(source, alias, expected):
            target = means.get(source)
            if target is None:
                return NoMatchError
        case RemoveAlias(alias, expected):
            if alias not in means:
                return NoMatchError
            target = None
    if target is not None and means.get(alias) == target:
        return None
    if expected is not ANY and means.get(alias) != expected:
        return StaleError
    if target is None:
        del means[alias]
    else:
        means[alias] = target
    return alias


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(1, 4), changes), max_size=20))
def test_aliases_behave_as_registers_that_compare_and_swap(room, made):
    state = room.change(room.empty(), *(Publish(room.entry(number)) for number in (1, 2, 3)))
    means: dict[str, ManifestId] = {}
    moved = dict.fromkeys(NAMES, 0)
    for author, change in made:
        expected = outcome(means, change)
        before = state
        try:
            state = room.change(state, change, author=room.author(author))
        except (StaleError, NoMatchError) as error:
            raised: object = type(error)
        else:
            raised = None if isinstance(expected, str) else expected and "nothing was raised"
        if raised is not None:
            assert raised is expected
            continue
        assert (state.document is before.document) == (expected is None)
        if expected is not None:
            moved[expected] += 1
        assert state.registry.aliases == means
    for name in NAMES:
        history = steps(state.registry.history.get(name, ()))
        # No move is lost, and each begins where the one before it ended.
        assert len(history) == moved[name]
        seen = None
        for step in history:
            assert step.before == seen
            seen = step.after
        assert seen == means.get(name)
