"""Report of an evaluation: an HTML page, figures, numbers and scores.

The input is an `obiwan.dplearn.evaluation.analysis.Evaluation`: facts and numbers.  `sentences` reads all
English text from ``html/text.toml``; `formatting`, `wording` and `sections` put facts into it; `charts` and
`stamps` draw -> `pictures`, `figures` (drawings with captions) -> `page` (HTML) -> `output` (files, written
atomically).
"""
