"""Two-sample test: how well scores separate two samples, and what follows from it.

Labels are 0 (real) and 1 (fake); a score is the higher the more an example looks fake.
`doc/explanation/two-sample-test.rst` says what each number means.

Modules in order: `ranks` -> `ranking` (AUC, also within strata, its variance), `resampling` (permutations)
-> `summary` (accuracy, intervals, power) -> `calibration` (probabilities, divergences), `verdict` (kind,
reasons, numbers).
"""
