"""The first key: whoever starts Holdfast gets one that may administer and call."""

from dataclasses import dataclass, replace

from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.declared import hint_of
from holdfast.features.tenancy.keys import audit_view
from holdfast.features.tenancy.ledger import Ledger, administers, audited
from holdfast.features.tenancy.model import OWNER, Asker, key_scope
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.findings import Findings
from holdfast.kernel.ids import make_secret
from holdfast.kernel.secret import Secret, fingerprint
from holdfast.kernel.tenant import DEFAULT_TENANT, Role
from holdfast.ports.directory import DirectoryChange, Key, Put

BOOTSTRAP_ID = "key_" + "0" * 32  # one id, so that nodes that start together make one key
BOOTSTRAP_NAME = "bootstrap"
BOOTSTRAP_VARIABLE = "HOLDFAST_BOOTSTRAP_KEY"
SHORTEST = 16
ENDED = "bootstrap_key_ended"


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """`secret` is there where a key was made or installed by this start: the only moment it can be shown."""

    key_id: str
    secret: str | None


class Bootstrap:
    """Run once at start, after the catalogue has read the directory and the file."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger, clock: Clock, findings: Findings) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._clock = clock
        self._findings = findings

    async def ensure(self, wanted: Secret | None) -> Bootstrapped | None:
        """With `wanted` (from HOLDFAST_BOOTSTRAP_KEY): that value is the bootstrap key, and a former value ends at once; a value
        that was revoked or rotated away by API stays so, and is a finding. Without: a key is made where no administrator's key lives.
        None: nothing was to be done."""
        if wanted is not None:
            return await self._install(wanted.reveal())
        if self._administered():
            return None
        secret = make_secret()
        await self._put(secret, only_if_needed=True)
        return self._outcome(secret)

    async def _install(self, secret: str) -> Bootstrapped | None:
        if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise SettingsError(
                f"{BOOTSTRAP_VARIABLE} must be at least {SHORTEST} printable ASCII characters without spaces."
            )
        digest = fingerprint(secret).hex()
        credential = self._catalogue.snapshot.credentials.get(fingerprint(secret))
        if credential is None:
            await self._put(secret, only_if_needed=False)
            return self._outcome(secret)
        key, at = self._catalogue.snapshot.keys[credential.principal.key_id].key, self._clock.now()
        if key.revoked_at is not None or key.hashes[0][0] != digest:
            self._findings.open(
                ENDED,
                key_scope(key.id),
                what=f"{BOOTSTRAP_VARIABLE} holds a secret that was revoked or rotated away by API, and was not installed again.",
                todo=f"Take {BOOTSTRAP_VARIABLE} out of the environment, or give it another value.",
            )
            return None
        if not administers(key, at):
            raise SettingsError(
                f"{BOOTSTRAP_VARIABLE} is the secret of the key {key.name}, which is no administrator's."
            )
        return Bootstrapped(key.id, secret)

    def _administered(self) -> bool:
        snapshot, at = self._catalogue.snapshot, self._clock.now()
        return any(administers(snapshot.keys[key_id].key, at) for key_id in snapshot.administrators)

    async def _put(self, secret: str, *, only_if_needed: bool) -> None:
        def plan(at: float) -> tuple[DirectoryChange, ...]:
            if only_if_needed and self._administered():
                return ()
            before = self._catalogue.rows.keys.get(BOOTSTRAP_ID)
            made = Key(
                id=BOOTSTRAP_ID,
                name=self._free_name(),
                organisation=DEFAULT_TENANT.organisation,
                team=DEFAULT_TENANT.team,
                hashes=((fingerprint(secret).hex(), None),),
                hint=hint_of(secret),
                role=Role.ADMIN,
                created_at=at,
            )
            after = made if before is None else replace(made, created_at=before.created_at, limits=before.limits)
            action = "key.create" if before is None else "key.rotate"
            view = None if before is None else audit_view(before)
            return (
                Put(after, expect_version=0 if before is None else before.version),
                audited(Asker(OWNER), at, action, key_scope(BOOTSTRAP_ID), view, audit_view(after)),
            )

        await self._ledger.write(plan)

    def _free_name(self) -> str:
        place = (DEFAULT_TENANT.organisation, DEFAULT_TENANT.team, BOOTSTRAP_NAME)
        owner = self._catalogue.snapshot.live_names.get(place, BOOTSTRAP_ID)
        return BOOTSTRAP_NAME if owner == BOOTSTRAP_ID else BOOTSTRAP_ID

    def _outcome(self, secret: str) -> Bootstrapped | None:
        """None where another node that started at the same time made the key."""
        key = self._catalogue.rows.keys.get(BOOTSTRAP_ID)
        if key is not None and key.hashes[0][0] == fingerprint(secret).hex():
            return Bootstrapped(BOOTSTRAP_ID, secret)
        return None
