"""A fleet as text for Prometheus: made once at a poll, joined at a scrape.

The text is that of the client library, byte for byte, and serves both of its formats: text 0.0.4 and OpenMetrics 1.0
differ in nothing that is used here. Families that move with the clock come last, so that the text
before them, its checksum and its compressed form are ready since the poll.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import floor, inf
from operator import is_, itemgetter
from typing import cast

from prometheus_client.utils import floatToGoString

from exporter.cooperative import Steps, run_with_pauses, run_without_pauses
from exporter.fleet.model import Droplet, Fleet
from exporter.metrics.families import (
    ACCOUNT_FAMILIES,
    DROPLET_FAMILIES,
    IDENTITY,
    ClockFamily,
    DropletFamily,
    Family,
    FleetFamily,
    ListingFamily,
)
from exporter.threads import ThreadPool

BATCH = 100
"""Droplets that are rendered together: a batch of which none changed keeps its text from poll to poll."""
STEP = 500
"""Samples that are computed in one go at a scrape: about a millisecond."""
PIECE = 32 * 1024
"""Shorter pieces of text are joined, so that a small fleet is not sent in a hundred writes."""

POLL_LEVEL = 6
SCRAPE_LEVEL = 1
"""Compression where time matters less than size, and where it matters more."""
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No name, no time, any system (RFC 1952)."""

THREADS = ThreadPool("render the metrics", 4, caller_may_work=True)
RENDERED_WITHIN = 60.0
"""Seconds. Nothing but a bug or a machine without processor time makes it longer."""

STATIC_FAMILIES: tuple[DropletFamily | ListingFamily | FleetFamily, ...] = (
    *(family for family in DROPLET_FAMILIES if not isinstance(family, ClockFamily)),
    *ACCOUNT_FAMILIES,
)
CLOCK_FAMILIES = tuple(family for family in DROPLET_FAMILIES if isinstance(family, ClockFamily))


def encodable(value: str) -> str:
    """The value with U+FFFD for lone surrogates, which JSON and YAML can spell and UTF-8 cannot."""
    return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def escape(value: str) -> str:
    """A label value as both formats write it."""
    return encodable(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """A sample's value as the client library writes it; only large or odd ones differ from Python's own notation."""
    return repr(float(value)) if -inf < value < 1e6 else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def head(family: Family) -> bytes:
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n".encode()


class Exposition:
    """The text of every account's fleet, for any number of scrapers.

    `tag_labels` are the names of the configured tag labels, in the order of `Droplet.tag_labels`.
    """

    def __init__(self, tag_labels: Sequence[str] = ()) -> None:
        self._tag_labels = tuple(tag_labels)
        self._accounts: dict[str, _Account] = {}
        self._lock = asyncio.Lock()
        self._moment = _Moment(_Snapshot.of([]), 0)

    async def update(self, fleet: Fleet) -> None:
        """Renders what a poll learned; scrapes get the text from before until it is all there."""
        async with self._lock:
            old = self._accounts.get(fleet.account)
            account = await run_with_pauses(_render(fleet, self._tag_labels, old))
            self._accounts[fleet.account] = await THREADS.run(account.compressed, within=RENDERED_WITHIN)
            await self._assemble()

    async def remove(self, account: str) -> None:
        """Forgets an account that is no longer configured."""
        async with self._lock:
            if self._accounts.pop(account, None) is not None:
                await self._assemble()

    async def page(self, now: float, *, tail: bytes = b"", gzip: bool = False) -> list[bytes]:
        """The text at this moment, right to a second, and `tail` after it; in pieces to be sent one after the other.

        `gzip`: as one gzip member.
        """
        moment = self._moment
        if moment.now != floor(now):
            self._moment = moment = _Moment(moment.snapshot, floor(now))
        if not gzip:
            return [*moment.snapshot.text, *await moment.text(), tail]
        deflated = await moment.deflated()
        crc = zlib.crc32(tail, deflated.crc)
        length = (deflated.length + len(tail)) & 0xFFFFFFFF
        end = _deflate([tail], SCRAPE_LEVEL, zlib.Z_FINISH) + struct.pack("<LL", crc, length)
        return [*moment.snapshot.deflated, deflated.data, end]

    async def selected(self, now: float, names: Collection[str], *, tail: bytes = b"") -> list[bytes]:
        """The text of these families alone, at this moment, and `tail` after it; in pieces."""
        accounts = [account for _, account in sorted(self._accounts.items())]
        text: list[bytes] = []
        for place, family in enumerate(STATIC_FAMILIES):
            if family.name in names:
                text.append(head(family))
                for account in accounts:
                    text.extend(account.static[place].text)
        for place, clock_family in enumerate(CLOCK_FAMILIES):
            if clock_family.name in names:
                text.append(head(clock_family))
                for account in accounts:
                    text.extend(await run_with_pauses(account.clocked[place].at(floor(now))))
        return [*_joined(text), tail]

    async def _assemble(self) -> None:
        accounts = [account for _, account in sorted(self._accounts.items())]
        self._moment = _Moment(await THREADS.run(_Snapshot.of, accounts, within=RENDERED_WITHIN), 0)


def render(fleets: Iterable[Fleet], now: float, tag_labels: Sequence[str] = ()) -> bytes:
    """The same text in one go, for those who need it once."""
    ordered = sorted(fleets, key=lambda fleet: fleet.account)
    snapshot = _Snapshot.of([run_without_pauses(_render(fleet, tuple(tag_labels), None)) for fleet in ordered])
    return b"".join(chain(snapshot.text, run_without_pauses(snapshot.moving(floor(now)))))


@dataclass(frozen=True, slots=True)
class _Samples:
    """One account's samples of one family that does not move, as text and as raw deflate blocks."""

    text: tuple[bytes, ...]
    """A piece for each batch of Droplets."""
    deflated: bytes | None = None

    def compressed(self) -> _Samples:
        if self.deflated is not None:
            return self
        return _Samples(self.text, _deflate(self.text, POLL_LEVEL, zlib.Z_FULL_FLUSH))


@dataclass(frozen=True, slots=True)
class _Clocked:
    """One account's samples of one family that moves: each sample's text up to its value, and what that comes from."""

    family: ClockFamily
    prefixes: list[bytes]
    distinct: list[Hashable]
    """What values are computed from; Droplets share windows, so there are fewer of them than samples."""
    which: list[int]
    """For each sample, its place in `distinct`."""

    def at(self, now: float) -> Steps[list[bytes]]:
        value_at = self.family.at
        values: list[bytes | None] = []
        for start in range(0, len(self.distinct), STEP):
            values += [
                None if (value := value_at(basis, now)) is None else f"{number(value)}\n".encode()
                for basis in self.distinct[start : start + STEP]
            ]
            yield
        text = []
        for start in range(0, len(self.which), STEP):
            prefixes = self.prefixes[start : start + STEP]
            found = [values[place] for place in self.which[start : start + STEP]]
            parts: list[bytes | None] = [None] * (2 * len(found))
            parts[::2], parts[1::2] = prefixes, found
            if None in found:
                parts = [part for pair in zip(prefixes, found, strict=True) if pair[1] is not None for part in pair]
            text.append(b"".join(cast("list[bytes]", parts)))
            yield
        return text


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Some Droplets, and the labels that identify each, as text."""

    droplets: tuple[Droplet, ...]
    identities: list[str]

    def holds(self, droplets: tuple[Droplet, ...]) -> bool:
        """Whether it is made of these very Droplets, none of which changed."""
        return len(droplets) == len(self.droplets) and all(map(is_, droplets, self.droplets))


@dataclass(frozen=True, slots=True)
class _Account:
    """All of one account's samples, by family."""

    batches: tuple[_Batch, ...]
    static: tuple[_Samples, ...]
    clocked: tuple[_Clocked, ...]

    def compressed(self) -> _Account:
        return _Account(self.batches, tuple(samples.compressed() for samples in self.static), self.clocked)


@dataclass(frozen=True, slots=True)
class _Deflated:
    """Raw deflate blocks, with checksum and length of all the text up to their end."""

    data: bytes
    crc: int
    length: int


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the polls so far learned, of all accounts: each family's head, then every account's samples of it."""

    text: tuple[bytes, ...]
    deflated: tuple[bytes, ...]
    crc: int
    length: int
    clocked: tuple[tuple[_Clocked, ...], ...]
    """By family of `CLOCK_FAMILIES`, then by account."""

    @classmethod
    def of(cls, accounts: Sequence[_Account]) -> _Snapshot:
        text: list[bytes] = []
        deflated = [GZIP_HEADER]
        for place, family in enumerate(STATIC_FAMILIES):
            text.append(head(family))
            deflated.append(_deflate([head(family)], POLL_LEVEL, zlib.Z_FULL_FLUSH))
            for account in accounts:
                text.extend(account.static[place].text)
                deflated.append(account.static[place].deflated or b"")
        crc = 0
        for piece in text:
            crc = zlib.crc32(piece, crc)
        return cls(
            text=_joined(text),
            deflated=_joined(deflated),
            crc=crc,
            length=sum(map(len, text)),
            clocked=tuple(
                tuple(account.clocked[place] for account in accounts) for place in range(len(CLOCK_FAMILIES))
            ),
        )

    def moving(self, now: float) -> Steps[tuple[bytes, ...]]:
        text: list[bytes] = []
        for family, accounts in zip(CLOCK_FAMILIES, self.clocked, strict=True):
            text.append(head(family))
            for samples in accounts:
                text.extend((yield from samples.at(now)))
        return _joined(text)


class _Moment:
    """What moves, at one second, computed once however many scrapers ask."""

    def __init__(self, snapshot: _Snapshot, now: int) -> None:
        self.snapshot = snapshot
        self.now = now
        self._text: asyncio.Task[tuple[bytes, ...]] | None = None
        self._deflated: asyncio.Task[_Deflated] | None = None

    async def text(self) -> tuple[bytes, ...]:
        if self._text is None:
            self._text = asyncio.create_task(run_with_pauses(self.snapshot.moving(self.now)))
        # A scraper that gives up must not take the others' text with it.
        return await asyncio.shield(self._text)

    async def deflated(self) -> _Deflated:
        if self._deflated is None:
            self._deflated = asyncio.create_task(self._deflate())
        return await asyncio.shield(self._deflated)

    async def _deflate(self) -> _Deflated:
        text = await self.text()
        # Compression lets other threads run; where there is little of it, changing threads takes longer.
        return (
            await THREADS.run(self._compress, text, within=RENDERED_WITHIN) if len(text) > 1 else self._compress(text)
        )

    def _compress(self, text: tuple[bytes, ...]) -> _Deflated:
        crc = self.snapshot.crc
        for piece in text:
            crc = zlib.crc32(piece, crc)
        length = self.snapshot.length + sum(map(len, text))
        return _Deflated(_deflate(text, SCRAPE_LEVEL, zlib.Z_FULL_FLUSH), crc, length)


def _render(fleet: Fleet, tag_labels: tuple[str, ...], old: _Account | None) -> Steps[_Account]:
    """One account's text. What has not changed since `old` is kept: a batch's text, a family's compressed form."""
    batches: list[_Batch] = []
    account = escape(fleet.account)
    before = old.batches if old else ()
    for place, start in enumerate(range(0, len(fleet.droplets), BATCH)):
        droplets = fleet.droplets[start : start + BATCH]
        if place < len(before) and before[place].holds(droplets):
            batches.append(before[place])
        else:
            identities = [f'account="{account}",droplet_id="{d.id}",droplet_name="{escape(d.name)}"' for d in droplets]
            batches.append(_Batch(droplets, identities))
        yield
    changed = [place for place, batch in enumerate(batches) if place >= len(before) or batch is not before[place]]
    static = []
    for place, family in enumerate(STATIC_FAMILIES):
        kept = old.static[place] if old else _Samples(())
        if isinstance(family, FleetFamily):
            pieces = [_account_samples(family, fleet)]
        elif isinstance(family, ListingFamily):
            pieces = []
            for batch in batches:
                pieces.append(_listing_lines(family, fleet, batch))
                yield
        else:
            pieces = [*kept.text[: len(batches)], *(b"",) * (len(batches) - len(kept.text))]
            lines = _lines(family, fleet.account, tag_labels)
            for number in changed:
                pieces[number] = lines(batches[number].droplets, batches[number].identities)
                yield
        static.append(kept if kept.text == tuple(pieces) else _Samples(tuple(pieces)))
    same = old is not None and not changed and len(batches) == len(before)
    if same and old is not None:
        return _Account(tuple(batches), tuple(static), old.clocked)
    clocked: list[_Clocked] = []
    for clock_family in CLOCK_FAMILIES:
        clocked += [(yield from _clocked(clock_family, batches))]
    return _Account(tuple(batches), tuple(static), tuple(clocked))


def _listing_lines(family: ListingFamily, fleet: Fleet, batch: _Batch) -> bytes:
    return "".join(
        [
            f"{family.name}{{{identity}}} {number(value)}\n"
            for droplet, identity in zip(batch.droplets, batch.identities, strict=True)
            if (value := family.value(droplet, fleet)) is not None
        ]
    ).encode()


def _lines(
    family: DropletFamily, account: str, tag_labels: tuple[str, ...]
) -> Callable[[Sequence[Droplet], Sequence[str]], bytes]:
    """What makes the lines of a family from some Droplets and their escaped identities."""
    name, value_of, more = family.name, family.value, family.more
    label_names = family.label_names(tag_labels)
    if label_names == IDENTITY:

        def plain(droplets: Sequence[Droplet], identities: Sequence[str]) -> bytes:
            return "".join(
                [
                    f"{name}{{{identity}}} {number(value)}\n"
                    for droplet, identity in zip(droplets, identities, strict=True)
                    if (value := value_of(droplet)) is not None
                ]
            ).encode()

        return plain

    places = sorted(range(len(label_names)), key=label_names.__getitem__)
    pick = itemgetter(*places)
    template = f"{name}{{" + ",".join(f'{label_names[place]}="%s"' for place in places) + "} %s\n"
    tags = len(tag_labels) if family.tagged else 0
    none = ("",) * tags

    def labelled(droplets: Sequence[Droplet], _: Sequence[str]) -> bytes:
        lines = []
        for droplet in droplets:
            value = value_of(droplet)
            if value is not None:
                tag_values = (droplet.tag_labels + none)[:tags]
                values = (account, str(droplet.id), droplet.name, *more(droplet), *tag_values)
                lines.append(template % (*map(escape, pick(values)), number(value)))
        return "".join(lines).encode()

    return labelled


def _account_samples(family: FleetFamily, fleet: Fleet) -> bytes:
    lines = []
    for more, value in family.samples(fleet):
        labels = sorted(zip(family.labels, (fleet.account, *more), strict=True))
        text = ",".join(f'{name}="{escape(label)}"' for name, label in labels)
        lines.append(f"{family.name}{{{text}}} {number(value)}\n")
    return "".join(lines).encode()


def _clocked(family: ClockFamily, batches: Iterable[_Batch]) -> Steps[_Clocked]:
    prefixes: list[bytes] = []
    places: dict[Hashable, int] = {}
    which: list[int] = []
    for batch in batches:
        for droplet, identity in zip(batch.droplets, batch.identities, strict=True):
            basis = family.basis(droplet)
            if basis is not None:
                prefixes.append(f"{family.name}{{{identity}}} ".encode())
                which.append(places.setdefault(basis, len(places)))
        yield
    return _Clocked(family, prefixes, list(places), which)


def _joined(pieces: Iterable[bytes]) -> tuple[bytes, ...]:
    """The same bytes with neighbours joined until they are worth sending."""
    out: list[bytes] = []
    short: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) < PIECE:
            short.append(piece)
            size += len(piece)
        if short and (size >= PIECE or len(piece) >= PIECE):
            out.append(b"".join(short))
            short, size = [], 0
        if len(piece) >= PIECE:
            out.append(piece)
    return (*out, b"".join(short))


def _deflate(pieces: Iterable[bytes], level: int, flush: int) -> bytes:
    """Raw deflate blocks. After a full flush they end at a byte, and what follows can be any other such blocks."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*map(deflate.compress, pieces), deflate.flush(flush)])
