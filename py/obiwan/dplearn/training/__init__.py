"""Training of the networks: from a training set to weights.

`settings` (all that determines a run) -> `batches` (shards to shuffled batches) -> `scaling` (numbers of
order one, from fluxes and in every layer) -> `model` (the networks) -> `distributed` (one process or many
ranks) -> `validation` (predictions for a split) -> `trainer`, `checkpoints`, `rundir` (steps and epochs; what
they leave).
"""
