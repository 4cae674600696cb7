"""Mixtures of Gaussians for galaxy profiles and the PSF.

The exponential profile (Sersic index 1) ends at 4 half-light radii and the de Vaucouleurs profile (index 4)
at 8, as in the tractor.  Both are sums of the same six round Gaussians with weights of their own, so that a
galaxy with a fraction of either costs no more than one of them.  Variances and weights are a fit: for given
variances the weights come from non-negative least squares on the curve of growth between 0.02 and 16
half-light radii and on the Fourier transform, smoothed by a Gaussian of 0.25 half-light radii; the variances
come from a simplex search over the sum of both misfits.  The enclosed flux differs from the profiles' by at
most 0.4 % (exponential) and 0.7 % (de Vaucouleurs) beyond 0.1 half-light radii.

Hogg & Lang (2013, PASP 125, 719) describe the method.
"""

from __future__ import annotations

import numpy as np

FWHM = 2.3548200450309493  #: of a Gaussian in units of its sigma, 2 sqrt(2 ln 2)

#: Variances of the Gaussians, in squared half-light radii.
VARIANCES = np.array(
    [1.07255445e-03, 1.57860948e-02, 1.11380234e-01, 4.76751243e-01, 1.62000348e00, 8.79982928e00]
)
EXPONENTIAL = np.array([2.37850341e-04, 8.28672691e-03, 1.00374379e-01, 4.16142530e-01, 4.74986357e-01, 0])
DE_VAUCOULEURS = np.array([0.0345558, 0.11184852, 0.1879902, 0.19249785, 0.22141308, 0.25173705])
EXPONENTIAL /= EXPONENTIAL.sum()
DE_VAUCOULEURS /= DE_VAUCOULEURS.sum()

#: The PSF: fractions of the light in its core and its wings, and their sigmas in units of FWHM / 2.3548.
PSF_FRACTIONS = np.array([0.75, 0.25])
PSF_SIGMAS = np.array([0.96164, 1.92328])

#: Every Gaussian of a galaxy seen through the PSF: weights for either profile, variance of the galaxy
#: (squared half-light radii) and of the PSF (squared sigmas).
WEIGHTS_EXP = np.outer(EXPONENTIAL, PSF_FRACTIONS).ravel()
WEIGHTS_DEV = np.outer(DE_VAUCOULEURS, PSF_FRACTIONS).ravel()
GALAXY_VARIANCES = np.repeat(VARIANCES, len(PSF_FRACTIONS))
PSF_VARIANCES = np.tile(PSF_SIGMAS**2, len(VARIANCES))
