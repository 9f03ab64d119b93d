"""The way that an exchange goes, and for whom a failure on it counts."""

from collections.abc import Hashable
from typing import NamedTuple

from .errors import KiwoomAuthError


class Route(NamedTuple):
    """The way that an exchange goes."""

    client: object
    """The user's ``client=``, or None."""
    timeout: float
    """Seconds that it may take."""
    library: str
    """What sends; the same for all who have a ``client=``."""

    def scope(self, failure: KiwoomAuthError) -> Hashable:
        """For whom a failure counts: for each route on which this is the same.

        What the server has said counts for all. What is on the way counts for those who go it: a network that fails
        does so for every library, while each has its own idea of proxies and certificates.
        """
        if failure.status_code is not None:
            return None
        return id(self.client), self.timeout, self.library if failure.local else None
