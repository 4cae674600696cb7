"""Controls: systematics other than the galaxies that may distinguish the classes, without a network.

`centroids`, `measure` (numbers from pixels), `covariates` (numbers from the catalogue) -> `questions` (what
is compared), `contrasts` (how one number differs) -> `battery` (every control with its state, as in
`records`); `metadata` (a classifier that sees no pixels, and strata of real and injected galaxies that are
alike).
"""
