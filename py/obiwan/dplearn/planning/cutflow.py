"""How many survive each cut: counted, added over bricks, laid out side by side for both classes."""

from __future__ import annotations

import numpy as np

from obiwan.dplearn.stampspec import Array

CutFlow = dict[str, int]  #: cut name to number of survivors, in the order of the cuts
Flows = dict[str, CutFlow]  #: cut flow of each class name, in the order of the labels


def count(flow: CutFlow, name: str, keep: Array | int) -> None:
    """Add the survivors of a cut to a cut flow."""
    number = int(keep) if isinstance(keep, int) else int(np.count_nonzero(keep))
    flow[name] = flow.get(name, 0) + number


def added(total: CutFlow, flow: CutFlow) -> CutFlow:
    """The sum of two cut flows, of any bricks in any order; the order of cuts is that of the longer flow."""
    longer = max(total, flow, key=lambda one: (len(one), list(one)))
    names = {**longer, **total, **flow}
    return {name: total.get(name, 0) + flow.get(name, 0) for name in names}


def flow_table(real: CutFlow, fake: CutFlow) -> str:
    """Lay out both cut flows side by side, one line per cut, '-' where a cut is not of the class."""
    rows = merged(real, fake)
    width = max([len("after the cut"), *(len(name) for name, *_ in rows)])
    lines = [f"{'after the cut':<{width}}  {'real':>10}  {'fake':>10}"]
    for name, *numbers in rows:
        cells = ["-" if number is None else f"{number:,}" for number in numbers]
        lines.append(f"{name:<{width}}  {cells[0]:>10}  {cells[1]:>10}")
    return "\n".join(lines)


def merged(real: CutFlow, fake: CutFlow) -> list[tuple[str, int | None, int | None]]:
    """Both cut flows as one, in the order of both as far as they agree.

    Returns
    -------
    list of tuple
        Name and survivors of each class, None where a cut is not of the class.
    """
    names: list[str] = []
    rest = list(fake)
    for name in real:
        if name in rest:
            at = rest.index(name)
            names += [other for other in rest[:at] if other not in real]
            rest = rest[at + 1 :]
        names.append(name)
    names += [name for name in rest if name not in names]
    return [(name, real.get(name), fake.get(name)) for name in names]
