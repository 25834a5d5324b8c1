"""The API's records, only the fields that are used, and the lenient reading of a page of them.

A page is split into raw records and each is decoded by itself, so a record that cannot be understood costs itself
alone: it is counted, named where its id can be read, and left out. `null` and missing are one for every optional
field: `None`.
Instants are Unix seconds (RFC 3339 of any offset; one without an offset is UTC). The other units are the API's:
gigabytes, hours, days.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Raw, Struct

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The bounds are far beyond anything real; they keep what is computed from the numbers finite.
_Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Gigabytes = Annotated[float, Meta(ge=0, le=1e9)]
_Length = Annotated[float, Meta(ge=0, le=1e6)]
_Hour = Annotated[int, Meta(ge=0, le=23)]


# What callers get -----------------------------------------------------------------------------------------------------


class Droplet(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets`."""

    id: int
    name: str | None = None
    region: str | None = None
    """The region's slug."""
    size_slug: str | None = None
    status: str | None = None
    created_at: float | None = None
    disk: float | None = None
    """Gigabytes."""
    tags: tuple[str, ...] | None = None
    """`None` where the answer lacks them, as without the scope `tag:read`."""
    backup_ids: tuple[int, ...] | None = None
    """`None` where the answer lacks them; without the scope `image:read` they may also be empty while backups exist."""


class Window(Struct, frozen=True, gc=False):
    """The span in which a backup is started."""

    start: float
    end: float


class Policy(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/backups/policies`, the part `backup_policy` laid flat."""

    droplet_id: int
    backup_enabled: bool | None = None
    plan: str | None = None
    """An open string: `daily`, `weekly`, `intra_daily_4h`, or another."""
    weekday: str | None = None
    hour: int | None = None
    """UTC, 0 to 23."""
    window_length_hours: float | None = None
    retention_period_days: float | None = None
    next_backup_window: Window | None = None
    """`None` also where the answer has but one end of it."""


class Backup(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/{id}/backups`: a restore point, whichever `type` it has."""

    id: int
    created_at: float
    size_gigabytes: float | None = None


class Image(Struct, frozen=True, gc=False):
    """A record of `/v2/images`."""

    id: int
    type: str | None = None
    status: str | None = None
    created_at: float | None = None
    size_gigabytes: float | None = None
    min_disk_size: float | None = None
    """Gigabytes."""


class SupportedPolicy(Struct, frozen=True, gc=False):
    """A record of `/v2/droplets/backups/supported_policies`."""

    name: str
    possible_window_starts: tuple[int, ...] | None = None
    """Hours, UTC."""
    possible_days: tuple[str, ...] | None = None
    """Empty: any."""
    window_length_hours: float | None = None
    retention_period_days: float | None = None


# What is on the wire --------------------------------------------------------------------------------------------------


class _WireRegion(Struct, gc=False):
    slug: str | None = None


class _WireDroplet(Struct, gc=False):
    id: _Id
    name: str | None = None
    region: _WireRegion | None = None
    size_slug: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    disk: _Gigabytes | None = None
    tags: tuple[str, ...] | None = None
    backup_ids: tuple[_Id, ...] | None = None


class _WireWindow(Struct, gc=False):
    start: datetime | None = None
    end: datetime | None = None


class _WirePlan(Struct, gc=False):
    plan: str | None = None
    weekday: str | None = None
    hour: _Hour | None = None
    window_length_hours: _Length | None = None
    retention_period_days: _Length | None = None


class _WirePolicy(Struct, gc=False):
    backup_enabled: bool | None = None
    backup_policy: _WirePlan | None = None
    next_backup_window: _WireWindow | None = None


class _WireBackup(Struct, gc=False):
    id: _Id
    created_at: datetime
    size_gigabytes: _Gigabytes | None = None


class _WireImage(Struct, gc=False):
    id: _Id
    type: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    size_gigabytes: _Gigabytes | None = None
    min_disk_size: _Gigabytes | None = None


class _WireSupportedPolicy(Struct, gc=False):
    name: str
    possible_window_starts: tuple[int, ...] | None = None
    possible_days: tuple[str, ...] | None = None
    window_length_hours: _Length | None = None
    retention_period_days: _Length | None = None


_droplet = msgspec.json.Decoder(_WireDroplet)
_policy = msgspec.json.Decoder(_WirePolicy)
_backup = msgspec.json.Decoder(_WireBackup)
_image = msgspec.json.Decoder(_WireImage)
_supported_policy = msgspec.json.Decoder(_WireSupportedPolicy)
_map = msgspec.json.Decoder(dict[str, Raw])
_list = msgspec.json.Decoder(list[Raw])

_CANNOT_DECODE = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


_YEAR_2200 = 7_258_118_400.0
"""A later date, or one before 1970, was never meant: year 1 is a time of Go's that was not set, 9999 a "never"."""


def _instant(value: datetime) -> float:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    # Not value.timestamp(): at the ends of the calendar that leaves the range of a datetime.
    seconds = (value - _EPOCH).total_seconds()
    if not 0 <= seconds < _YEAR_2200:
        raise ValueError(f"{value.isoformat()} is no date that can be meant")
    return seconds


def _optional_instant(value: datetime | None) -> float | None:
    """The instant, where one is told: of a date that was never meant nothing is known."""
    try:
        return None if value is None else _instant(value)
    except ValueError:
        return None


def decode_droplet(raw: Raw) -> tuple[int, Droplet]:
    wire = _droplet.decode(raw)
    return wire.id, Droplet(
        id=wire.id,
        name=wire.name,
        region=wire.region.slug if wire.region else None,
        size_slug=wire.size_slug,
        status=wire.status,
        created_at=_optional_instant(wire.created_at),
        disk=wire.disk,
        tags=wire.tags,
        backup_ids=wire.backup_ids,
    )


def decode_policy(droplet_id: int, raw: Raw) -> Policy:
    wire = _policy.decode(raw)
    plan = wire.backup_policy or _WirePlan()
    return Policy(
        droplet_id=droplet_id,
        backup_enabled=wire.backup_enabled,
        plan=plan.plan,
        weekday=plan.weekday,
        hour=plan.hour,
        window_length_hours=plan.window_length_hours,
        retention_period_days=plan.retention_period_days,
        next_backup_window=_window_of(wire.next_backup_window),
    )


def _window_of(wire: _WireWindow | None) -> Window | None:
    start, end = (None, None) if wire is None else (_optional_instant(wire.start), _optional_instant(wire.end))
    return None if start is None or end is None else Window(start, end)


def decode_backup(raw: Raw) -> tuple[int, Backup]:
    wire = _backup.decode(raw)
    return wire.id, Backup(wire.id, _instant(wire.created_at), wire.size_gigabytes)


def decode_image(raw: Raw) -> tuple[int, Image]:
    wire = _image.decode(raw)
    return wire.id, Image(
        id=wire.id,
        type=wire.type,
        status=wire.status,
        created_at=_optional_instant(wire.created_at),
        size_gigabytes=wire.size_gigabytes,
        min_disk_size=wire.min_disk_size,
    )


def decode_supported_policy(raw: Raw) -> SupportedPolicy:
    wire = _supported_policy.decode(raw)
    return SupportedPolicy(
        name=wire.name,
        possible_window_starts=wire.possible_window_starts,
        possible_days=wire.possible_days,
        window_length_hours=wire.window_length_hours,
        retention_period_days=wire.retention_period_days,
    )


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


def droplets(body: bytes) -> Page[Droplet]:
    return _read_page(body, "droplets", lambda part: _each(part, decode_droplet))


def policies(body: bytes) -> Page[Policy]:
    return _read_page(body, "policies", _each_policy)


def backups(body: bytes) -> Page[Backup]:
    return _read_page(body, "backups", lambda part: _each(part, decode_backup))


def images(body: bytes) -> Page[Image]:
    return _read_page(body, "images", lambda part: _each(part, decode_image))


def supported_policies(body: bytes) -> Page[SupportedPolicy]:
    """The plans have no id: they are numbered from 1 in the answer's order."""
    return _read_page(body, "supported_policies", _each_supported_policy)


def droplet(body: bytes) -> tuple[int, Droplet] | str:
    """The record of `/v2/droplets/{id}` with its id, or what is wrong with it."""
    try:
        return decode_droplet(_single(body, "droplet"))
    except UnreadableBody:
        raise
    except _CANNOT_DECODE as error:
        return str(error)


def policy(body: bytes, droplet_id: int) -> Policy | str:
    """The record of `/v2/droplets/{id}/backups/policy`, or what is wrong with it."""
    raw = _single(body, "policy")
    named = _read_id(raw, "droplet_id")
    if named is not None and named != droplet_id:
        return f"it is of Droplet {named}"
    try:
        return decode_policy(droplet_id, raw)
    except _CANNOT_DECODE as error:
        return str(error)


@dataclass(slots=True)
class _Rejection:
    id: int | None
    reason: str


def _each(part: _Part, decode: Callable[[Raw], tuple[int, T]]) -> Iterator[tuple[int, T] | _Rejection]:
    for item in _as_list(part):
        try:
            yield decode(item)
        except _CANNOT_DECODE as error:
            yield _Rejection(_read_id(item, "id"), str(error))


def _each_policy(part: _Part) -> Iterator[tuple[int, Policy] | _Rejection]:
    for key, item in _as_map(part).items():
        droplet_id = _id_of_text(key) or _read_id(item, "droplet_id")
        if droplet_id is None:
            yield _Rejection(None, "neither its key nor its droplet_id is the id of a Droplet")
            continue
        try:
            yield droplet_id, decode_policy(droplet_id, item)
        except _CANNOT_DECODE as error:
            yield _Rejection(droplet_id, str(error))


def _each_supported_policy(part: _Part) -> Iterator[tuple[int, SupportedPolicy] | _Rejection]:
    for number, item in enumerate(_as_list(part), 1):
        try:
            yield number, decode_supported_policy(item)
        except _CANNOT_DECODE as error:
            yield _Rejection(None, str(error))


def _read_page(body: bytes, key: str, each: Callable[[_Part], Iterable[tuple[int, T] | _Rejection]]) -> Page[T]:
    """Raises UnreadableBody, and nothing else, whatever the body."""
    try:
        return _assemble(_open(body), key, each)
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


_LENIENT_LIMIT = 8 * 1024 * 1024

_Part = Raw | list[Raw] | dict[str, Raw]
"""A part of an answer: unread, or already split into its raw records."""


def _open(body: bytes) -> dict[str, Raw]:
    """The answer's parts."""
    if not body.strip():
        raise UnreadableBody("an empty answer")
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
    if len(body) > _LENIENT_LIMIT:
        return None
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
    return part if isinstance(part, list) else _list.decode(_unsplit(part))


def _as_map(part: _Part) -> dict[str, Raw]:
    return part if isinstance(part, dict) else _map.decode(_unsplit(part))


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
