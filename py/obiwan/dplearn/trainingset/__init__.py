"""The training set on disk.

`shards` (pixels, labels and the manifest), `examples` (the row that tells all of one).
"""
