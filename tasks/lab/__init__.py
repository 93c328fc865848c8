"""The mechanism lab: rounds of history paid by other rules, weighed by other policies, and attacked.

experiment_file  the TOML file that names rounds, variants and attacks
case             a round as it was, its submissions read once and kept as ranks
evaluate         a case under a mechanism: the units that resolve a round, in one process
pictures         charts as SVG, each with a text that tells what it shows
report           the page
"""
