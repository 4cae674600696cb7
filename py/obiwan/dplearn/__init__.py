"""Can a neural network tell injected galaxies from real ones?

The rooms, in the order in which a galaxy meets them: `survey`, `planning`, `trainingset`, `cutting`; then
`training`; then `twosample`, `controls`, `retraining`, `evaluation`, `report`.  `mock` makes a survey to
practise on.  The programs are `create_training`, `cnn`, `evaluate` and `mosaic`.

Importing this package loads nothing heavy: no TensorFlow, GalSim or matplotlib.
"""

__version__ = "0.1.0.dev0"
