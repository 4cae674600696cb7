"""Referees: whatever scores stamps, from 0 (real) to 1 (fake).

`protocol` (what a referee is) -> `scoring` (a split scored by any referee; files of scores) -> `testlog`
(who has scored the test set) -> `network` (the Keras network as a referee).
"""
