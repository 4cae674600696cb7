"""Training sets on disk.

`shards` (pixels and labels), `examples` (the row that tells all of one), `manifest` (what the set is);
`stampset` (all of it as one object), `views` (the same with edited pixels, chosen rows or other labels).
"""
