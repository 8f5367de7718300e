"""Keeps a document within its size: what nodes report of themselves gives way to the models."""

from __future__ import annotations

from dataclasses import replace

from dreamer.protocol.canonical import count_items, dumps
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import JSON_MAX_ITEMS
from dreamer.protocol.registry.document import Document
from dreamer.protocol.registry_limits import REGISTRY_MAX_BYTES, WITHDRAWN_MAX_MODELS


def fit(
    document: Document, max_bytes: int = REGISTRY_MAX_BYTES, max_items: int = JSON_MAX_ITEMS
) -> Document:
    """Return the document without as many of the oldest reports as it is too long by.

    With a report go its author's chains, if they proved nothing else. Models are never dropped:
    a document that is too long without any report stays so, and ``encode`` refuses it.
    """
    document = _with_last_withdrawals(document)
    if not document.reports:
        return document
    data = document.unbounded()
    over_bytes, over_items = len(data) - max_bytes, count_items(data) - max_items
    if over_bytes <= 0 and over_items <= 0:
        return document
    members, reports = dict(document.members), dict(document.reports)
    writers = {record.by for record in replace(document, reports={}).records()}
    for node in sorted(reports, key=lambda node: reports[node].order):
        if over_bytes <= 0 and over_items <= 0:
            break
        dropped: list[object] = [reports.pop(node).to_json()]
        if node in members and node not in writers:
            dropped.append(members.pop(node))
        for value in dropped:
            entry = _entry(node, value)
            over_bytes -= len(entry)
            over_items -= count_items(entry)
    return replace(document, members=members, reports=reports)


def _entry(node: NodeId, value: object) -> bytes:
    """Return an entry of a table as the document has it, with the comma after it."""
    return dumps({node.hex(): value})[1:-1] + b","


def _with_last_withdrawals(document: Document) -> Document:
    """Return the document with no more withdrawals than a room remembers, the latest."""
    surplus = len(document.withdrawn) - WITHDRAWN_MAX_MODELS
    if surplus <= 0:
        return document
    ordered = sorted(document.withdrawn.items(), key=lambda item: item[1].order)
    return replace(document, withdrawn=dict(ordered[surplus:]))
