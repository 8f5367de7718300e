from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.registry.lineage import lineage
from dreamer.protocol.registry.provenance import Provenance
from dreamer.protocol.registry.view import Model, Registry
from dreamer.protocol.registry_limits import LINEAGE_MAX_MODELS


def key(number: int) -> ManifestId:
    return ManifestId(number.to_bytes(32, "big"))


def family(**parents: list[int]) -> Registry:
    """``family(m2=[1])``: model 2 was trained from model 1."""
    models = {}
    for name, numbers in parents.items():
        made = Provenance(parents=tuple(map(key, numbers)))
        own = key(int(name[1:]))
        models[own] = Model(own, name, 1, 1, "decoder", NodeId(b"n" * 32), 1.0, provenance=made)
    return Registry(models)


def relatives(registry: Registry, number: int) -> tuple[list, list]:
    found = lineage(registry, registry.models[key(number)])
    return tuple(
        [(int.from_bytes(kin.manifest_id), kin.depth, int.from_bytes(kin.of)) for kin in side]
        for side in (found.ancestors, found.descendants)
    )


def test_generations_are_told_in_both_directions_the_nearest_first():
    registry = family(m1=[], m2=[1], m3=[2, 9], m4=[3], m5=[3])
    assert relatives(registry, 3) == ([(2, 1, 3), (9, 1, 3), (1, 2, 2)], [(4, 1, 3), (5, 1, 3)])
    assert relatives(registry, 1) == ([], [(2, 1, 1), (3, 2, 2), (4, 3, 3), (5, 3, 3)])


def test_parent_that_is_not_in_the_room_is_told_by_its_id():
    found = lineage(family(m3=[9]), family(m3=[9]).models[key(3)])
    assert [(kin.manifest_id, kin.model) for kin in found.ancestors] == [(key(9), None)]


def test_circle_ends_and_each_relative_counts_once():
    registry = family(m1=[3], m2=[1], m3=[2])
    assert relatives(registry, 1) == ([(3, 1, 1), (2, 2, 3)], [(2, 1, 1), (3, 2, 2)])


def test_diamond_counts_the_grandparent_once():
    registry = family(m1=[], m2=[1], m3=[1], m4=[2, 3])
    assert relatives(registry, 4)[0] == [(2, 1, 4), (3, 1, 4), (1, 2, 2)]


def test_too_many_relatives_are_cut_and_said_to_be():
    many = {f"m{number}": [1] for number in range(2, LINEAGE_MAX_MODELS + 3)}
    registry = family(m1=[], **many)
    found = lineage(registry, registry.models[key(1)])
    assert (len(found.descendants), found.cut) == (LINEAGE_MAX_MODELS, True)
