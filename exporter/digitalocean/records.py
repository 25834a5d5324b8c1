"""The API's records, only the fields that are used, and the lenient reading of a page of them.

A page is split into raw records and each is decoded by itself, so a record that cannot be understood costs only
itself: it is counted, named where its id can be read, and left out. For an optional field, `null` and missing are the
same: `None`. The units are the API's: gigabytes, hours, days.

An answer may come from a broken or hostile server. So sizes are bounded: of the answer, of a page, and of each text
and list in a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Raw, Struct

T = TypeVar("T")

PER_PAGE = 200
"""The most records that the API puts on a page."""
MAX_BODY = 8 * 1024 * 1024
"""Bytes of an unpacked answer; a page of 200 of the largest records is under 2 MiB."""
MAX_RECORDS = 5 * PER_PAGE
"""Records of one answer beyond which it is not the API's."""
MAX_COMMAS = 400_000
"""Commas in an answer. They bound how many values it holds; 200 large Droplets have about 80,000."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2200 = 7_258_118_400.0

# The bounds are far beyond anything real. They keep what is computed from the numbers finite, and labels short.
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Gigabytes = Annotated[float, Meta(ge=0, le=1e9)]
Length = Annotated[float, Meta(ge=0, le=1e6)]
Hour = Annotated[int, Meta(ge=0, le=23)]
Text = Annotated[str, Meta(max_length=512)]
"""The API's own limit is 255 characters for a name and for a tag."""
Texts = Annotated[tuple[Text, ...], Meta(max_length=1000)]
Ids = Annotated[tuple[Id, ...], Meta(max_length=10_000)]


class Region(Struct, frozen=True, gc=False):
    slug: Text | None = None


class DropletRecord(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets`."""

    id: Id
    name: Text | None = None
    region: Region | None = None
    size_slug: Text | None = None
    status: Text | None = None
    created_at: datetime | None = None
    disk: Gigabytes | None = None
    tags: Texts | None = None
    """`None` where the answer lacks them, as without the scope `tag:read`."""
    backup_ids: Ids | None = None
    """`None` where the answer lacks them; without the scope `image:read` they may also be empty while backups exist."""
    snapshot_ids: Any = None
    """Ids of snapshots, if it is a list of numbers; anything else tells nothing and does not cost the record."""
    volume_ids: Any = None
    """Ids of attached volumes, if it is a list of texts; anything else tells nothing and does not cost the record."""


class NamedWindow(Struct, frozen=True, gc=False):
    """The time in which a backup is started."""

    start: datetime | None = None
    end: datetime | None = None


class PolicySettings(Struct, frozen=True, gc=False):
    """The part `backup_policy` of a policy's record: what the Droplet's owner has set."""

    plan: Text | None = None
    """An open string: `daily`, `weekly`, `intra_daily_4h`, or another."""
    weekday: Text | None = None
    hour: Hour | None = None
    """UTC."""
    window_length_hours: Length | None = None
    retention_period_days: Length | None = None


class PolicyRecord(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/backups/policies`."""

    backup_enabled: bool | None = None
    backup_policy: PolicySettings | None = None
    next_backup_window: NamedWindow | None = None


class BackupRecord(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/{id}/backups`: a restore point, whichever `type` it has."""

    id: Id
    created_at: datetime
    size_gigabytes: Gigabytes | None = None

    def __post_init__(self) -> None:
        if unix_seconds(self.created_at) is None:
            raise ValueError(f"{self.created_at.isoformat()} cannot be the date of a backup")


class ImageRecord(Struct, frozen=True, gc=False):
    """A record of `/v2/images`."""

    id: Id
    type: Text | None = None
    status: Text | None = None
    """`available` once it is whole."""
    created_at: datetime | None = None
    size_gigabytes: Gigabytes | None = None
    min_disk_size: Gigabytes | None = None


class SupportedPolicyRecord(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/backups/supported_policies`."""

    name: Text
    possible_window_starts: Annotated[tuple[int, ...], Meta(max_length=100)] | None = None
    """Hours, UTC."""
    possible_days: Texts | None = None
    """Empty: any."""
    window_length_hours: Length | None = None
    retention_period_days: Length | None = None


def unix_seconds(value: datetime | None) -> float | None:
    """The instant in Unix seconds; a date without an offset is in UTC.

    `None` for a date before 1970 or after 2200: year 1 is how Go writes a time that was not set, 9999 a "never".
    """
    if value is None:
        return None
    # Not value.timestamp(): at the ends of the calendar that leaves the range of a datetime.
    seconds = ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH).total_seconds()
    return seconds if 0 <= seconds < _YEAR_2200 else None


_droplet = msgspec.json.Decoder(DropletRecord)
_policy = msgspec.json.Decoder(PolicyRecord)
_backup = msgspec.json.Decoder(BackupRecord)
_image = msgspec.json.Decoder(ImageRecord)
_supported_policy = msgspec.json.Decoder(SupportedPolicyRecord)
_map = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])

_CANNOT_DECODE = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


# Pages ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One answer, read as far as it can be."""

    records: dict[int, T]
    rejected: frozenset[int]
    """The ids of records that could not be understood."""
    unidentified: int
    """Records that could not be understood and whose id could not be read either."""
    reason: str | None
    """What was wrong with the first of those."""
    length: int
    """How many records the answer held, of whatever kind."""
    total: int | None
    """`meta.total`; `None` where it is missing or no count."""
    next_page: bool
    """Whether the links name a page after this one."""
    last_page: int | None
    """The number of the last page, by the links."""

    @property
    def rejections(self) -> int:
        return len(self.rejected) + self.unidentified


class UnreadableBody(ValueError):  # noqa: N818 - says what was found
    """An answer's body is not what the API's document describes; the text says what was found."""


class TooLarge(UnreadableBody):
    """An answer that is not read, because reading it would take long."""


def droplets(body: bytes) -> Page[DropletRecord]:
    return _read_page(body, "droplets", lambda part: _each(part, _droplet))


def policies(body: bytes) -> Page[PolicyRecord]:
    """By the id of the Droplet."""
    return _read_page(body, "policies", _each_policy)


def backups(body: bytes) -> Page[BackupRecord]:
    return _read_page(body, "backups", lambda part: _each(part, _backup))


def images(body: bytes) -> Page[ImageRecord]:
    return _read_page(body, "images", lambda part: _each(part, _image))


def supported_policies(body: bytes) -> Page[SupportedPolicyRecord]:
    """The plans have no id: they are numbered from 1 in the answer's order."""
    return _read_page(body, "supported_policies", _each_supported_policy)


def droplet(body: bytes) -> DropletRecord | str:
    """The record of `/v2/droplets/{id}`, or what is wrong with it."""
    return _decode_single(_single(body, "droplet"), _droplet)


def policy(body: bytes, droplet_id: int) -> PolicyRecord | str:
    """The record of `/v2/droplets/{id}/backups/policy`, or what is wrong with it."""
    raw = _single(body, "policy")
    named = _read_id(raw, "droplet_id")
    if named is not None and named != droplet_id:
        return f"it is of Droplet {named}"
    return _decode_single(raw, _policy)


def _decode_single(raw: Raw, decoder: msgspec.json.Decoder[T]) -> T | str:
    try:
        return decoder.decode(raw)
    except _CANNOT_DECODE as error:
        return str(error)


class _Identified(Protocol):
    @property
    def id(self) -> int: ...


_WithId = TypeVar("_WithId", bound=_Identified)


@dataclass(slots=True)
class _Rejection:
    id: int | None
    reason: str


def _each(part: _Part, decoder: msgspec.json.Decoder[_WithId]) -> Iterator[tuple[int, _WithId] | _Rejection]:
    for item in _as_list(part):
        try:
            record = decoder.decode(item)
        except _CANNOT_DECODE as error:
            yield _Rejection(_read_id(item, "id"), str(error))
        else:
            yield record.id, record


def _each_policy(part: _Part) -> Iterator[tuple[int, PolicyRecord] | _Rejection]:
    for key, item in _as_map(part).items():
        droplet_id = _id_of_text(key) or _read_id(item, "droplet_id")
        if droplet_id is None:
            yield _Rejection(None, "neither its key nor its droplet_id is the id of a Droplet")
            continue
        try:
            yield droplet_id, _policy.decode(item)
        except _CANNOT_DECODE as error:
            yield _Rejection(droplet_id, str(error))


def _each_supported_policy(part: _Part) -> Iterator[tuple[int, SupportedPolicyRecord] | _Rejection]:
    for number, item in enumerate(_as_list(part), 1):
        try:
            yield number, _supported_policy.decode(item)
        except _CANNOT_DECODE as error:
            yield _Rejection(None, str(error))


def _read_page(body: bytes, key: str, each: Callable[[_Part], Iterable[tuple[int, T] | _Rejection]]) -> Page[T]:
    """Raises UnreadableBody, and nothing else, whatever the body."""
    try:
        return _assemble(_open(body), key, each)
    except TooLarge:
        raise
    except UnreadableBody:
        envelope = _open_leniently(body)
        if envelope is None:
            raise
        return _assemble(envelope, key, each)


def _assemble(
    envelope: Mapping[str, _Part], key: str, each: Callable[[_Part], Iterable[tuple[int, T] | _Rejection]]
) -> Page[T]:
    total = _total(envelope.get("meta"))
    next_page, last_page = _links(envelope.get("links"))
    part = envelope.get(key)
    records: dict[int, T] = {}
    rejected: set[int] = set()
    unidentified = length = 0
    reason = None
    if part is None or (isinstance(part, Raw) and bytes(part).strip() == b"null"):
        # Go writes an empty list as null, or leaves it out; without the count beside it, it proves nothing.
        if total != 0:
            raise UnreadableBody(f"no `{key}` in the answer")
        return Page({}, frozenset(), 0, None, 0, total, next_page, last_page)
    try:
        for item in each(part):
            length += 1
            if isinstance(item, _Rejection):
                reason = reason or item.reason
                if item.id is None:
                    unidentified += 1
                else:
                    rejected.add(item.id)
            else:
                records[item[0]] = item[1]
    except TooLarge:
        raise
    except _CANNOT_DECODE as error:
        raise UnreadableBody(f"`{key}` cannot be read: {error}") from error
    return Page(
        records, frozenset(rejected - records.keys()), unidentified, reason, length, total, next_page, last_page
    )


def _single(body: bytes, key: str) -> Raw:
    raw = _open(body).get(key)
    if raw is None:
        raise UnreadableBody(f"no `{key}` in the answer")
    return raw


_Part = Raw | list[Raw] | dict[str, Raw]
"""A part of an answer: unread, or already split into its raw records."""
_Many = TypeVar("_Many", list[Raw], dict[str, Raw])


def _open(body: bytes) -> dict[str, Raw]:
    """The answer's parts."""
    if not body.strip():
        raise UnreadableBody("an empty answer")
    if len(body) > MAX_BODY or body.count(b",") > MAX_COMMAS:
        raise TooLarge("an answer larger than any of the API's")
    try:
        return _map.decode(body)
    except msgspec.ValidationError as error:
        raise UnreadableBody(f"not an object: {error}") from error
    except _CANNOT_DECODE as error:
        raise UnreadableBody(f"not JSON: {error}") from error


def _open_leniently(body: bytes) -> Mapping[str, _Part] | None:
    """The parts of an answer at which msgspec gave up the whole, split so that what it minds costs only its record:
    a NaN, half a surrogate pair, a key that is no UTF-8.
    """
    try:
        # Bytes that are no UTF-8 become half surrogate pairs too, which the record's own decoder refuses.
        parsed: Any = json.loads(body.decode("utf-8-sig", "surrogateescape"))
        return {key: _split(value) for key, value in parsed.items()} if isinstance(parsed, dict) else None
    except _CANNOT_DECODE:
        return None


def _split(value: object) -> _Part:
    if isinstance(value, list):
        return [_raw(item) for item in value]
    if isinstance(value, dict):
        return {key: _raw(item) for key, item in value.items()}
    return _raw(value)


def _raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def _as_list(part: _Part) -> list[Raw]:
    return _bounded(part if isinstance(part, list) else _list.decode(_unsplit(part)))


def _as_map(part: _Part) -> dict[str, Raw]:
    return _bounded(part if isinstance(part, dict) else _map.decode(_unsplit(part)))


def _bounded(records: _Many) -> _Many:
    if len(records) > MAX_RECORDS:
        raise TooLarge(f"more than {MAX_RECORDS} records on one page")
    return records


def _unsplit(part: _Part) -> Raw:
    """An already split part of the other kind, for the decoder to refuse."""
    return part if isinstance(part, Raw) else Raw(b"{}" if isinstance(part, dict) else b"[]")


def _id_of_text(text: str) -> int | None:
    if re.fullmatch(r"[1-9][0-9]{0,18}", text) and int(text) < 2**63:
        return int(text)
    return None


def _read_id(raw: Raw, name: str) -> int | None:
    """The id of a record, even of one whose other fields, or whose id's type, are wrong."""
    try:
        value: Any = json.loads(bytes(raw).decode(errors="replace"))[name]
    except (LookupError, TypeError, *_CANNOT_DECODE):
        return None
    if isinstance(value, str):
        return _id_of_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 2**63 and value == int(value):
        return int(value)
    return None


def _total(meta: _Part | None) -> int | None:
    try:
        total: Any = msgspec.json.decode(_as_map(meta)["total"]) if meta is not None else None
    except (KeyError, *_CANNOT_DECODE):
        return None
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


def _links(links: _Part | None) -> tuple[bool, int | None]:
    """Whether there is a next page, and the last one's number. Of the links' addresses nothing else is ever used."""
    try:
        pages = _as_map(_as_map(links)["pages"]) if links is not None else {}
        following: Any = msgspec.json.decode(pages.get("next", b"null"))
        last: Any = msgspec.json.decode(pages.get("last", b"null"))
    except (KeyError, *_CANNOT_DECODE):
        return False, None
    return isinstance(following, str) and following != "", _page_number(last) if isinstance(last, str) else None


def _page_number(url: str) -> int | None:
    try:
        text = parse_qs(urlsplit(url).query, max_num_fields=50)["page"][-1]
    except (KeyError, ValueError):
        return None
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else None
