from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.tracker_limits import TRACKER_OFFER_AGE_S, TRACKER_PENDING_OFFERS_PER_PEER
from dreamer.tracker.public import pending

SENDER = b"s" * 20


def test_offer_is_answered_once_by_its_own_name_and_sender():
    made = pending.added(b"", SENDER, "one", 5.0)
    assert pending.taken(made, b"t" * 20, "one", 5.0) is None
    assert pending.taken(made, SENDER, "two", 5.0) is None
    assert pending.taken(made, SENDER, "one", 5.0) == b""


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 40)), max_size=80))
def test_it_does_what_a_dict_of_times_would(steps):
    made, model, now = b"", {}, 0.0
    for add, name, passed in steps:
        now += passed
        model = {key: at for key, at in model.items() if now - at <= TRACKER_OFFER_AGE_S}
        if add and name not in model:
            made = pending.added(made, SENDER, str(name), now)
            model[name] = now
        elif not add:
            left = pending.taken(made, SENDER, str(name), now)
            assert (left is not None) == (name in model)
            made = made if left is None else left
            model.pop(name, None)
    assert len(pending.pruned(made, now)) == 12 * len(model)


def test_too_many_push_out_the_oldest():
    made = b""
    for number in range(TRACKER_PENDING_OFFERS_PER_PEER + 1):
        made = pending.added(made, SENDER, str(number), 0.0)
    assert pending.taken(made, SENDER, "0", 0.0) is None
    assert pending.taken(made, SENDER, "1", 0.0) is not None
