"""The answer as files: one page, its figures, the numbers and the scores.

What goes in is an `obiwan.dplearn.evaluation.records.Evaluation`, which knows nothing of how it is shown.

The road inside: `formatting`, `wording` (what is said) and `charts`, `stamps` (what is drawn) -> `pictures`,
`figures` (drawings with captions) -> `page` (HTML) -> `output` (all of it on disk, whole or not at all).
"""
