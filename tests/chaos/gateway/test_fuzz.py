from chaos.gateway.fuzz import fuzz


async def test_no_reply_is_an_exception_and_none_is_accepted_that_does_not_say_so() -> None:
    result = await fuzz(count=2000, seed=7)
    assert result.escaped == []
    assert result.untrue == []
    assert sum(result.outcomes.values()) == 2000
    assert {"accepted", "ambiguous", "refused", "throttled", "configuration", "not_sent"} <= result.outcomes.keys()
