"""Training of the networks: from a training set to weights.

`settings` (all that determines a run) -> `batches`, `scaling` (shards to shuffled batches; fluxes to
numbers of order one) -> `model`, `initialise` (the networks; weights that start where they can learn) ->
`distributed`, `steps` (one process or many ranks; one step) -> `validation` (predictions for a split) ->
`trainer`, `checkpoints`, `logs`, `rundir` (epochs; what they leave).
"""
