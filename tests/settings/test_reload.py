"""Hot reload: a change is noticed once it rests, read whole, and a bad one says what is wrong."""

import asyncio
import os
from pathlib import Path

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import SettingsError
from holdfast.settings import Loaded, Settings, Watch, needs_loopback, restart_needed
from tests.settings.said import MODEL, Folder

KEYED = MODEL.replace('https://api.openai.com/v1"', 'https://api.openai.com/v1"\nkey = "file:secrets/key"')


def watch(folder: Folder, text: str) -> Watch:
    return Watch(folder.load(text), {}, {}, VirtualClock())


def port(found: Loaded | SettingsError | None) -> int:
    assert isinstance(found, Loaded)
    return found.settings.server.port


def replaced(file: Path, text: str) -> None:
    """As editors and deployments do it: a new file under the old name."""
    beside = file.with_name("beside")
    beside.write_text(text)
    beside.replace(file)


def test_nothing_changed_is_nothing(folder: Folder) -> None:
    found = watch(folder, "[server]\nport = 1\n")
    assert [found.look() for _ in range(3)] == [None, None, None]


@pytest.mark.parametrize("write", [replaced, lambda file, text: file.write_text(text)])
def test_a_change_is_read_once_it_rests(folder: Folder, write: object) -> None:
    assert callable(write)
    found = watch(folder, "[server]\nport = 1\n")
    write(folder.file, "[server]\nport = 2\n")
    assert found.look() is None
    assert port(found.look()) == 2
    assert found.look() is None


def test_a_file_that_is_still_being_written_is_left_alone(folder: Folder) -> None:
    found = watch(folder, "[server]\nport = 1\n")
    folder.file.write_text("")
    assert found.look() is None
    folder.file.write_text("[server]\n")
    assert found.look() is None
    folder.file.write_text("[server]\nport = 3\n")
    assert found.look() is None
    assert port(found.look()) == 3


def test_a_bad_file_is_said_once_and_the_next_good_one_is_read(folder: Folder) -> None:
    found = watch(folder, "[server]\nport = 1\n")
    folder.write("[server]\nprot = 2\n")
    found.look()
    error = found.look()
    assert isinstance(error, SettingsError)
    assert error.message == f'{folder.file}:2: [server] unknown key "prot"; did you mean "port"?'
    assert found.look() is None
    folder.write("[server]\nport = 2\n")
    found.look()
    assert port(found.look()) == 2


def test_a_removed_file_is_said_and_its_return_is_read(folder: Folder) -> None:
    found = watch(folder, "[server]\nport = 1\n")
    folder.file.unlink()
    found.look()
    error = found.look()
    assert isinstance(error, SettingsError)
    assert error.message == f"{folder.file}: cannot be read: No such file or directory"
    folder.write("[server]\nport = 4\n")
    found.look()
    assert port(found.look()) == 4


def secret_of(found: Loaded | SettingsError | None) -> str:
    assert isinstance(found, Loaded)
    key = found.settings.upstreams["openai"].key
    assert key is not None
    return key.reveal()


def test_a_secret_file_is_watched_too(folder: Folder) -> None:
    (folder.path / "secrets").mkdir()
    (folder.path / "secrets" / "key").write_text("first-key")
    found = watch(folder, KEYED)
    replaced(folder.path / "secrets" / "key", "other-key")
    found.look()
    assert secret_of(found.look()) == "other-key"


def test_a_folder_of_links_is_swapped_as_kubernetes_does_it(folder: Folder) -> None:
    """secrets/key -> ..data/key, ..data -> ..first; only the link ..data changes, in one rename."""
    secrets = folder.path / "secrets"
    for name, value in (("..first", "first-key"), ("..other", "other-key")):
        (secrets / name).mkdir(parents=True)
        (secrets / name / "key").write_text(value)
        os.utime(secrets / name / "key", ns=(1, 1))
    (secrets / "..data").symlink_to("..first")
    (secrets / "key").symlink_to("..data/key")
    found = watch(folder, KEYED)
    assert found.look() is None
    (secrets / "..new").symlink_to("..other")
    (secrets / "..new").rename(secrets / "..data")
    assert found.look() is None
    assert secret_of(found.look()) == "other-key"


def test_a_secret_file_that_appears_later_mends_the_settings(folder: Folder) -> None:
    found = watch(folder, MODEL)
    folder.write(KEYED)
    found.look()
    error = found.look()
    assert isinstance(error, SettingsError)
    assert "the secret file" in error.message
    (folder.path / "secrets").mkdir()
    (folder.path / "secrets" / "key").write_text("late-key")
    found.look()
    assert secret_of(found.look()) == "late-key"


def test_a_change_between_reading_and_watching_is_not_lost(folder: Folder) -> None:
    loaded = folder.load("[server]\nport = 1\n")
    replaced(folder.file, "[server]\nport = 2\n")
    found = Watch(loaded, {}, {}, VirtualClock())
    found.look()
    assert port(found.look()) == 2


def test_a_reload_on_demand_waits_for_nothing(folder: Folder) -> None:
    found = watch(folder, "[server]\nport = 1\n")
    folder.write("[server]\nport = 2\n")
    assert port(found.reload()) == 2
    assert [found.look() for _ in range(3)] == [None, None, None]


def test_flags_and_environment_still_go_first_after_a_reload(folder: Folder) -> None:
    environ, flags = {"HOLDFAST_SERVER__HOST": "::1"}, {"server.port": 9}
    found = Watch(folder.load("", environ, flags), environ, flags, VirtualClock())
    folder.write("[server]\nport = 2\nhost = '127.0.0.1'\n")
    reloaded = found.reload()
    assert port(reloaded) == 9
    assert isinstance(reloaded, Loaded)
    assert reloaded.settings.server.host == "::1"


async def test_changes_are_followed_by_the_clock(folder: Folder) -> None:
    clock = VirtualClock()
    found = Watch(folder.load("[server]\nport = 1\n"), {}, {}, clock, interval_seconds=0.5)
    folder.write("[server]\nport = 2\n")
    changes = found.changes()
    coming = asyncio.ensure_future(anext(changes))
    while not coming.done():
        await clock.advance(0.5)
        await asyncio.sleep(0.001)
    assert port(await coming) == 2
    await changes.aclose()


def test_without_files_there_is_nothing_to_watch() -> None:
    found = Watch(Loaded(Settings(), None, {}, (), ()), {}, {}, VirtualClock())
    assert found.look() is None
    assert isinstance(found.reload(), Loaded)


def test_what_needs_a_restart_is_named(folder: Folder) -> None:
    old = folder.load("").settings
    new = folder.load(
        "[server]\nport = 1\nmax_inflight = 3\n[store]\ndata = 'x'\nredis = 'redis://x'\n[logs]\nlevel = 'debug'\n"
    ).settings
    assert restart_needed(old, new) == ["server.port", "store.data", "store.redis"]
    assert restart_needed(new, new) == []


def test_the_upstreams_that_need_loopback_are_named(folder: Folder) -> None:
    text = MODEL + '[upstreams.demo]\ndialect = "scripted"\n'
    assert needs_loopback(folder.load(text).settings) == ["demo"]
    assert needs_loopback(folder.load(MODEL).settings) == []
