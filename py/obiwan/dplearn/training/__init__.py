"""From a training set to a network, and to its scores.

`settings` (all that determines a run) -> `batches`, `scaling` (shards to shuffled batches; fluxes to
numbers of order one) -> `model`, `initialise` (the networks; weights that start where they can learn) ->
`distributed`, `steps` (one process or many ranks; one step) -> `trainer`, `checkpoints`, `logs`, `rundir`
(epochs; what they leave) -> `scoring`, `testlog`, `heldout` (a split through a network; who has seen the
test split; the result).
"""
