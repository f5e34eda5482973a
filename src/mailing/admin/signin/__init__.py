"""Sign-in, one's own account, users and API keys."""

from mailing.admin.signin import account, keys, people, routes

signin = [
    routes.sign_in_page,
    routes.sign_in,
    routes.sign_out,
    routes.go_to_provider,
    routes.come_back,
    account.account_page,
    account.change_password,
    account.close_session,
    account.sign_out_everywhere,
    people.users_page,
    people.create_user,
    people.user_page,
    people.set_role,
    people.set_password,
    people.disable_user,
    people.enable_user,
    keys.keys_page,
    keys.create_key,
    keys.revoke_page,
    keys.revoke_key,
]
