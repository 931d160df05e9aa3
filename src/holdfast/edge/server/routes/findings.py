"""/api/findings."""

from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import MomentText, View, moment


class FindingView(View):
    """A state that needs a person."""

    code: str
    subject: str
    what: str
    todo: str
    since: MomentText
    severity: str
    count: int = Field(description="How often it was noticed.")


class FindingsView(View):
    """Oldest first."""

    findings: list[FindingView]


async def list_findings(asker: Asking, deps: Deps, _: NoQuery) -> FindingsView:
    """What needs a person: what, since when, and what to do."""
    return FindingsView(
        findings=[
            FindingView(
                code=finding.code,
                subject=finding.subject,
                what=finding.what,
                todo=finding.todo,
                since=moment(finding.since),
                severity=finding.severity,
                count=finding.count,
            )
            for finding in deps.tenancy.reports.findings(asker)
        ]
    )


TABLE = (Endpoint("GET", "/api/findings", list_findings),)
