"""Which browser a session is, in words its user knows again: `Firefox, Windows` from the `User-Agent` it sent."""

# Every browser claims to be the ones below it; the first name found is the true one.
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
    """What is not a known browser is shown by the beginning of its own words."""
    browser = next((name for sign, name in BROWSERS.items() if sign in agent), "")
    system = next((name for sign, name in SYSTEMS.items() if sign in agent), "")
    if not browser:
        return agent[:MAX_LENGTH] or "-"
    return f"{browser}, {system}" if system else browser
