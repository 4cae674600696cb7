"""Records of the control battery: a control with its state, and the limits that effects are held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum

from obiwan.dplearn.twosample.ranking import Estimate

LEAST = 5  #: examples of each class in which a number must have been measured
AUC = 0.02  #: excess over 0.5 of a number by itself, which is the default margin of the verdict
FRACTION = 2 * AUC  #: of examples with one value of a label, whose AUC by itself is half of that
ASSOCIATION = 0.035  #: Cramer's V that by itself gives an AUC of 0.52
OFFSET = 0.02  #: pixels; what placement can be held to (hazard D2)
FLUX = 0.02  #: ln of a flux; what a fit can be held to
#: Hazards that make a set invalid: how it was cut, written and labelled.  The others are about the galaxies.
VALIDITY = frozenset({"D1", "D3", "D4", "D9", "D14", "D15", "D16", "D18"})
_NAN = float("nan")


class State(StrEnum):
    """State of a control."""

    FAIL = "fail"  #: the difference is significant in its family, and greater than the limit
    WARN = "warn"  #: significant, and not greater than the limit
    PASS = "pass"  #: not significant, and the interval of the effect lies within the limit
    OPEN = "open"  #: neither: the limit is not excluded
    NOT_RUN = "not run"


class Statistic(Enum):
    """How the classes are compared."""

    SHIFT = "shift"  #: difference of Huber locations, in the number's own unit
    DISTRIBUTION = "distribution"  #: location, spread and skewness of ranks, in units of an AUC
    COMPOSITION = "composition"  #: fraction of each value of a label
    RECOVERY = "recovery"  #: Huber location of fit less truth of injections alone, in the number's own unit
    ASSOCIATION = "association"  #: Cramer's V of class and label; chi-square or exact sampling


class Obstacle(Enum):
    """Why a control was not run."""

    OTHER_ORIGIN = "other origin"  #: one class has its catalogue's numbers from truth or a table of the user
    NO_IVAR = "no ivar"  #: the stamps have no inverse variance planes
    TOO_FEW = "too few"  #: measured of fewer than `LEAST` examples of a class
    NO_TRUTH = "no truth"  #: fewer than `LEAST` injections of which truth and fit are known
    TWO_INJECTORS = "two injectors"  #: each class is the injections of other runs, as it was asked for
    NOT_JUDGED = "not judged"  #: measured, but no failure: positions are not all from one catalogue of fits


@dataclass(frozen=True)
class Control:
    """One comparison of the classes.

    Attributes
    ----------
    name : str
        What is compared, such as ``centroid x``.
    hazard : str
        The hazard that it looks for, ``D1`` to ``D20``.
    band : str
        Empty where it is of no band.
    statistic : Statistic
    unit : str
        Of the number that is compared; also that of the effect of a `Statistic.SHIFT`.
    threshold : float
        Limit: a significant difference that is greater fails.
    gravest : State
        `State.WARN` where even that only warns.
    state : State
    obstacle : Obstacle or None
        Why it was not run.
    effect : float
        Size of the difference, fake less real: of several components the one that decides the state.
    component : str
        Which that is: one of `obiwan.dplearn.controls.contrasts.MOMENTS`, or a value of a label.
    low, high : float
        95 % interval of the effect.
    bounded : bool
        Whether the intervals of all components lie within the limit.
    p, p_family : float
        p-value of the effect, and the one that allows for all controls of its family.
    detectable : float
        Effect that this set finds with a power of 80 % at the level of its family; infinite where the family
        cannot reach its level with so few bricks.
    real, fake : Estimate or None
        Where each class lies: its location with an interval, else its median (mean where values are few);
        real galaxies have no place in a `Statistic.RECOVERY`.
    counts : tuple of int
        Real and fake examples in which it was measured.
    bricks : int
        Bricks of the class that is found in fewer.
    rests_on_bricks : bool
        Whether test and interval rest on bricks; else they hold for these bricks only.
    values : int
        Different values.
    """

    name: str
    hazard: str
    band: str = ""
    statistic: Statistic = Statistic.DISTRIBUTION
    unit: str = ""
    threshold: float = AUC
    gravest: State = State.FAIL
    state: State = State.NOT_RUN
    obstacle: Obstacle | None = None
    effect: float = _NAN
    component: str = ""
    low: float = _NAN
    high: float = _NAN
    bounded: bool = False
    p: float = _NAN
    p_family: float = _NAN
    detectable: float = _NAN
    real: Estimate | None = None
    fake: Estimate | None = None
    counts: tuple[int, int] = (0, 0)
    bricks: int = 0
    rests_on_bricks: bool = False
    values: int = 0

    @property
    def validity(self) -> bool:
        """Whether a difference makes the set invalid; else it is about the galaxies."""
        return self.hazard in VALIDITY

    @property
    def significant(self) -> bool:
        """Whether the classes differ, by more than the limit or less."""
        return self.state in (State.FAIL, State.WARN)

    @property
    def excess(self) -> float:
        """Absolute effect in units of the limit; NaN where it was not run."""
        return abs(self.effect) / self.threshold if math.isfinite(self.effect) else _NAN
