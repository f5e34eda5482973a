"""Errors beside the fields, and the options for roles."""

from collections.abc import Mapping

from mailing.access.roles import Role
from mailing.admin.viewer import Viewer
from mailing.errors import Conflict, FieldError, Invalid


def errors_of(viewer: Viewer, error: Invalid | Conflict, labels: Mapping[str, str]) -> dict[str, str]:
    """Map fields to messages. A conflict without a field is shown at the first one."""
    fields = error.errors or [FieldError(next(iter(labels)), str(error))]
    return {each.field: f"{labels.get(each.field, each.field)}: {viewer.gettext(each.message)}" for each in fields}


def role_names(viewer: Viewer) -> list[tuple[str, str]]:
    """Return the options for a role: value and label."""
    return [
        (str(Role.VIEWER), viewer.gettext("viewer: reads everything")),
        (str(Role.EDITOR), viewer.gettext("editor: also edits clients and drafts mailings")),
        (str(Role.SENDER), viewer.gettext("sender: also releases, stops and resolves")),
        (str(Role.ADMIN), viewer.gettext("admin: also manages users and keys")),
    ]
