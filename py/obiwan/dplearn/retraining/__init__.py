"""Retraining: the same classifier trained again, on parts of the stamps and on planted differences.

Inside: `planting` (what is drawn into one half of a set) -> `runs` (train and score) -> `ablations` (what is
left without a part), `sensitivity` (the injection-recovery test).
"""
