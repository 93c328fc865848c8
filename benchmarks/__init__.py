"""Speed as ratios: the engine against a reference, both measured in the same run on the same machine.

Machines are shared and noisy, so seconds say little and nothing here is asserted; `python -m benchmarks` prints tables.
"""
