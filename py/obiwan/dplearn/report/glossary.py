"""What the words of a report mean, a line each, for readers of statistics or of galaxies."""

GLOSSARY = (
    (
        "AUC",
        "area under the ROC curve: of a fake and a real galaxy drawn at random, how often the fake has the "
        "higher score.",
    ),
    (
        "blank pixels, blank core",
        "shares of pixels without data (ivar = 0): of the stamp, and of its centre.",
    ),
    (
        "centroid",
        "where the light at the centre of the stamp lies, in pixels from where the source should be.",
    ),
    ("centroid scatter", "how far single centroids lie from the mean of their class."),
    ("concentration", "light in a window of 1.25 pixels over that in one of 2.5."),
    (
        "cross-entropy",
        "the mean of minus the log of the probability that was given to the true class; ln 2 = 0.6931 for a "
        "network that always says one half.",
    ),
    ("D1 to D20", "hazards: ways in which something other than the galaxies can give fakes away."),
    ("design effect", "how many times fewer independent examples these are worth for sharing bricks."),
    ("half-light radius", "contains half of a galaxy's light; where said so, after the PSF."),
    ("Holm", "a correction of p-values for there being several, so that a false alarm among all is as rare."),
    ("isotonic recalibration", "a rising staircase from scores to the shares of fakes among such scores."),
    (
        "ivar",
        "inverse variance of a pixel (1/nanomaggies squared); 0 where there are no data.",
    ),
    ("ivar dip", "how much lower ivar is at the centre than around it: the photons of the galaxy itself."),
    (
        "ivar levels, ivar step",
        "how many different values a row of an ivar plane has for its pixels, and how far apart the nearest "
        "two are: traces of how the file was compressed.",
    ),
    (
        "Jensen-Shannon divergence",
        "a distance between two populations in nats: 0 if they are alike, ln 2 = 0.6931 if every example "
        "shows which it is of.",
    ),
    (
        "KS distance beyond chance",
        "largest distance between the cumulative distributions of the two classes, less what as many "
        "examples of one population would show.",
    ),
    ("log odds", "log of P(fake) / P(real)."),
    ("margin", "how far from 0.5 an AUC may lie and still count as equivalent to guessing."),
    ("S/N", "signal to noise of the fitted flux."),
    (
        "total variation",
        "share of one population that would have to be replaced to make it the other: 0 to 1.",
    ),
)
