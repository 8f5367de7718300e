"""A bucket's lifecycle configuration, as boto3 has it: our rules among those of others.

A bucket has one document of rules and S3 knows no way to change a single one, so the others are
read and written back as they are. What can't be understood is never written over.
"""

from __future__ import annotations

from typing import Any

from dreamer.daemon.origin.listing import ExpiryRule

_OURS = "dreamer-"


def rules_of(answer: dict[str, Any]) -> list[ExpiryRule]:
    """Return our rules in an answer to GetBucketLifecycleConfiguration, those that are on."""
    return [_parsed(rule) for rule in answer.get("Rules", []) if _is_ours(rule)]


def with_rule(answer: dict[str, Any], rule: ExpiryRule) -> dict[str, Any]:
    """Return the configuration with a rule put in, in place of one of the same name."""
    return {"Rules": [*_without(answer, rule.name), _formed(rule)]}


def without_rule(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the configuration without a rule of ours."""
    return {"Rules": _without(answer, name)}


def _without(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [rule for rule in answer.get("Rules", []) if rule.get("ID") != f"{_OURS}{name}"]


def _is_ours(rule: dict[str, Any]) -> bool:
    named = str(rule.get("ID", "")).startswith(_OURS)
    return named and rule.get("Status") == "Enabled" and "Days" in rule.get("Expiration", {})


def _parsed(rule: dict[str, Any]) -> ExpiryRule:
    # Older stores answer with the prefix beside the filter, not within it.
    prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
    name = str(rule["ID"]).removeprefix(_OURS)
    uploads_too = "AbortIncompleteMultipartUpload" in rule
    return ExpiryRule(name, str(prefix), int(rule["Expiration"]["Days"]), uploads_too)


def _formed(rule: ExpiryRule) -> dict[str, Any]:
    formed: dict[str, Any] = {
        "ID": f"{_OURS}{rule.name}",
        "Status": "Enabled",
        "Filter": {"Prefix": rule.prefix},
        "Expiration": {"Days": rule.days},
    }
    if rule.uploads_too:
        formed["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.days}
    return formed
