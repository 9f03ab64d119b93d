"""Transports for ``client=`` that do something in the middle of an AU10001."""

import requests
import requests.adapters


class Trap(requests.adapters.HTTPAdapter):
    """Sends as usual, and does something before it gives the answer."""

    def __init__(self, spring):
        super().__init__()
        self._spring = spring

    def send(self, *args, **options):
        answer = super().send(*args, **options)
        assert answer.content  # the whole answer is here
        try:
            self._spring()
        except BaseException:
            answer.close()
            raise
        return answer


def session_with(spring):
    """A requests.Session for ``client=`` in whose exchanges ``spring`` is called."""
    session = requests.Session()
    session.mount("http://", Trap(spring))
    return session
