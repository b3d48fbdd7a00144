"""Sessions whose predictor sees made discs, so that divisions are told without a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))  # for random_model
sys.path.insert(0, str(Path(__file__).parent))  # for knowing
