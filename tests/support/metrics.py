"""The page as a scraper reads it."""

from prometheus_client.parser import text_string_to_metric_families

from support.api import Api

Sample = tuple[str, frozenset[tuple[str, str]]]


class Read(dict[Sample, float]):
    def value(self, name: str, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self if found == name]


def parsed(text: str) -> Read:
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return Read({(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples})


async def scraped(api: Api) -> Read:
    """Nothing older than the question: the page keeps a reading for some seconds."""
    answer = await api.get("http://test/metrics")
    assert answer.status_code == 200
    return parsed(answer.text)
