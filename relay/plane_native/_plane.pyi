"""Types of the extension: to its users a native plane is any ``Plane``."""

from relay.plane import Plane

def NativePlane() -> Plane: ...
