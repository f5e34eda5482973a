import pytest

from mailing.admin.signin.user_agents import describe


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("(Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox, Windows"),
        ("(X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36", "Chrome, Linux"),
        ("(Windows NT 10.0) AppleWebKit/537.36 Chrome/131.0 Safari/537.36 Edg/131.0", "Edge, Windows"),
        ("(Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1 Version/18.1 Safari/605.1", "Safari, macOS"),
        ("(iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1 Safari/604.1", "Safari, iPhone"),
        ("(Linux; Android 14) Chrome/131.0 YaBrowser/24.10 Safari/537.36", "Yandex Browser, Android"),
    ],
)
def test_a_session_is_named_as_its_user_knows_the_browser(agent: str, words: str) -> None:
    assert describe(f"Mozilla/5.0 {agent}") == words


def test_what_is_no_known_browser_is_shown_by_its_own_words() -> None:
    assert describe("curl/8.5.0") == "curl/8.5.0"
    assert describe("x" * 200) == "x" * 40
    assert describe("") == "-"
