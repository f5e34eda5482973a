"""The browser of a session in words, such as `Firefox, Windows`, from its `User-Agent`."""

# Each browser also names those below it; the first match is the true one.
BROWSERS = {
    "Edg": "Edge", "OPR/": "Opera", "YaBrowser": "Yandex Browser", "SamsungBrowser": "Samsung Internet",
    "FxiOS": "Firefox", "Firefox/": "Firefox", "CriOS": "Chrome", "Chrome/": "Chrome", "Safari/": "Safari",
}  # fmt: skip
SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android",
    "Windows": "Windows", "Macintosh": "macOS", "Linux": "Linux",
}  # fmt: skip
MAX_LENGTH = 40


def describe(agent: str) -> str:
    """Return browser and system; for an unknown browser the beginning of its `User-Agent`."""
    browser = next((name for sign, name in BROWSERS.items() if sign in agent), "")
    system = next((name for sign, name in SYSTEMS.items() if sign in agent), "")
    if not browser:
        return agent[:MAX_LENGTH] or "-"
    return f"{browser}, {system}" if system else browser
