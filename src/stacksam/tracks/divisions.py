"""Divisions: proposed from what is known of objects, with a confidence; accepted or rejected by a person.

A model that follows one object through a division does one of three things, and each leaves its mark:

- its mask keeps both daughters, and *falls into two parts*;
- its mask *goes on as one daughter*, so it halves, while the other is a newcomer beside it, or no object yet;
- its mask is *lost*, while two newcomers appear where it was.

Each is a parent P, with its mask on the frame before, and two daughters with their first masks. The
confidence is a product of factors, each 0 to 1 and each with a name; between two bounds it changes evenly:

=========== =============================================================================================
balance     area of the smaller daughter, as a share of the larger one's: 0 up to 0.2, 1 from 0.6 on
size        area of both daughters, as a share of P's: 1 from 0.7 to 1.35, 0 at 0.35 and below and at 2 and
            above
overlap     share of P's mask that the daughters cover: 0.2 at none, 1 from 0.5 on
distance    from P's centre to the middle between the daughters' centres, in diameters of P: 1 up to 0.3,
            0 at 1; times the same for the distance between the daughters: 1 from 0.35 to 1.4, 0 at 0.1 and
            at 2.2
persistence share of the three frames from the division on, on which both daughters are told apart: in two
            parts of P of comparable size, as P at no more than 0.8 of its area, or as objects of their own.
            Frames of which nothing is known yet count half, and one between P and the division, which
            shows neither, is a fourth that does not count
alone       share of either daughter, the worse, that other objects cover: 1 up to 0.1, 0 at 0.5
=========== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stacksam.errors import InputError
from stacksam.session.prompts import Mask, Point, check_frame
from stacksam.session.regroup import pieces
from stacksam.session.session import Session
from stacksam.tracks.evidence import Known, Part, from_labels, from_session, ramp

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Daughter", "Division", "accept", "follow_with_divisions", "propose_divisions", "reject"]

LEAST = 0.1  # confidence of what is worth to be asked
LOOK_AHEAD = 3  # frames from the division on, that tell whether it lasts

_NEAR = 2.2  # diameters of the parent between it and a newcomer, at most
_MISSING = 0.7  # of the parent's area, at most, for another daughter to be asked for
_HALVED = 0.8  # of the parent's area, at most, where it went on as one daughter
_SAME = 2  # frames between two proposals that are the same division

_Probe = Callable[[int, Part, Part], "Part | None"]


@dataclass(frozen=True, slots=True, eq=False)
class Daughter:
    """A daughter on its first frame.

    Attributes
    ----------
    object_id : int or None
        The object that it is, which may be the parent, if that went on as this daughter. None where it is no
        object yet.
    frame : int
        On which the mask is seen: that of the division, or soon after it.
    bbox : (int, int, int, int)
        Half-open ``(y0, x0, y1, x1)`` of the mask in frame pixels.
    mask : bool array of the bounding box's shape
    """

    object_id: int | None
    frame: int
    bbox: tuple[int, int, int, int]
    mask: NDArray[np.bool_]

    @property
    def part(self) -> Part:
        """Its mask."""
        return Part(self.bbox, self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """A division that may have happened.

    Attributes
    ----------
    frame : int
        The first frame on which there are two.
    parent : int
        Object id.
    daughters : tuple of two Daughter
    confidence : float
        0 to 1, the product of the factors. An order of looking, not a probability.
    factors : dict of str to float
        By name, see the module's text.
    """

    frame: int
    parent: int
    daughters: tuple[Daughter, Daughter]
    confidence: float
    factors: dict[str, float] = field(default_factory=dict)


def propose_divisions(
    source: Session | Sequence[NDArray[Any]] | NDArray[Any],
    *,
    first: int | None = None,
    last: int | None = None,
    at_least: float = LEAST,
    lineage: nx.DiGraph | None = None,
    probe: bool = True,
) -> list[Division]:
    """Propose divisions of objects that have no daughters yet.

    Parameters
    ----------
    source : Session, (T, H, W) int array, or sequence of (H, W) int array
        A session, or labels of all frames.
    first, last : int, optional
        Frames between which divisions are looked for, both included; all by default.
    at_least : float
        Least confidence of a proposal.
    lineage : networkx.DiGraph, optional
        Links that are known, for labels; a session knows its own.
    probe : bool
        Whether a session's model is asked for a daughter that is missing, where a mask halves. Nothing is
        changed by that.

    Returns
    -------
    list of Division
        By frame, then by falling confidence. An object and a newcomer are in one proposal at most, the most
        confident. None is within two frames of one that was rejected, or contradicts a prompt or an accepted
        frame.

    Raises
    ------
    InputError
        If labels are not frames of integers.
    """
    ask: _Probe | None = None
    if isinstance(source, Session):
        known = from_session(source)
        ask = _asking(source) if probe else None
    else:
        known = from_labels(source, lineage)
    low, high = 1 if first is None else max(first, 1), known.last if last is None else last
    found = [
        division
        for parent in known.seen
        if parent not in known.parents.values()
        for division in _of(known, parent, low, high, ask)
        if division.confidence >= at_least
    ]
    return sorted(_best(found), key=lambda division: (division.frame, -division.confidence))


def accept(session: Session, division: Division) -> tuple[int, int]:
    """Make it so, as one action: the parent ends, the daughters begin on their masks, and are linked.

    Returns
    -------
    tuple of int
        Ids of the daughters, in the division's order.

    Raises
    ------
    InputError
        If the session has changed so that it cannot be, as :meth:`stacksam.Session.divide` says.
    """
    shape = session.stack.frame_shape
    daughters: list[int | NDArray[np.bool_]] = [
        daughter.part.full(shape) if daughter.object_id is None else daughter.object_id
        for daughter in division.daughters
    ]
    one, other = session.divide(division.parent, division.frame, daughters)
    return one, other


def reject(session: Session, division: Division) -> None:
    """Say that it is none; it is not proposed again.

    Raises
    ------
    InputError
        If the parent is no object any more.
    """
    session.reject_division(division.parent, division.frame)


def follow_with_divisions(
    session: Session,
    *,
    first: int | None = None,
    last: int | None = None,
    threshold: float = 0.5,
    decide: Callable[[Division], bool | None] | None = None,
    newcomers: Callable[[Session, int], Iterable[NDArray[np.bool_]]] | None = None,
) -> Iterator[Division]:
    """Follow all objects forward, frame by frame, and go on with daughters where they divide.

    A division is judged when all frames are there that its confidence looks at, or the last frame is reached.

    Parameters
    ----------
    session : Session
        With prompts.
    first, last : int, optional
        Frames to work on, both included; all by default.
    threshold : float
        Divisions of at least this confidence are accepted, others left alone; :func:`propose_divisions` gives
        them again.
    decide : callable, optional
        Asked of every proposal instead: True accepts it, False rejects it, None leaves it alone.
    newcomers : callable, optional
        Gives masks (H, W) of objects that have come on a frame, and which the session does not have yet; each
        becomes an object before divisions are looked for.

    Yields
    ------
    Division
        Those accepted, in their order.

    Raises
    ------
    InputError
        If there are no prompts, or an argument does not fit the stack.
    """
    n = session.stack.n_frames
    low = 0 if first is None else check_frame(first, n)
    high = n - 1 if last is None else check_frame(last, n)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; use 0 to 1")
    least = LEAST if decide is not None else threshold
    if not session.object_ids:
        raise InputError("there are no prompts; add a point, a box or a mask before following")
    for frame in range(low, high + 1):
        since = max(low, frame - LOOK_AHEAD)  # all before that is done
        _follow(session, since, frame)
        for mask in newcomers(session, frame) if newcomers is not None else ():
            session.add(Mask(frame, session.next_id, mask))
        due = frame - LOOK_AHEAD + 1
        # Later ones are asked for as well: a better one hides what is the same division, a little too early.
        for division in propose_divisions(session, first=max(due, low), last=frame, at_least=least):
            if division.frame > due and frame < high:
                continue
            yes = decide(division) if decide is not None else division.confidence >= threshold
            if yes:
                accept(session, division)
                yield division
            elif yes is False and decide is not None:
                reject(session, division)
        _follow(session, since, frame)


def _follow(session: Session, first: int, last: int) -> None:
    for _ in session.propagate("forward", first=first, last=last):
        pass


# What one object may have done


def _of(known: Known, parent: int, low: int, high: int, ask: _Probe | None) -> Iterator[Division]:
    """Divisions of one object."""
    settled = known.settled.get(parent, set())
    rejected = [frame for object_id, frame in known.rejected if object_id == parent]
    for frame in sorted({f + 1 for f in known.seen[parent]}):
        if not low <= frame <= high or any(abs(frame - other) <= _SAME for other in rejected):
            continue
        before, now = known.part(parent, frame - 1), known.part(parent, frame)
        if before is None:
            continue
        near = _newcomers(known, parent, before, frame)
        if now is None:
            for i, one in enumerate(near):
                for other in near[:i]:
                    yield _judged(known, parent, frame, before, (other, one), "lost")
            continue
        if not any(f >= frame for f in settled):
            two = _two(now)
            if two is not None and _two(before) is None:
                pair = tuple(Daughter(None, frame, part.bbox, part.mask) for part in two)
                yield _judged(known, parent, frame, before, (pair[0], pair[1]), "parts")
        own = Daughter(parent, frame, now.bbox, now.mask)
        yield from (_judged(known, parent, frame, before, (own, one), "halved") for one in near)
        earlier = known.part(parent, frame - 2)
        if earlier is not None and now.area < _MISSING * earlier.area:
            # The frame between shows one daughter and something of the other, and is neither.
            yield from (
                _judged(known, parent, frame, earlier, (own, one), "halved", unclear=1) for one in near
            )
        if ask is not None and not near and frame not in settled:
            yield from _with_probe(known, own, before, ask)


def _with_probe(known: Known, own: Daughter, before: Part, ask: _Probe) -> Iterator[Division]:
    """Divisions of an object that halved, where the other daughter is no object yet."""
    parent, frame = own.object_id or 0, own.frame
    for lag in (1, 2):
        # With 2, the frame between shows the one and something of the other, and is neither.
        was = before if lag == 1 else known.part(parent, frame - 2)
        if was is None or own.part.area >= _MISSING * was.area:
            continue
        other = ask(frame, was, own.part)
        if other is not None:
            sister = Daughter(None, frame, other.bbox, other.mask)
            yield _judged(known, parent, frame, was, (own, sister), "halved", unclear=lag - 1)


def _newcomers(known: Known, parent: int, before: Part, frame: int) -> list[Daughter]:
    """Objects near the parent that are first seen on the frame or the next one, and have no parent."""
    found = []
    for begin in (frame, frame + 1):
        for object_id in known.on_frame(begin):
            if object_id == parent or object_id in known.parents or known.seen[object_id][0] != begin:
                continue
            part = known.part(object_id, begin)
            if part is None or np.hypot(*(part.centre - before.centre)) > _NEAR * before.diameter:
                continue
            found.append(Daughter(object_id, begin, part.bbox, part.mask))
    return found


def _two(part: Part) -> tuple[Part, Part] | None:
    """The two largest pieces of a mask, with all others, if they are of comparable size."""
    found = pieces(part.mask)
    if len(found) < 2:
        return None
    one, other = (Part.of(piece, part.bbox[:2]) for piece in found[:2])
    if one is None or other is None or other.area < 0.2 * one.area:
        return None
    return one, other


def _judged(
    known: Known,
    parent: int,
    frame: int,
    before: Part,
    daughters: tuple[Daughter, Daughter],
    kind: str,
    unclear: int = 0,
) -> Division:
    """A division with its factors."""
    one, other = daughters[0].part, daughters[1].part
    middle, diameter = (one.centre + other.centre) / 2, before.diameter
    aside = float(np.hypot(*(middle - before.centre))) / diameter
    apart = float(np.hypot(*(one.centre - other.centre))) / diameter
    total = (one.area + other.area) / before.area
    covered = (one.shared(before) + other.shared(before)) / before.area
    distance = ramp(aside, 1.0, 0.3) * ramp(apart, 0.1, 0.35) * ramp(apart, 2.2, 1.4)
    factors = {
        "balance": ramp(min(one.area, other.area) / max(one.area, other.area), 0.2, 0.6),
        "size": ramp(total, 0.35, 0.7) * ramp(total, 2.0, 1.35),
        "overlap": 0.2 + 0.8 * ramp(covered, 0.0, 0.5),
        "distance": distance,
        "persistence": _persistence(known, parent, frame, before, daughters, kind, unclear),
        "alone": ramp(_covered(known, parent, daughters), 0.5, 0.1),
    }
    return Division(frame, parent, daughters, float(np.prod(list(factors.values()))), factors)


def _persistence(
    known: Known,
    parent: int,
    frame: int,
    before: Part,
    daughters: tuple[Daughter, Daughter],
    kind: str,
    unclear: int = 0,
) -> float:
    """Share of the frames from the division on, on which both daughters are told apart."""

    def lasts(later: int) -> float:
        if later > known.last:
            return 0.5
        part = known.part(parent, later)
        if kind == "parts":
            return float(part is not None and _two(part) is not None)
        if kind == "halved" and (part is None or part.area > _HALVED * before.area):
            return 0.0
        others = [d for d in daughters if d.object_id not in (None, parent)]
        # A newcomer that is found a frame late was there.
        return float(all(later < d.frame or known.part(d.object_id or 0, later) is not None for d in others))

    return sum(lasts(frame + k) for k in range(LOOK_AHEAD)) / (LOOK_AHEAD + unclear)


def _covered(known: Known, parent: int, daughters: tuple[Daughter, Daughter]) -> float:
    """The larger of the daughters' shares that other objects cover."""
    own = {parent, *(daughter.object_id for daughter in daughters)}
    shares = [0.0]
    for daughter in daughters:
        part = daughter.part
        for object_id in known.on_frame(daughter.frame):
            other = None if object_id in own else known.part(object_id, daughter.frame)
            if other is not None:
                shares.append(part.shared(other) / part.area)
    return max(shares)


def _best(found: list[Division]) -> list[Division]:
    """The most confident ones, so that no parent divides twice and no newcomer has two parents."""
    kept: list[Division] = []
    for division in sorted(found, key=lambda d: (-d.confidence, d.frame, d.parent)):
        ids = {d.object_id for d in division.daughters} - {None, division.parent}
        clash = any(
            (division.parent == other.parent and abs(division.frame - other.frame) <= LOOK_AHEAD)
            or ids & {d.object_id for d in other.daughters}
            for other in kept
        )
        if not clash:
            kept.append(division)
    return kept


def _asking(session: Session) -> _Probe:
    """Ask the model for the other daughter: opposite of the one that the mask went on as."""

    def ask(frame: int, before: Part, now: Part) -> Part | None:
        height, width = session.stack.frame_shape
        y, x = (2 * before.centre - now.centre).tolist()
        if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
            return None
        if np.hypot(*(before.centre - now.centre)) < 0.1 * before.diameter:
            return None  # it shrank where it is
        here = (float(now.centre[0]), float(now.centre[1]))
        said = Point(frame, 1, (y, x)), Point(frame, 1, here, positive=False)
        update = session.preview(*said)
        part = Part.of(update.mask, update.bbox[:2])
        return None if part is None or part.shared(now) > 0.3 * part.area else part

    return ask
