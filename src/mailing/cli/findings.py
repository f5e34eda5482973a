"""What `mailing doctor` found, and how it is printed."""

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True):
    """`warn`: it works, but the operator should know."""

    part: str
    verdict: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def line(finding: Finding) -> str:
    found = f"{finding.verdict:<6} {finding.part:<14} {finding.detail}"
    return f"{found}\n{'':<22}→ {finding.remedy}" if finding.remedy else found
