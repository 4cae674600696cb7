"""From a training set and trained networks to all numbers of an answer; `obiwan.dplearn.report` shows them.

The road inside: `ensemble` (models to scores), `bins` (where), `occlusion` (what the network
looks at), `ideal` (what the best observer would see), `gallery` (which examples to show) -> `records` (what
an evaluation is) -> `analysis` (every number of the test split) -> `evidence` (what stands behind the
verdict).
"""
