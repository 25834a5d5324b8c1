# ruff: noqa: N818  # the names say what happened, as those of httpx do
"""What can go wrong between the exporter and the API.

ApiError
  Unauthorized    401, 403, or a token that cannot be sent
  NotFound        404 from the API itself
  Refused         any other 3xx and 4xx
  Throttled       429 that asks for a longer wait than the poll has
  ServerError     5xx
  Unreachable     no answer, or only a part of one
  Unreadable      an answer that cannot be understood
    Rejected      an answer with a single record that cannot be understood
  Incomplete      a listing whose pages have fewer records than it counts
  OutOfBudget     not sent, because a limit or the reserve does not allow it in time
"""

from __future__ import annotations


class ApiError(Exception):
    """A request or a listing failed.

    The text says what was found, where, and what to do. It never contains the token.
    """

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        """The value of the label `endpoint` in the exporter's own metrics."""


class Unauthorized(ApiError):
    """The token was refused, or is no token at all. Another token is needed."""


class NotFound(ApiError):
    """The API does not know what was asked for."""


class Refused(ApiError):
    """The API, or a proxy before it, refuses this request. Asking again would change nothing."""


class Throttled(ApiError):
    """Too many requests: the API asks to wait until after the poll's end."""

    def __init__(self, endpoint: str, message: str, until: float) -> None:
        super().__init__(endpoint, message)
        self.until = until
        """When the next request may be sent, in Unix seconds."""


class ServerError(ApiError):
    """The API failed, each time it was asked."""


class Unreachable(ApiError):
    """No whole answer came: the name, the connection or TLS failed, or a time limit was reached."""


class Unreadable(ApiError):
    """A whole answer came, and it is not what the API's document describes."""


class Rejected(Unreadable):
    """The answer's only record could not be understood. What was asked for exists."""


class Incomplete(ApiError):
    """A listing has fewer records than it counts, or its pages do not end."""


class OutOfBudget(ApiError):
    """Not sent, to stay within a limit or to leave the token's other users their share."""

    def __init__(self, endpoint: str, message: str, until: float) -> None:
        super().__init__(endpoint, message)
        self.until = until
        """When the next request may be sent, in Unix seconds."""
