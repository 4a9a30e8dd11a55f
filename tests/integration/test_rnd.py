"""A parameter set on real engines: drafted, reviewed and released by three people, and read by its plant."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from pharmaloop.rnd.v1.parameter_set_pb2 import ParameterSetContent
from services.kit import hpke
from services.kit.bus.kafka import KafkaBus
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.facts import vector
from services.kit.ids import transfer_case
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.settings import KafkaSettings
from services.kit.testing.service import running_service
from services.rnd.main import SPEC
from tests.integration import leaks
from tests.suites.backbone import Backbone, new_name
from tests.unit.rnd.penicillin import says

PLANT_TOPIC, SETS_TOPIC = "pharmaloop.production.plant.v1", "pharmaloop.rnd.parameters.v1"


def key_of(plant: str, keys: hpke.KeyPair) -> Event:
    """A plant publishes its key."""
    message = production.PlantKeyPublished(plant=plant, key_id=f"{plant}/1", public_key=keys.public)
    return Event(
        id=str(uuid.uuid4()), source="/svc/production/plant", subject=plant, time=datetime.now(UTC),
        message=message, key=plant, seq=1,
    )  # fmt: skip


class Research:
    """Its gRPC face, as people of several names call it."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub: Any = api_grpc.RndServiceStub(channel)

    async def call(self, method: str, request: Any, actor: str = "ada") -> Any:
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid.uuid4())
        return await getattr(self._stub, method)(request, metadata=metadata(actor), timeout=20)


async def test_three_people_bring_a_set_to_its_plant(backbone: str, mongo: str, tmp_path: Path) -> None:
    others = Backbone(KafkaBus(KafkaSettings(bootstrap_servers=backbone), "others"))
    name, plant, keys = new_name("set"), new_name("plant"), hpke.generate()
    product = f"maker-1/item/{new_name('product')}"
    secret = f"only the plant reads {uuid.uuid4()}"
    said = says(product=product, statement=secret)
    async with running_service(SPEC, backbone, mongo, tmp_path) as (app, channel):
        research = Research(channel)
        heard = await others.listen(SETS_TOPIC, name)
        stands = await others.say(PLANT_TOPIC, key_of(plant, keys))
        # A query that waits for the plant's key.
        await research.call("ListParameterSets", api.ListParameterSetsRequest(min_position=vector(stands)))
        registered = api.RegisterProductRequest(product=product, name="Penicillin G", indication="infection")
        await research.call("RegisterProduct", registered)
        drafted = await research.call(
            "DraftParameterSet", api.DraftParameterSetRequest(set=name, content=said)
        )
        review = api.ReviewParameterSetRequest(set=name, version=drafted.version, meaning="I have read it.")
        with pytest.raises(aio.AioRpcError) as refused:
            await research.call("ReviewParameterSet", review, "ada")
        assert reason_of(refused.value) == ("SAME_PERSON", "version")
        await research.call("ReviewParameterSet", review, "ben")
        release = api.ReleaseParameterSetRequest(
            set=name, version=1, plants=[plant], meaning="For use.", purpose="trial lots"
        )
        answer = await research.call("ReleaseParameterSet", release, "cy")
        asked = api.GetParameterSetRequest(set=name, min_position=answer.receipt.positions)
        shown = await research.call("GetParameterSet", asked)
        records = await heard(3)
        places = [*leaks.topics(backbone), *leaks.databases(mongo, {"rnd": app})]
    assert any(name.encode() in place.content for place in places)
    assert leaks.found([leaks.Marker("statement", secret, "nowhere")], places) == set()
    assert shown.version.state == api.PARAMETER_SET_STATE_RELEASED
    assert shown.content == said
    assert [(one.plant, one.actor) for one in shown.version.releases] == [(plant, "cy")]
    event = from_record(contract(), records[2])
    assert isinstance(event.message, events.ParameterSetReleased)
    assert (event.case, event.run, event.actor) == (transfer_case(name, plant), "", "cy")
    assert (event.message.meaning, event.message.purpose) == ("For use.", "trial lots")
    info = f"pharmaloop parameter set v1|{name}|1|{plant}".encode()
    sealed = event.message.payload.ciphertext
    plain = hpke.open_sealed(keys.private, sealed, info, event.message.content_hash)
    received = ParameterSetContent.FromString(plain)
    received.ClearField("salt")
    assert received == said
