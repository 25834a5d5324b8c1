"""Where `state_file: auto` keeps the state."""

from __future__ import annotations

from pathlib import Path

from exporter.config.state_location import automatic_state_file


def test_systemd_first(tmp_path: Path) -> None:
    """The unit's StateDirectory= comes before the user's own directory."""
    given = {"STATE_DIRECTORY": f"{tmp_path / 'unit'}:/other", "XDG_STATE_HOME": str(tmp_path / "xdg")}
    assert automatic_state_file(given) == tmp_path / "unit" / "state.json"


def test_the_user_s_own(tmp_path: Path) -> None:
    """Without systemd, $XDG_STATE_HOME; without that, or with a relative one, ~/.local/state. The directory is made."""
    name = "digitalocean-backup-exporter"
    assert automatic_state_file({"XDG_STATE_HOME": str(tmp_path / "xdg")}) == tmp_path / "xdg" / name / "state.json"
    for home in ({}, {"XDG_STATE_HOME": "relative"}):
        found = automatic_state_file({**home, "HOME": str(tmp_path)})
        assert found == tmp_path / ".local" / "state" / name / "state.json"
        assert found.parent.is_dir()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Nothing is kept where no directory can be made, and a systemd directory that is not writable is passed over."""
    (tmp_path / "file").touch()
    assert automatic_state_file({}) is None
    assert automatic_state_file({"XDG_STATE_HOME": str(tmp_path / "file")}) is None
    found = automatic_state_file({"STATE_DIRECTORY": str(tmp_path / "file"), "XDG_STATE_HOME": str(tmp_path / "xdg")})
    assert found is not None
    assert found.is_relative_to(tmp_path / "xdg")
