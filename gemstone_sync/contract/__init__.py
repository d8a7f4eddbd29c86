"""What a method's signature promises: parameters bound and validated before the call.

Reading order: `hints` (resolving and checking one annotation), `binding` (a whole signature).
"""

from .binding import ParameterBinder

__all__ = ["ParameterBinder"]
