"""From the plan to files.

`extraction` (stamps into shards), `workspace` (the directory while it is being made).
"""
