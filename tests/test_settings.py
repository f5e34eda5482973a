import re
from pathlib import Path

import msgspec
import pytest

from mailing.errors import ConfigurationError
from mailing.settings import PREFIX, Settings, load

EXAMPLE = Path(__file__).parents[1] / ".env.example"


def test_every_problem_is_named_at_once_and_no_value_is_shown() -> None:
    environ = {
        "MAILING_PROT": "8000",
        "MAILING_PORT": "99999",
        "MAILING_GATEWAY_TOKEN": "s3cret-token",
        "MAILING_ON_UNKNOWN": "s3cret-too",
        "PATH": "/bin",
    }
    with pytest.raises(ConfigurationError) as refused:
        load(environ)
    sentences = "\n".join(refused.value.problems)
    assert [name for name in ("MAILING_PROT", "MAILING_PORT:", "MAILING_ON_UNKNOWN:") if name not in sentences] == []
    assert "did you mean MAILING_PORT?" in sentences
    assert "s3cret" not in sentences


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x/y"),
        ("GATEWAY_URL", "ftp://x"),
        ("GATEWAY_URL", "https://user:password@gateway.example/v1"),
        ("GATEWAY_URL", "https://gateway.example/v1?key=1"),
        ("GATEWAY_URL", "https://gateway.example:port/v1"),
        ("GATEWAY_TIMEOUT_S", "0"),
        ("GATEWAY_CONCURRENCY", "many"),
        ("REPORT_TIME", "25:00"),
        ("REPORT_TIMEZONE", "UTC+3"),
        ("REPORT_TO", "nobody"),
        ("SMTP_USER", "alone"),
        ("RETRY_MAX_S", "1"),
        ("API_KEY", "short"),
        ("API_KEY", "ключ-на-русском-языке"),
        ("LOG_LEVEL", "loud"),
        ("ADMIN_PASSWORD", "short"),
        ("OIDC_ISSUER", "http://id.example.org"),
        ("OIDC_ISSUER", "https://id.example.org"),
        ("OIDC_ROLES", "ops=root"),
        ("OIDC_ROLES", "admin"),
        ("GATEWAY_PROVIDER", "smpp"),
        ("GATEWAY_USER", "two words"),
        ("GATEWAY_USER", "name:password"),
        ("GATEWAY_USER", "имя"),
        ("SENDER", "Магазин"),
        ("SENDER", "a" * 35),
        ("ON_UNKNOWN", "drop"),
        ("PUBLIC_URL", "http://mailing.example.org"),
        ("PUBLIC_URL", "http://8.8.8.8:8000"),
        ("PUBLIC_URL", "https://mailing.example.org/?a=1"),
        ("PUBLIC_URL", "ftp://localhost"),
        ("PUBLIC_URL", "https://рассылка.рф"),
    ],
)
def test_a_bad_value_is_refused_under_its_own_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({PREFIX + name: value})
    assert PREFIX + name in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["http://localhost:8000", "http://127.0.0.1", "http://api:8000", "http://10.1.2.3", "http://[fd00::1]:80"],
)
def test_only_inside_a_private_network_the_public_address_may_be_http(address: str) -> None:
    assert load({"MAILING_PUBLIC_URL": address}).public_url == address


def test_the_environment_wins_over_the_file_and_an_empty_value_counts_as_not_set(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("# a comment\nMAILING_PORT=9000\nexport MAILING_HOST='0.0.0.0'\nMAILING_GATEWAY_URL=\n")
    settings = load({"MAILING_PORT": "9001"}, dotenv)
    assert (settings.port, settings.host, settings.gateway_url) == (9001, "0.0.0.0", None)  # noqa: S104 - a value


def test_the_example_file_lists_exactly_the_settings_with_their_defaults() -> None:
    listed = dict(re.findall(r"^#?(MAILING_\w+)=(.*)$", EXAMPLE.read_text(), flags=re.MULTILINE))
    defaults = {PREFIX + field.name.upper(): field.default for field in msgspec.structs.fields(Settings)}
    assert listed.keys() == defaults.keys()
    assert load(listed) == Settings()


SHIPPED = {"MAILING_API_KEY": "development-key-change-me", "MAILING_ADMIN_PASSWORD": "change-me-please"}


@pytest.mark.parametrize(
    "exposed",
    [
        {"MAILING_HOST": "0.0.0.0"},  # noqa: S104 - that is the point
        {"MAILING_HOST": "::"},
        {"MAILING_HOST": "10.0.0.5"},
        {"MAILING_HOST": "mailing.example.org"},
        {"MAILING_PUBLIC_URL": "https://mailing.example.org"},
        {"MAILING_ALLOWED_HOSTS": "mailing.example.org"},
    ],
)
def test_published_secrets_are_refused_where_others_may_come(exposed: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(SHIPPED | exposed | {"MAILING_DATABASE_URL": "postgresql://mailing:changeme@database/mailing"})
    assert [problem.split()[0] for problem in refused.value.problems] == [
        "MAILING_API_KEY",
        "MAILING_ADMIN_PASSWORD",
        "MAILING_DATABASE_URL's",
    ]
    assert "change-me" not in str(refused.value)


def test_a_public_address_on_loopback_exposes_nothing() -> None:
    assert load(SHIPPED | {"MAILING_PUBLIC_URL": "http://127.0.0.1:8000"}).api_key == "development-key-change-me"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_they_are_good_enough(host: str) -> None:
    assert load(SHIPPED | {"MAILING_HOST": host}).api_key == "development-key-change-me"


def test_an_empty_value_of_the_environment_leaves_the_file_s_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MAILING_API_KEY=a-key-that-was-made\n")
    assert load({"MAILING_API_KEY": ""}, file).api_key == "a-key-that-was-made"
    assert load({"MAILING_API_KEY": "another-key-than-that"}, file).api_key == "another-key-than-that"


@pytest.mark.parametrize("told", ["https://a.example", "a.example:8000", "a.example/", "a example", "*", "a.example,"])
def test_an_allowed_host_is_a_name_alone(told: str) -> None:
    with pytest.raises(ConfigurationError, match="MAILING_ALLOWED_HOSTS must be names without ports"):
        load({"MAILING_ALLOWED_HOSTS": told})
