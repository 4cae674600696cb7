"""Extraction of stamps: the plan of a training set carried out.

`extraction` (stamps into shards), `workspace` (the directory while it is being made).
"""
