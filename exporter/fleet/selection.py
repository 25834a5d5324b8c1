"""Which Droplets a configuration means: `select`, `exclude` and `expect_backups`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.fleet.model import Description


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a Droplet can be picked by; an empty key asks nothing."""

    droplet_ids: frozenset[int] = frozenset()
    tags: frozenset[str] = frozenset()
    names: tuple[re.Pattern[str], ...] = ()
    regions: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.droplet_ids) or self.needs_description

    @property
    def needs_description(self) -> bool:
        """Whether a Droplet's id alone cannot tell."""
        return bool(self.tags or self.names or self.regions)

    def answers(self, droplet_id: int, description: Description | None) -> list[bool | None]:
        """For each key given, whether one of its entries fits; `None` where only a description could tell."""
        found: list[bool | None] = []
        if self.droplet_ids:
            found.append(droplet_id in self.droplet_ids)
        if self.tags:
            tags = None if description is None else description.tags
            found.append(None if tags is None else not self.tags.isdisjoint(tags))
        if self.names:
            found.append(None if description is None else any(name.fullmatch(description.name) for name in self.names))
        if self.regions:
            found.append(None if description is None else description.region in self.regions)
        return found


NOTHING_ASKED = Criteria()


@dataclass(frozen=True, slots=True)
class Selection:
    """A Droplet is meant if it meets every key of `select`, and none of `exclude`."""

    select: Criteria = NOTHING_ASKED
    exclude: Criteria = NOTHING_ASKED

    @property
    def needs_description(self) -> bool:
        return self.select.needs_description or self.exclude.needs_description

    @property
    def needs_tags(self) -> bool:
        return bool(self.select.tags or self.exclude.tags)

    def watches(self, droplet_id: int, description: Description | None) -> bool:
        """Whether a Droplet is picked as far as is known: an unknown description fits no entry, of either."""
        return all(self.select.answers(droplet_id, description)) and True not in self.exclude.answers(
            droplet_id, description
        )

    def means(self, droplet_id: int, description: Description | None) -> bool | None:
        """Whether the Droplet is meant; `None` where its name, tags or region would decide and are not known."""
        selected = self.select.answers(droplet_id, description)
        excluded = self.exclude.answers(droplet_id, description)
        if False in selected or True in excluded:
            return False
        return None if None in selected or None in excluded else True


EVERYTHING = Selection()
