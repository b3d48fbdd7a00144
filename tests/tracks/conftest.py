"""The random model and the disc painter of the session's tests are of use here, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "session"))
