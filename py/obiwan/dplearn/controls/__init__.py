"""Controls: does anything tell the classes apart that is not the galaxy, or that needs no network?

The road inside: `centroids`, `measure` (numbers from pixels), `covariates` (numbers from the catalogue) ->
`contrasts` (how one number differs) -> `battery` (every control with its light); `metadata` (a classifier
that sees no pixels); `propensity` (real and injected galaxies that are alike in other things).
"""
