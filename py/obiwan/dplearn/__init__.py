"""Can a neural network tell injected galaxies from real ones?

The modules, in the order in which a galaxy meets them: `layouts`, `catalogs`,
`matching`, `selection`, `coadds`, `cutouts`, `splits`, `shards`, `create_training`;
then `batches`, `model`, `training`, `cnn`.  `mock` makes a survey to practise on.

Importing this package loads nothing heavy: no TensorFlow, GalSim or matplotlib.
"""

__version__ = "0.1.0.dev0"
