"""Says where no native plane was built, and why, in one line: ``python -m relay.plane_native``."""

from __future__ import annotations

import sys

from relay.plane_native import WHY_NOT

if WHY_NOT is not None:
    sys.stderr.write(f"The media plane is the one in Python; there is no native one: {WHY_NOT}.\n")
