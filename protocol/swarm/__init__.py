"""Moving one model: which block, from whom, when.

Ranges and verdicts only; lanes move the bytes.
"""
