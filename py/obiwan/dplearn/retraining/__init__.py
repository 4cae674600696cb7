"""Training the same network again: on parts of the cutouts, and on differences that are known.

The road inside: `views` (a training set seen through an edit), `planting` (what is drawn into one half) ->
`runs` (train and score) -> `ablations` (what is left when a part is hidden), `sensitivity` (the positive
control).
"""
