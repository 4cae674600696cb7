"""Evaluation of referees on a training set: all numbers of a report; `obiwan.dplearn.report` shows them.

`ensemble` (scores of any referees, and files of those of networks), `bins`, `occlusion`, `gallery` (parts of
the result), `notices` (alarms and cautions) -> `analysis` (the record of an evaluation, and its numbers from
scores), `ideal` (the ideal observer of a mock survey) -> `study` (the whole evaluation).
"""
