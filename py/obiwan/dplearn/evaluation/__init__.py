"""Evaluation of referees on a training set: all numbers of a report; `obiwan.dplearn.report` shows them.

`ensemble` (scores of any referees), `networks` (those of Keras, with their files), `samples` (stamps read
for controls and occlusion), `bins`, `occlusion`, `ideal`, `gallery` (parts of the result) -> `records` ->
`analysis` (numbers from scores), `notices` (alarms and cautions) -> `study` (the whole evaluation).
"""
