from mailing.app import ApiState
from mailing.settings import Settings
from support.api import bound_app


async def test_the_running_process_fills_exactly_the_state_that_its_layers_declare(settings: Settings) -> None:
    with bound_app(settings) as app:
        async with app.lifespan():
            filled = set(app.state.dict())
    layers = [layer for layer in ApiState.__mro__ if layer.__module__.startswith("mailing.")]
    declared = {name for layer in layers for name in layer.__annotations__}
    assert filled == declared
