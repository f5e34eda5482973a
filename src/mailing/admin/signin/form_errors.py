"""What the pages about people and keys share: refusals beside the fields, and who is meant by an address."""

from collections.abc import Mapping

from mailing.access.roles import Role
from mailing.admin.viewer import Viewer
from mailing.errors import Conflict, FieldError, Invalid


def errors_of(viewer: Viewer, error: Invalid | Conflict, labels: Mapping[str, str]) -> dict[str, str]:
    """Field → sentence; a conflict without a field stands beside the first one."""
    fields = error.errors or [FieldError(next(iter(labels)), str(error))]
    return {each.field: f"{labels.get(each.field, each.field)}: {viewer.gettext(each.message)}" for each in fields}


def role_names(viewer: Viewer) -> list[tuple[str, str]]:
    """For a choice: the value and its words."""
    return [
        (str(Role.VIEWER), viewer.gettext("viewer: sees everything")),
        (str(Role.EDITOR), viewer.gettext("editor: also prepares clients and mailings")),
        (str(Role.SENDER), viewer.gettext("sender: also sends, stops and resolves")),
        (str(Role.ADMIN), viewer.gettext("admin: also gives access")),
    ]
