# ruff: noqa: N818 - the names say what happened, as those of httpx do
"""What can go wrong between us and the API.

ApiError
  Unauthorized    401, 403, or a token that cannot be sent
  NotFound        404, by the API itself
  Refused         any other 3xx and 4xx
  Throttled       429 that asks for a longer wait than the poll has
  ServerError     5xx
  Unreachable     no answer, or one that broke off
  Unreadable      an answer that cannot be understood
    Rejected      one that holds a single record, and that record cannot be understood
  Incomplete      pages that were all read and do not add up
  OutOfBudget     not sent: the pacing or the reserve does not allow it in time
"""

from __future__ import annotations


class ApiError(Exception):
    """A request, or a listing, that did not bring what it was sent for.

    The text says what was found, where, and what to do; it never holds the token.
    """

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        """As in the label `endpoint` of the exporter's own metrics."""


class Unauthorized(ApiError):
    """The token was refused, or is none: mended by another token."""


class NotFound(ApiError):
    """The API says that there is no such thing."""


class Refused(ApiError):
    """The API, or something before it, does not want this request: asking again would change nothing."""


class Throttled(ApiError):
    """Too many requests, and the wait asked for ends after the poll."""

    def __init__(self, endpoint: str, message: str, until: float) -> None:
        super().__init__(endpoint, message)
        self.until = until
        """When the next request may be sent, in Unix seconds."""


class ServerError(ApiError):
    """The API failed, and failed again when asked again."""


class Unreachable(ApiError):
    """No whole answer came: name resolution, connection, TLS, a reset, a time limit."""


class Unreadable(ApiError):
    """A whole answer came and is not what the API's document describes."""


class Rejected(Unreadable):
    """The answer's one record could not be understood; the thing itself exists."""


class Incomplete(ApiError):
    """A listing whose pages hold fewer records than it counts, or do not end."""


class OutOfBudget(ApiError):
    """Not sent, so as to leave the token's other users their share or to stay within a limit."""

    def __init__(self, endpoint: str, message: str, until: float) -> None:
        super().__init__(endpoint, message)
        self.until = until
        """When the next request may be sent, in Unix seconds."""
