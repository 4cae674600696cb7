"""Planning of a training set: from the trees that the user names to the final list of examples.

`inputs`, `config` (what was asked for) -> `provenance`, `fields` (which release was injected into; one brick
of one run, opened), `blobs` (which runs fitted all sources) -> `matching`, `selection`, `cutflow` (which
injection became which source; named cuts and their counts) -> `candidates`, `bricks` (what can be an example,
brick by brick) -> `store` (those of all bricks, in a file) -> `splits`, `assembly` (train, val, test; shared
sky; balance) -> `plan` (which bricks' examples share shards).
"""
