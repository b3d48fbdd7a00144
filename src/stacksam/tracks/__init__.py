"""Tracks: review scores, lineages, divisions, and following in four dimensions.

As in :mod:`stacksam`, the names load their modules on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacksam.tracks.divisions import (
        Daughter,
        Division,
        accept,
        follow_with_divisions,
        propose_divisions,
        reject,
    )
    from stacksam.tracks.four_d import VolumeFollower
    from stacksam.tracks.lineage import (
        Event,
        check_lineage,
        descendants,
        events,
        generations,
        roots,
        seen_frames,
        spans_of,
        tracks_data,
    )
    from stacksam.tracks.scoring import DivisionScores, division_scores
    from stacksam.tracks.tree import TreeLayout, lineage_tree, tree_layout
    from stacksam.tracks.volume_update import VolumePrompt, VolumeUpdate
    from stacksam.tracks.volumes import Volumes, open_volumes

__all__ = [
    "Daughter",
    "Division",
    "DivisionScores",
    "Event",
    "TreeLayout",
    "VolumeFollower",
    "VolumePrompt",
    "VolumeUpdate",
    "Volumes",
    "accept",
    "check_lineage",
    "descendants",
    "division_scores",
    "events",
    "follow_with_divisions",
    "generations",
    "lineage_tree",
    "open_volumes",
    "propose_divisions",
    "reject",
    "roots",
    "seen_frames",
    "spans_of",
    "tracks_data",
    "tree_layout",
]

# Public name -> the module that defines it.
_HOMES = {
    "Daughter": "divisions",
    "Division": "divisions",
    "DivisionScores": "scoring",
    "Event": "lineage",
    "TreeLayout": "tree",
    "VolumeFollower": "four_d",
    "VolumePrompt": "volume_update",
    "VolumeUpdate": "volume_update",
    "Volumes": "volumes",
    "accept": "divisions",
    "check_lineage": "lineage",
    "descendants": "lineage",
    "division_scores": "scoring",
    "events": "lineage",
    "follow_with_divisions": "divisions",
    "generations": "lineage",
    "lineage_tree": "tree",
    "open_volumes": "volumes",
    "propose_divisions": "divisions",
    "reject": "divisions",
    "roots": "lineage",
    "seen_frames": "lineage",
    "spans_of": "lineage",
    "tracks_data": "lineage",
    "tree_layout": "tree",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module and keep it (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stacksam.tracks' has no attribute {name!r}")
    value: object = getattr(import_module(f"stacksam.tracks.{home}"), name)
    globals()[name] = value
    return value
