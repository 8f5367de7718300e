"""Inference in virtual time: what a pool of GPUs holds, and a day of offloaded requests."""
