"""Controls: does anything tell the classes apart that is not the galaxy, or that needs no network?

The road inside: `centroids`, `measure` (numbers from pixels), `covariates` (numbers from the catalogue) ->
`contrasts` (how one number differs) -> `battery` (every control with its light); `metadata` (a classifier
that sees no pixels); `balance` and `pairing` (reals and fakes that are alike in other things).
"""
