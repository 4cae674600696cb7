"""Galaxy fit: one model fitted to the pixels of every stamp, blind to class and catalogued shape.

`profiles` (mixtures of Gaussians), `model` (parameters, light and its slopes), `noise` (pixels and their
inverse variances), `neighbours` (what is not the galaxy's), `solver` (Levenberg-Marquardt), `score_tests`
(what the model holds fixed), `leftovers` (what else the fit leaves), `fits` (the results of many stamps),
`table` (the same in FITS files).
"""
