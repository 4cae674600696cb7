"""Hyperparameter tuning with Optuna: many processes train trials of one study on a shared file system.

`space` (which settings are tried) -> `leases` (which process trains a trial) -> `objective` (one trial: the
AUC of the validation split) -> `study` (the journal; the next trial) -> `outcome` (the best trial against the
documented network) -> `files` (what a study leaves).
"""
