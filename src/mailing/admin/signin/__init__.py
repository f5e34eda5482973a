"""Sign-in, one's own account, users and API keys."""

from mailing.admin.signin import account, keys, routes, users

signin = [*routes.HANDLERS, *account.HANDLERS, *users.HANDLERS, *keys.HANDLERS]
