"""Sign-in, one's own account, users and API keys."""

from mailing.admin.signin import account, keys, routes, users

signin = [
    routes.sign_in_page,
    routes.sign_in,
    routes.sign_in_with_form,
    routes.sign_out,
    routes.begin_oidc,
    routes.finish_oidc,
    account.account_page,
    account.change_password,
    account.close_session,
    account.sign_out_everywhere,
    users.users_page,
    users.create_user,
    users.user_page,
    users.set_role,
    users.set_password,
    users.disable_user,
    users.enable_user,
    keys.keys_page,
    keys.create_key,
    keys.revoke_page,
    keys.revoke_key,
]
