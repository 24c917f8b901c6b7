"""Meta: what a target declares is what it does. The suite's own tests hold the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyqueue import URL, Feature, Unsupported
from anyqueue.testing.case import case
from anyqueue.testing.raising import raises
from anyqueue.testing.refusal import asked, check_refusal, required

if TYPE_CHECKING:
    from anyqueue.testing.trial import Trial

GROUP: Final = "Meta"


@case("M3", "the features declared are those expected and those found: native, emulated, or refused", group=GROUP)
async def m3(t: Trial) -> None:
    """M3: the features declared are those expected and those found: native, emulated, or refused."""
    async with t.connect() as client:
        assert client.features == t.expected.features
        assert client.limits == t.expected.limits
        support = {feature: client.support(feature) for feature in Feature}
    for feature, found in support.items():
        assert (found.kind == "native") == (feature in t.expected.features)
        assert bool(found.note) == (found.kind != "native"), f"{feature.name} is {found.kind} without a note"
        if found.kind != "native":
            await required(t, feature)
        if found.kind == "refused":
            await asked(t, feature)
    async with t.connect(require=t.expected.features):
        pass
    await all_at_once(t)


async def all_at_once(t: Trial) -> None:
    """Require everything there is: the refusal names a feature that is not there, and tells nothing secret."""
    lacking = [feature for feature in Feature if feature not in t.expected.features]
    if not lacking:
        return
    with raises(Unsupported, "require= of every feature") as caught:
        async with t.connect(require=~Feature.NONE):
            pass
    assert caught.error.feature in lacking
    check_refusal(caught.error, Feature(caught.error.feature.value))
    assert str(URL.parse(t.url())) in str(caught)
