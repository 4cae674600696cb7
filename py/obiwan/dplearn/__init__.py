"""Two-sample tests of injected against real galaxies: training sets, networks, verdicts.

Packages in the order of the data: `survey`, `planning`, `trainingset`, `cutting`; then `training` and
`referees`; then `twosample`, `controls`, `retraining`, `evaluation`, `report`.  `mock` makes a survey to
practise on, `stampspec` says what stamps are.  The programs are `create_training`, `cnn`, `evaluate`,
`mosaic` and `mock`.

Importing this package loads nothing heavy: no TensorFlow, GalSim or matplotlib.
"""

__version__ = "0.1.0.dev0"
