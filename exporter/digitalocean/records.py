"""The API's records, with the fields that the exporter uses, and the decoding of pages of them.

A page is split into raw records, and each is decoded by itself. A record that cannot be understood is counted and left
out; its id is kept if it can be read. If an optional field is missing or `null`, it is `None`. The units are the API's:
gigabytes, hours, days.

A server may be broken or hostile, so there are limits for the size of an answer, for the number of records on a page,
and for each text and list in a record.
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
"""An answer with more records is not the API's."""
MAX_COMMAS = 400_000
"""Commas in an answer. They limit how many values it has; 200 large Droplets have about 80,000."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2200 = 7_258_118_400.0

# These limits are far above real values. They keep computed numbers finite, and labels short.
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
    """`None` if the answer has no tags, for example without the scope `tag:read`."""
    backup_ids: Ids | None = None
    """`None` if the answer has no ids. Without the scope `image:read` they may be empty although backups exist."""
    snapshot_ids: Any = None
    """Ids of snapshots if it is a list of numbers. Anything else is ignored and does not reject the record."""
    volume_ids: Any = None
    """Ids of attached volumes if it is a list of texts. Anything else is ignored and does not reject the record."""


class NamedWindow(Struct, frozen=True, gc=False):
    """The time in which a backup is started."""

    start: datetime | None = None
    end: datetime | None = None


class PolicySettings(Struct, frozen=True, gc=False):
    """The field `backup_policy` of a policy's record: what the Droplet's owner has chosen."""

    plan: Text | None = None
    """`daily`, `weekly`, `intra_daily_4h`, or a plan that is not known yet."""
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
    """A record of `/v2/droplets/{id}/backups`: a backup, whatever its `type` is."""

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
    """`available` when it is complete."""
    created_at: datetime | None = None
    size_gigabytes: Gigabytes | None = None


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

    `None` for a date before 1970 or after 2200: Go writes a time that was not set as year 1, and year 9999 means never.
    """
    if value is None:
        return None
    # Not value.timestamp(): that fails at the first and the last day of the calendar.
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
    """One answer of a listing, with the records that could be decoded."""

    records: dict[int, T]
    rejected: frozenset[int]
    """The ids of records that could not be understood."""
    unidentified: int
    """Records that could not be understood and whose id could not be read either."""
    reason: str | None
    """What was wrong with the first record that could not be understood."""
    length: int
    """How many records the answer had, including those that could not be understood."""
    total: int | None
    """`meta.total`; `None` if it is missing or not a count."""
    next_page: bool
    """Whether there is a link to a next page."""
    last_page: int | None
    """The number of the last page in the links."""

    @property
    def rejections(self) -> int:
        return len(self.rejected) + self.unidentified


class UnreadableBody(ValueError):  # noqa: N818  # the name says what was found
    """An answer's body is not what the API's document describes; the text says what was found."""


class TooLarge(UnreadableBody):
    """The answer is too large to be decoded in a short time."""


def read_droplets(body: bytes) -> Page[DropletRecord]:
    return _read_page(body, "droplets", lambda part: _each(part, _droplet))


def read_policies(body: bytes) -> Page[PolicyRecord]:
    """Policies by the id of the Droplet."""
    return _read_page(body, "policies", _each_policy)


def read_backups(body: bytes) -> Page[BackupRecord]:
    return _read_page(body, "backups", lambda part: _each(part, _backup))


def read_images(body: bytes) -> Page[ImageRecord]:
    return _read_page(body, "images", lambda part: _each(part, _image))


def read_supported_policies(body: bytes) -> Page[SupportedPolicyRecord]:
    """Plans have no id, so they are numbered from 1 in the answer's order."""
    return _read_page(body, "supported_policies", _each_supported_policy)


def read_droplet(body: bytes) -> DropletRecord | str:
    """The record of `/v2/droplets/{id}`, or what is wrong with it."""
    return _decode_single(_single(body, "droplet"), _droplet)


def read_policy(body: bytes, droplet_id: int) -> PolicyRecord | str:
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
    """Raises UnreadableBody, and nothing else, for any body."""
    try:
        return _assemble(_parts_of(body), key, each)
    except TooLarge:
        raise
    except UnreadableBody:
        envelope = _split_leniently(body)
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
        # Go writes an empty list as null, or leaves it out. It is only an empty list if the count is 0.
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
    raw = _parts_of(body).get(key)
    if raw is None:
        raise UnreadableBody(f"no `{key}` in the answer")
    return raw


_Part = Raw | list[Raw] | dict[str, Raw]
"""A part of an answer: not decoded, or already split into raw records."""
_Many = TypeVar("_Many", list[Raw], dict[str, Raw])


def _parts_of(body: bytes) -> dict[str, Raw]:
    """The answer's parts by their keys."""
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


def _split_leniently(body: bytes) -> Mapping[str, _Part] | None:
    """The parts of an answer that msgspec refuses as a whole, because of a NaN, half a surrogate pair, or a key that is
    not UTF-8. They are split into records, so that only the record with the error is refused.
    """
    try:
        # Bytes that are not UTF-8 become half surrogate pairs, which the decoder of the record refuses.
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
    """The part for the decoder; a part that is already split is of the wrong kind, and the decoder refuses it."""
    return part if isinstance(part, Raw) else Raw(b"{}" if isinstance(part, dict) else b"[]")


def _id_of_text(text: str) -> int | None:
    if re.fullmatch(r"[1-9][0-9]{0,18}", text) and int(text) < 2**63:
        return int(text)
    return None


def _read_id(raw: Raw, name: str) -> int | None:
    """The id of a record, even if its other fields or the type of its id are wrong."""
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
    """Whether there is a next page, and the number of the last page. Nothing else of the links is used."""
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
