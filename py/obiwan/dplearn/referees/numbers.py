"""Base of the referees that rest on measured numbers: what they share, whatever they compute."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from obiwan.dplearn.errors import ModelError
from obiwan.dplearn.referees.measured import Measured, measure
from obiwan.dplearn.referees.population import Population
from obiwan.dplearn.stampspec import Array, StampSpec

LEARNT = 0.002  #: a training loss so far (nats) below that of a constant answer shows a fit


class MeasuredReferee(ABC):
    """Referee that scores measurements of stamps; concrete ones are frozen records.

    Attributes
    ----------
    kind : str
        Name of the kind of referee, as ``--referees`` has it.
    residuals : bool
        Whether it looks at residual images.
    spec : StampSpec
        Of the stamps that it scores.
    prior : tuple of str
        Columns of PSF widths that the measurements rest on that it was trained on.
    learnt : bool
        Whether it fitted its training set.
    """

    kind: ClassVar[str]
    residuals: ClassVar[bool] = False
    spec: StampSpec
    prior: tuple[str, ...]
    learnt: bool

    @classmethod
    @abstractmethod
    def train(
        cls, measured: Measured, labels: Array, seed: int, population: Population | None = None
    ) -> Self:
        """Train a referee.

        Parameters
        ----------
        measured : Measured
            Of n stamps.
        labels : ndarray, shape (n,)
            0 (real) or 1 (fake).
        seed : int
            Of what is random in the training.
        population : Population, optional
            Of a larger sample; that of `measured` by default.
        """

    @abstractmethod
    def logits(self, measured: Measured) -> Array:
        """Log odds of being fake, shape (n,)."""

    @property
    @abstractmethod
    def content(self) -> Mapping[str, Array]:
        """Arrays that say all that it computes."""

    @classmethod
    @abstractmethod
    def of(
        cls, spec: StampSpec, content: Mapping[str, Array], *, prior: tuple[str, ...], learnt: bool
    ) -> Self:
        """The referee of a `content`."""

    @property
    def name(self) -> str:
        """For people."""
        return self.kind

    @cached_property
    def checksum(self) -> str:
        """Name of what it computes: SHA-256 over arrays, kind, stamps and priors, sixteen hex digits."""
        own = [self.kind, self.spec.to_manifest(), list(self.prior)]
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
        for name, array in sorted(self.content.items()):
            whole = np.ascontiguousarray(array)
            digest.update(f"{name}{whole.dtype.str}{whole.shape}".encode())
            digest.update(whole.tobytes())
        return digest.hexdigest()[:16]

    def score(self, measured: Measured) -> NDArray[np.float32]:
        """Probabilities of being fake, shape (n,)."""
        return np.asarray(expit(self.logits(measured)), np.float32)

    def predict(self, stamps: NDArray[np.float32], rows: Array) -> NDArray[np.float32]:
        """Measure stamps and score them; see `obiwan.dplearn.referees.protocol.Referee`.

        Raises
        ------
        ModelError
            If the stamps are of another shape, or the rows lack a column of PSF widths that the measurements
            of the training set rested on.
        """
        if stamps.shape[1:] != self.spec.shape:
            msg = f"referee {self.name}: it was trained on stamps of shape {self.spec.shape}, these have "
            msg += f"{stamps.shape[1:]}; train it on a set like theirs (evaluate)"
            raise ModelError(msg)
        lacking = sorted(set(self.prior) - set(rows.dtype.names or ()))
        if lacking:
            msg = f"referee {self.name}: it was trained with {lacking[0]}, which these stamps lack; train it "
            msg += "on a set like theirs (evaluate)"
            raise ModelError(msg)
        measured = measure(stamps, rows, self.spec, prior=self.prior, residuals=self.residuals)
        return self.score(measured)

    def fit(self, stamps: NDArray[np.float32], rows: Array, labels: NDArray[np.uint8]) -> Self:
        """Measure stamps and train anew; see `obiwan.dplearn.referees.protocol.Trainable`."""
        return self.train(measure(stamps, rows, self.spec, residuals=self.residuals), labels, seed=0)


def fitted(labels: Array, logits: Array) -> bool:
    """Whether the loss of a training set is below that of a constant answer."""
    share = float(np.mean(labels))
    constant = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    loss = np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean()
    return bool(np.ptp(logits) > 0 and loss < constant - LEARNT)


def arrays_of(record: Any, prefix: str) -> dict[str, Array]:
    """The fields of a flat record as arrays, under names that begin with a prefix and a dot."""
    return {f"{prefix}.{one.name}": np.asarray(getattr(record, one.name)) for one in fields(record)}


def fields_of(content: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with a prefix and a dot, under the names of the fields."""
    return {
        name.removeprefix(f"{prefix}."): content[name] for name in content if name.startswith(prefix + ".")
    }
