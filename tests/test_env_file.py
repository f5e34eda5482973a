"""`.env`: what is not understood is refused with its line, and nothing of it is lost in silence or shown."""

from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values

from mailing.errors import ConfigurationError
from mailing.settings import load, names_of_others
from support.commands import mailing
from support.processes import clean_environment

SECRET = "s3cret-value-of-somebody"
URL = "MAILING_GATEWAY_URL=https://gateway.example/v1\n"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def problems(env_file: Path, content: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    env_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as refused:
        load(environ or {}, env_file)
    assert SECRET not in str(refused.value)
    return refused.value.problems


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_file_of_windows_is_read(env_file: Path, newline: str) -> None:
    text = f"\ufeff{URL}\nMAILING_PORT=9000\n".replace("\n", newline)
    env_file.write_bytes(text.encode())
    settings = load({}, env_file)
    assert (settings.gateway_url, settings.port) == ("https://gateway.example/v1", 9000)


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-16", ["UTF-16", "save it as UTF-8"]),
        ("utf-16-le", ["UTF-16", "save it as UTF-8"]),
        ("utf-16-be", ["UTF-16", "save it as UTF-8"]),
        ("utf-32", ["UTF-32", "save it as UTF-8"]),
        ("cp1251", ["line 3", "byte 0xf1", "save it as UTF-8"]),
        ("koi8-r", ["line 3", "not UTF-8", "save it as UTF-8"]),
    ],
)
def test_another_encoding_is_named_with_the_remedy(env_file: Path, encoding: str, names: list[str]) -> None:
    (problem,) = problems(env_file, f"{URL}\r\nMAILING_OPT_OUT=с{SECRET}\r\n".encode(encoding))
    assert [name for name in [str(env_file), *names] if name not in problem] == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (f"MAILING_GATEWAY_TOKEN: {SECRET}", "not a colon"),
        (f"  export MAILING_GATEWAY_TOKEN : {SECRET}", "not a colon"),
        (f'"MAILING_GATEWAY_TOKEN": "{SECRET}",', "not a colon"),
        (f"MAILING_GATEWAY-TOKEN={SECRET}", "did you mean MAILING_GATEWAY_TOKEN?"),
        (f"MAILING.GATEWAY.TOKEN={SECRET}", "did you mean MAILING_GATEWAY_TOKEN?"),
        (f"set MAILING_GATEWAY_TOKEN={SECRET}", "leave out 'set'"),
        (f"SET MAILING_GATEWAY_TOKEN={SECRET}", "leave out 'SET'"),
        (f"$env:MAILING_GATEWAY_TOKEN = '{SECRET}'", "the name must consist"),
        (f"Environment=MAILING_GATEWAY_TOKEN={SECRET}", "another assignment is in the value"),
        (f'Environment="MAILING_GATEWAY_TOKEN={SECRET}"', "another assignment is in the value"),
        (f"- MAILING_GATEWAY_TOKEN={SECRET}", "a line is NAME=value"),
        (f"mailing_gateway_token={SECRET}", "did you mean MAILING_GATEWAY_TOKEN?"),
        (f"Mailing_Gateway_Token={SECRET}", "did you mean MAILING_GATEWAY_TOKEN?"),
        (f"MALING_GATEWAY_TOKEN={SECRET}", "did you mean MAILING_GATEWAY_TOKEN?"),
        (f"МAILING_GATEWAY_TOKEN={SECRET}", r"\u041cAILING_GATEWAY_TOKEN is not a setting"),
        (f"\ufeffMAILING_GATEWAY_TOKEN={SECRET}", r"\ufeffMAILING_GATEWAY_TOKEN is not a setting"),
        (f"MAILING_GATEWAY\u200b_TOKEN={SECRET}", r"MAILING_GATEWAY\u200b_TOKEN is not a setting"),
        ('"MAILING_PORT"=1', "the name must consist"),
        ("MAILING_GATEWAY_TOKEN", "there is no ="),
        ("export MAILING_GATEWAY_TOKEN", "there is no ="),
        (SECRET, "there is no ="),
        ("[Service]", "there is no ="),
        ("// a remark", "a comment that begins with #"),
        (f"={SECRET}", "a line is NAME=value"),
        (f'MAILING_GATEWAY_TOKEN="{SECRET}', "is not closed"),
        (f"MAILING_GATEWAY_TOKEN='{SECRET}", "is not closed"),
        (f'MAILING_GATEWAY_TOKEN="{SECRET}" {SECRET}', "something other than a comment follows"),
        (f"MAILING_GATEWAY_TOKEN={SECRET} MAILING_PORT=8", "another assignment is in the value"),
        (f"MAILING_GATEWAY_URL=https://{SECRET} MAILING_PORT=8", "MAILING_GATEWAY_URL must be"),
        (f"MAILING_GATEWAY_TOKEN=${{{SECRET}}}", "${…} is not replaced here"),
        ("MAILING_GATEWAY_TOKEN=$TOKEN", "nor are $NAME"),
        ('MAILING_GATEWAY_TOKEN="$(cat /run/token)"', "nor are $NAME"),
        ("MAILING_SENDER=`hostname`", "nor are $NAME"),
        (f'MAILING_GATEWAY_TOKEN="{SECRET}\nmore"', "a control character"),
        (f"MAILING_GATEWAY_TOKEN={SECRET}\u200b", "an invisible character (U+200B)"),
        ("MAILING_PROT=", "did you mean MAILING_PORT?"),
        (f"MAILING_GATEWAY_RATE={SECRET}", "MAILING_GATEWAY_RATE: Expected"),
    ],
)
def test_a_line_that_is_not_understood_is_refused_with_its_number(env_file: Path, line: str, names: str) -> None:
    """Around it other lines, which are: the number is of the line itself, whatever stands before it."""
    found = problems(env_file, f"\n# a comment\n\n{line}\n\nMAILING_HOST=127.0.0.1\nMAILING_PROTO=1\n")
    assert any(names in problem for problem in found), found
    at_once = [problem for problem in found if "MAILING_PROTO " in problem]
    assert len(at_once) == 1, found
    if "URL must be" not in names:
        assert any("line 4" in problem for problem in found), found


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_bad_line_is_named_at_once_by_its_own_number(env_file: Path, newline: str) -> None:
    lines = ["MAILING_GATEWAY_RATE: 50", URL.strip(), "", "set MAILING_PORT=1", 'MAILING_HOST="x', "MAILING_SENDR=y"]
    found = problems(env_file, newline.join(lines))
    assert [sum(f"line {number}" in problem for problem in found) for number in range(1, 7)] == [1, 0, 0, 1, 1, 1]


def test_a_name_given_twice_is_refused_with_both_lines(env_file: Path) -> None:
    (problem,) = problems(env_file, f"MAILING_GATEWAY_TOKEN={SECRET}\n# then\nMAILING_GATEWAY_TOKEN={SECRET}2\n")
    assert "MAILING_GATEWAY_TOKEN is given twice (.env line 1) (.env line 3)" in problem


AS_PYTHON_DOTENV = r"""
MAILING_GATEWAY_TOKEN=abc # prod
MAILING_GATEWAY_TOKEN=abc#prod
MAILING_GATEWAY_TOKEN= # nothing
MAILING_GATEWAY_TOKEN="abc # prod" # a comment
MAILING_GATEWAY_TOKEN='abc "x" # prod'
MAILING_GATEWAY_TOKEN="a \"b\" \\ c"
MAILING_GATEWAY_TOKEN='a \'b\' \n'
  export   MAILING_GATEWAY_TOKEN = abc
'MAILING_GATEWAY_TOKEN'=abc
MAILING_GATEWAY_TOKEN=a"b'c
MAILING_GATEWAY_TOKEN=a=b==
MAILING_GATEWAY_TOKEN=pa$$w$ord
""".strip().splitlines()


@pytest.mark.parametrize("line", AS_PYTHON_DOTENV)
def test_quotes_export_and_comments_are_as_python_dotenv_has_them(env_file: Path, line: str) -> None:
    env_file.write_text(line)
    expected = dotenv_values(stream=StringIO(line), interpolate=False)["MAILING_GATEWAY_TOKEN"]
    assert load({}, env_file).gateway_token == (expected or None)


def test_braces_in_single_quotes_are_meant_so(env_file: Path) -> None:
    env_file.write_text("MAILING_GATEWAY_TOKEN='a${b}c'\n")
    assert load({}, env_file).gateway_token == "a${b}c"
    env_file.write_text("MAILING_GATEWAY_TOKEN=pa$word`$1\n")
    assert load({}, env_file).gateway_token == "pa$word`$1"


def test_names_of_others_are_left_alone_and_can_be_told(env_file: Path) -> None:
    env_file.write_text(f"{URL}WORKERS=3\nGATEWAY_TOKEN={SECRET}\nKEY='-----BEGIN\nmore\nEND-----'\nWORKERS=4\n")
    assert load({}, env_file).gateway_url
    assert names_of_others(env_file) == ["GATEWAY_TOKEN", "KEY", "WORKERS"]


@pytest.mark.parametrize(
    "name",
    [
        *("mailing_gateway_url", "Mailing_Gateway_URL", "MAILING_GATEWAY_URL ", " MAILING_GATEWAY_URL"),
        *("MAILING-GATEWAY-URL", "MAILING.GATEWAY.URL", "MAILING GATEWAY URL", "MALING_GATEWAY_URL"),
        *("MAILING_GATEWAY_URL\u200b", "\u041cAILING_GATEWAY_URL", "MAILING_\udcff"),
    ],
)
def test_a_name_of_the_environment_in_another_spelling_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a setting") as refused:
        load({name: "https://gateway.example/v1"})
    str(refused.value).encode()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (f"{SECRET} ", "begins or ends with a blank"),
        (f"\t{SECRET}", "control character"),
        (f"{SECRET}\r", "control character"),
        (f'"{SECRET}"', "in quotes"),
        (f"\ufeff{SECRET}", "invisible character"),
        (f"{SECRET}\udcff", "is not UTF-8"),
    ],
)
def test_what_came_along_with_a_value_is_refused(value: str, names: str) -> None:
    """As `docker run --env-file` hands on quotes, and the CR of a Windows file."""
    with pytest.raises(ConfigurationError, match=names) as refused:
        load({"MAILING_GATEWAY_TOKEN": value})
    assert SECRET not in str(refused.value)


def test_a_password_may_have_blanks_and_quotes(env_file: Path) -> None:
    env_file.write_text('MAILING_ADMIN_PASSWORD=" twelve signs\' "\n')
    assert load({}, env_file).admin_password == " twelve signs' "


def test_names_of_other_programs_in_the_environment_are_left_alone() -> None:
    load({"MAIL_HOST": "x", "MAILER_PORT": "x", "EMAIL_HOST": "x", "PORT": "x", "GATEWAY_URL": "x", "MAILTO": "x"})


def test_a_file_that_can_not_be_read_is_refused(env_file: Path) -> None:
    env_file.symlink_to(env_file.parent / "nowhere")
    with pytest.raises(ConfigurationError, match="a link to a file that is not there"):
        load({}, env_file)
    env_file.unlink()
    env_file.mkdir()
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read: Is a directory"):
        load({}, env_file)


@pytest.mark.slow
@pytest.mark.xdist_group("commands")
@pytest.mark.parametrize("command", ["up", "doctor", "api", "worker", "migrate"])
def test_no_command_starts_on_a_file_it_does_not_understand(tmp_path: Path, command: str) -> None:
    (tmp_path / ".env").write_bytes(
        "MAILING_GATEWAY_URL=https://gateway.example/v1\nMAILING_SENDER=Имя\n".encode("cp1251")
    )
    done = mailing(command, cwd=tmp_path, env=clean_environment())
    told = done.stdout + done.stderr
    assert done.returncode == (1 if command == "doctor" else 2)
    assert "line 2 is not UTF-8" in told
    assert "Traceback" not in told
