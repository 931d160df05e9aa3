"""What the settings file declares, and what of it cannot be because the API made it: one name has one owner."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.features.tenancy.limits import fault_of, only_limits, row_from_limits
from holdfast.features.tenancy.model import KeyEntry, OrganisationEntry, Rows, TeamEntry, key_entry
from holdfast.features.tenancy.names import epoch_from_moment, is_name, tenant_of
from holdfast.features.tenancy.settings import KeySettings, LimitSettings, OrganisationSettings
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.report import dotted
from holdfast.kernel.secret import fingerprint, masked
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from holdfast.ports.directory import Key

FILE = "the settings file"
ADVICE = "delete it by API first, or leave it out of the file"
ADVICE_DEFAULT = "clear its limits by API first, or leave it out of the file"


@dataclass(frozen=True, slots=True)
class Declared:
    """The file's part of the catalogue; keys by id."""

    organisations: Mapping[str, OrganisationEntry] = field(default_factory=dict)
    teams: Mapping[Tenant, TeamEntry] = field(default_factory=dict)
    keys: Mapping[str, KeyEntry] = field(default_factory=dict)


def declared_key_id(name: str) -> str:
    """A declared key keeps its id as long as it keeps its name, whatever its secret is."""
    return "key_" + hashlib.sha256(b"declared key " + name.encode()).hexdigest()[:32]


def read_declared(
    organisations: Mapping[str, OrganisationSettings], keys: Mapping[str, KeySettings], origins: Mapping[str, str]
) -> Declared:
    """Raises SettingsError naming the line of the first thing that cannot be used."""
    organisation_entries: dict[str, OrganisationEntry] = {}
    team_entries: dict[Tenant, TeamEntry] = {}
    for name, organisation in organisations.items():
        path = dotted(("organisations", name))
        origin = origins.get(path, FILE)
        _check(name, organisation, path, origin)
        organisation_entries[name] = OrganisationEntry(name, only_limits(organisation), origin)
        for team_name, team in organisation.teams.items():
            team_path = dotted(("organisations", name, "teams", team_name))
            team_origin = origins.get(team_path, origin)
            _check(team_name, team, team_path, team_origin)
            tenant = Tenant(name, team_name)
            team_entries[tenant] = TeamEntry(tenant, only_limits(team), team_origin)
    key_entries: dict[str, KeyEntry] = {}
    digests: dict[str, str] = {}
    for name, key in keys.items():
        path = dotted(("keys", name))
        origin = origins.get(path, FILE)
        _check(name, key, path, origin)
        entry = _read_key(name, key, path, origin)
        digest = entry.key.hashes[0][0]
        if digest in digests:
            raise SettingsError(
                f"{origin}: {path} has the same secret as keys.{digests[digest]}; give each key its own."
            )
        digests[digest] = name
        key_entries[entry.key.id] = entry
    return Declared(organisation_entries, team_entries, key_entries)


def _check(name: str, limits: LimitSettings, path: str, origin: str) -> None:
    if not is_name(name):
        raise SettingsError(
            f"{origin}: {path}: a name is 1 to 64 letters, digits, dots, underscores or hyphens, the first one no dot."
        )
    fault = fault_of(limits)
    if fault is not None:
        raise SettingsError(f"{origin}: {path}.{fault}.")


def _read_key(name: str, key: KeySettings, path: str, origin: str) -> KeyEntry:
    digest, hint = _digest(key, path, origin)
    try:
        tenant = tenant_of(key.team)
    except ValueError as error:
        raise SettingsError(f"{origin}: {path}.team: {error}.") from error
    try:
        expires_at = None if key.expires_at is None else epoch_from_moment(key.expires_at)
    except ValueError as error:
        raise SettingsError(f"{origin}: {path}.expires_at: {error}.") from error
    limits = only_limits(key)
    row = Key(
        id=declared_key_id(name),
        name=name,
        organisation=tenant.organisation,
        team=tenant.team,
        hashes=((digest, None),),
        hint=hint,
        role=Role(key.role),
        may_call=key.may_call,
        models=key.models,
        tags=key.tags,
        limits=row_from_limits(limits),
        expires_at=expires_at,
    )
    return key_entry(row, limits, origin)


def _digest(key: KeySettings, path: str, origin: str) -> tuple[str, str]:
    if (key.secret is None) == (key.sha256 is None):
        raise SettingsError(f'{origin}: {path} needs one of `secret` ("env:NAME" or "file:PATH") and `sha256`.')
    if key.secret is not None:
        secret = key.secret.reveal()
        if not secret:
            raise SettingsError(f"{origin}: {path}.secret is empty.")
        return fingerprint(secret).hex(), hint_of(secret)
    digest = (key.sha256 or "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise SettingsError(f"{origin}: {path}.sha256 must be 64 hexadecimal digits.")
    return digest, f"sha256:{digest[:8]}…"


def hint_of(secret: str) -> str:
    """Enough to recognise a key by; of a short one, which somebody chose, next to nothing."""
    return masked(secret) if len(secret) >= 40 else secret[:2] + "…"


def conflicts_of(declared: Declared, rows: Rows) -> list[str]:
    """A sentence for each object that both would own, or that would lose the place it lives in."""
    return [*_twice_owned(declared, rows), *_keys_twice(declared, rows), *_homeless(declared, rows)]


def _twice_owned(declared: Declared, rows: Rows) -> list[str]:
    found = []
    for name, entry in declared.organisations.items():
        organisation = rows.organisations.get(name)
        if organisation is None or organisation.deleted_at is not None:
            continue
        if name != DEFAULT_TENANT.organisation:
            found.append(f"{entry.origin}: the organisation {name} was made by API; {ADVICE}.")
        elif organisation.limits:
            found.append(f"{entry.origin}: the organisation {name} has limits set by API; {ADVICE_DEFAULT}.")
    for tenant, team_entry in declared.teams.items():
        team = rows.teams.get(tenant)
        if team is None or team.deleted_at is not None:
            continue
        if tenant != DEFAULT_TENANT:
            found.append(f"{team_entry.origin}: the team {tenant} was made by API; {ADVICE}.")
        elif team.limits:
            found.append(f"{team_entry.origin}: the team {tenant} has limits set by API; {ADVICE_DEFAULT}.")
    return found


def _keys_twice(declared: Declared, rows: Rows) -> list[str]:
    names: dict[tuple[str, str, str], str] = {}
    digests: dict[str, str] = {}
    for key in rows.keys.values():
        if key.revoked_at is None:
            names[key.organisation, key.team, key.name] = key.id
            digests.update({digest: key.id for digest, _ in key.hashes})
    found = []
    for entry in declared.keys.values():
        key = entry.key
        if (key.organisation, key.team, key.name) in names:
            owner = names[key.organisation, key.team, key.name]
            found.append(
                f"{entry.origin}: the key {key.name} of {entry.principal.tenant} was made by API ({owner}); {ADVICE}."
            )
        owner = digests.get(key.hashes[0][0], "")
        if owner:
            found.append(
                f"{entry.origin}: the key {key.name} has the secret of {owner}, which was made by API; {ADVICE}."
            )
    return found


def _homeless(declared: Declared, rows: Rows) -> list[str]:
    organisations = {DEFAULT_TENANT.organisation, *declared.organisations}
    organisations.update(name for name, row in rows.organisations.items() if row.deleted_at is None)
    teams = {DEFAULT_TENANT, *declared.teams}
    teams.update(tenant for tenant, row in rows.teams.items() if row.deleted_at is None)
    homes = {tenant for tenant in teams if tenant.organisation in organisations}
    found = [
        f"{entry.origin}: the key {entry.key.name} belongs to {entry.principal.tenant}, and there is no such team."
        for entry in declared.keys.values()
        if entry.principal.tenant not in homes
    ]
    found.extend(
        f"The file no longer declares the organisation {tenant.organisation}, in which the API made the team {tenant}."
        for tenant in teams
        if tenant not in homes
    )
    orphans = Counter(
        Tenant(key.organisation, key.team)
        for key in rows.keys.values()
        if key.revoked_at is None and Tenant(key.organisation, key.team) not in homes
    )
    found.extend(
        f"The file no longer declares the team {tenant}, in which the API made {count} keys; revoke them first."
        for tenant, count in orphans.items()
    )
    return found
