"""/api/keys."""

from typing import Annotated, Any, Literal

from fastapi import Header, Query, Response
from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import (
    Body,
    Etag,
    KeyId,
    LimitsBody,
    LimitsView,
    ModelName,
    Moment,
    MomentText,
    Name,
    PageLimit,
    Params,
    RoleName,
    Tag,
    View,
    etag,
    limits_from,
    limits_view,
    moment_or_null,
    source_of,
    version_of,
)
from holdfast.features.tenancy.keys import LONGEST_OVERLAP_SECONDS, KeyEdit, NewKey
from holdfast.features.tenancy.model import KeyEntry
from holdfast.kernel.tenant import Role, Tenant

Models = Annotated[list[ModelName], Field(max_length=200, description="The models it may use; empty: every model.")]
Tags = Annotated[list[Tag], Field(max_length=50, description="Free words to find it by.")]
IfMatch = Annotated[Etag | None, Header()]


class KeyView(View):
    """An API key. Its secret is not here, because nobody has it."""

    id: str
    name: str
    organisation: str
    team: str
    role: RoleName
    may_call: bool
    models: list[str]
    tags: list[str]
    limits: LimitsView
    hint: str = Field(description="Enough of the secret to recognise it by.")
    expires_at: MomentText | None
    created_at: MomentText | None = Field(description="null for what is declared.")
    revoked_at: MomentText | None
    old_secret_until: MomentText | None = Field(description="After a rotation: until when the secret before works.")
    source: Literal["file", "api"]
    origin: str | None = Field(description="Where it is declared, when the settings file owns it.")
    version: int


class NewKeyView(KeyView):
    """An API key with its secret: the only time it is shown."""

    secret: str


class KeyPageView(View):
    """A page may be short and yet not the last: `next` says."""

    keys: list[KeyView]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class KeyBody(Body):
    """What a key is made of."""

    name: Name
    organisation: Name = "default"
    team: Name = "default"
    role: RoleName = Field(default="none", description="What it may do on the control API.")
    may_call: bool = Field(default=True, description="Whether it may call models.")
    models: Models = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)
    limits: LimitsBody = Field(default_factory=LimitsBody)
    expires_at: Moment | None = None


class KeyPatch(Body):
    """What is to be different; what is left out stays. `limits`, `models` and `tags` are replaced whole."""

    name: Name = Field(default_factory=str)
    role: RoleName = Field(default_factory=lambda: "none")
    may_call: bool = Field(default_factory=bool)
    models: Models = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)
    limits: LimitsBody = Field(default_factory=LimitsBody)
    expires_at: Moment | None = Field(default_factory=lambda: None, description="null: it never expires.")


class RotationBody(Body):
    """How a secret is replaced."""

    overlap_seconds: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_SECONDS)] | None = Field(
        default=None, description="How long the old secret goes on; null: `tenancy.rotation_overlap_seconds`."
    )


class KeyQuery(Params):
    organisation: Name | None = None
    team: Name | None = None
    name: Name | None = None
    revoked: Literal["true", "false"] = Field(default="false", description="Whether revoked keys are shown too.")
    limit: PageLimit = 100
    after: KeyId | None = Field(default=None, description="`next` of the page before.")


class OneKeyQuery(Params):
    revoked: Literal["true", "false"] = Field(default="false", description="Whether it is shown when it is revoked.")


async def list_keys(asker: Asking, deps: Deps, query: Annotated[KeyQuery, Query()]) -> KeyPageView:
    """List keys, in the order of their ids."""
    page = deps.tenancy.keys.page(
        asker,
        organisation=query.organisation,
        team=query.team,
        name=query.name,
        revoked=query.revoked == "true",
        limit=query.limit,
        after=query.after,
    )
    return KeyPageView(keys=[_view(entry) for entry in page.keys], next=page.after)


async def create_key(asker: Asking, deps: Deps, _: NoQuery, body: KeyBody, response: Response) -> NewKeyView:
    """Make a key. Its secret is in this answer and nowhere else."""
    wanted = NewKey(
        name=body.name,
        tenant=Tenant(body.organisation, body.team),
        role=Role(body.role),
        may_call=body.may_call,
        models=tuple(body.models),
        tags=tuple(body.tags),
        limits=limits_from(body.limits),
        expires_at=body.expires_at,
    )
    shown = await deps.tenancy.keys.create(asker, wanted)
    response.headers["etag"] = etag(shown.entry.key.version)
    return NewKeyView(secret=shown.secret, **_fields(shown.entry))


async def get_key(
    asker: Asking, deps: Deps, key_id: KeyId, query: Annotated[OneKeyQuery, Query()], response: Response
) -> KeyView:
    """Read a key."""
    entry = deps.tenancy.keys.get(asker, key_id, revoked=query.revoked == "true")
    response.headers["etag"] = etag(entry.key.version)
    return _view(entry)


async def update_key(
    asker: Asking, deps: Deps, _: NoQuery, key_id: KeyId, body: KeyPatch, response: Response, if_match: IfMatch = None
) -> KeyView:
    """Change a key."""
    changed = {name: getattr(body, name) for name in body.model_fields_set}
    for name in ("models", "tags"):
        if name in changed:
            changed[name] = tuple(changed[name])
    if "role" in changed:
        changed["role"] = Role(changed["role"])
    if "limits" in changed:
        changed["limits"] = limits_from(changed["limits"])
    entry = await deps.tenancy.keys.update(asker, key_id, KeyEdit(**changed), expect_version=version_of(if_match))
    response.headers["etag"] = etag(entry.key.version)
    return _view(entry)


async def rotate_key(
    asker: Asking,
    deps: Deps,
    _: NoQuery,
    key_id: KeyId,
    body: RotationBody,
    response: Response,
    if_match: IfMatch = None,
) -> NewKeyView:
    """Give a key a new secret. Both work until the overlap ends."""
    shown = await deps.tenancy.keys.rotate(
        asker, key_id, overlap_seconds=body.overlap_seconds, expect_version=version_of(if_match)
    )
    response.headers["etag"] = etag(shown.entry.key.version)
    return NewKeyView(secret=shown.secret, **_fields(shown.entry))


async def revoke_key(asker: Asking, deps: Deps, _: NoQuery, key_id: KeyId, if_match: IfMatch = None) -> None:
    """Revoke a key, for ever. Every node refuses it within a second."""
    await deps.tenancy.keys.revoke(asker, key_id, expect_version=version_of(if_match))


TABLE = (
    Endpoint("GET", "/api/keys", list_keys),
    Endpoint("POST", "/api/keys", create_key, 201),
    Endpoint("GET", "/api/keys/{key_id}", get_key),
    Endpoint("PATCH", "/api/keys/{key_id}", update_key),
    Endpoint("DELETE", "/api/keys/{key_id}", revoke_key, 204),
    Endpoint("POST", "/api/keys/{key_id}/rotate", rotate_key),
)


def _view(entry: KeyEntry) -> KeyView:
    return KeyView(**_fields(entry))


def _fields(entry: KeyEntry) -> dict[str, Any]:
    key = entry.key
    return {
        "id": key.id,
        "name": key.name,
        "organisation": key.organisation,
        "team": key.team,
        "role": key.role.value,
        "may_call": key.may_call,
        "models": list(key.models),
        "tags": list(key.tags),
        "limits": limits_view(entry.limits),
        "hint": key.hint,
        "expires_at": moment_or_null(key.expires_at),
        "created_at": moment_or_null(key.created_at or None),
        "revoked_at": moment_or_null(key.revoked_at),
        "old_secret_until": moment_or_null(key.hashes[1][1]) if len(key.hashes) > 1 else None,
        "source": source_of(entry.origin),
        "origin": entry.origin,
        "version": key.version,
    }
