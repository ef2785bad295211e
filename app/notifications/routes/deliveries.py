"""What became of mails, for Admins."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.accounts.deps import SIGNED_OUT, CurrentActor, TheIdempotency, object_id
from app.accounts.errors import InsufficientScope
from app.notifications.commands import delete_suppression, retry_deliveries, retry_delivery
from app.notifications.errors import NotDead
from app.notifications.queries import SHOWN_STATES, list_deliveries, list_suppressions
from app.notifications.schemas import (
    DELIVERY_EXAMPLE,
    SUPPRESSION_EXAMPLE,
    DeliveryList,
    DeliveryOut,
    RetriedOut,
    SuppressionList,
    delivery_out,
    suppression_out,
)
from app.platform.clock import now
from app.platform.errors import Forbidden, NotFound
from app.platform.http import no_content, read_optional_json
from app.platform.idempotency import Answer
from app.platform.openapi import NO_BODY, PAGE_PARAMETERS, Success, describe, query_parameter
from app.platform.paging import page_response

router = APIRouter(tags=["notifications"])
FOR_ADMINS = (*SIGNED_OUT, Forbidden, InsufficientScope)
RETRIED_EXAMPLE = {**DELIVERY_EXAMPLE, "state": "pending", "attempts": 0, "dueAt": "2026-11-23T10:00:00.000Z"}
DeliveryReference = Annotated[
    str, Path(alias="deliveryId", description="The delivery's id", examples=[DELIVERY_EXAMPLE["id"]])
]
Address = Annotated[str, Path(description="An e-mail address", examples=[SUPPRESSION_EXAMPLE["address"]])]


@router.get(
    "/api/deliveries",
    **describe(
        "listDeliveries",
        Success(200, DeliveryList, {"items": [DELIVERY_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=FOR_ADMINS,
        parameters=[
            query_parameter("state", "Only these", {"type": "string", "enum": list(SHOWN_STATES)}),
            query_parameter("ticket", "Only mail about this ticket, by id", {"type": "string"}),
            *PAGE_PARAMETERS,
        ],
    ),
)
async def list_deliveries_route(request: Request, actor: CurrentActor) -> Response:
    """Mails and what became of them, newest first; not what they say. They are kept for 30 days, dead ones for 90."""
    page = await list_deliveries(actor, request.query_params)
    return page_response(request, page, [delivery_out(row) for row in page.rows])


@router.post(
    "/api/deliveries/retry",
    **describe(
        "retryDeliveries",
        Success(200, RetriedOut, {"retried": 3}, ("Idempotency-Replayed",)),
        body=NO_BODY,
        errors=FOR_ADMINS,
        request_headers=["Idempotency-Key"],
    ),
)
async def retry_deliveries_route(request: Request, actor: CurrentActor, idempotency: TheIdempotency) -> Response:
    """Has all dead mails tried again."""
    body = await read_optional_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: retry_deliveries(actor, body, now=now(), once=once),
        lambda count: Answer.json({"retried": count}),
    )


@router.post(
    "/api/deliveries/{deliveryId}/retry",
    **describe(
        "retryDelivery",
        Success(200, DeliveryOut, RETRIED_EXAMPLE, ("Idempotency-Replayed",)),
        body=NO_BODY,
        errors=[*FOR_ADMINS, NotFound, NotDead],
        request_headers=["Idempotency-Key"],
    ),
)
async def retry_delivery_route(
    delivery_id: DeliveryReference, request: Request, actor: CurrentActor, idempotency: TheIdempotency
) -> Response:
    """Has a dead mail tried again, at once and for another day."""
    body = await read_optional_json(request)
    return await idempotency.run(
        request,
        body,
        lambda once: retry_delivery(actor, object_id(delivery_id), body, now=now(), once=once),
        lambda row: Answer.json(delivery_out(row)),
    )


@router.get(
    "/api/mail-suppressions",
    **describe(
        "listMailSuppressions",
        Success(200, SuppressionList, {"items": [SUPPRESSION_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=FOR_ADMINS,
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_suppressions_route(request: Request, actor: CurrentActor) -> Response:
    """Addresses that get no mail, because it came back or was called spam; in their order."""
    page = await list_suppressions(actor, request.query_params)
    return page_response(request, page, [suppression_out(row) for row in page.rows])


@router.delete(
    # An address may hold a slash (RFC 5322 §3.2.3).
    "/api/mail-suppressions/{address:path}",
    **describe("deleteMailSuppression", Success(204), errors=[*FOR_ADMINS, NotFound]),
)
async def delete_suppression_route(address: Address, actor: CurrentActor) -> Response:
    """Lets an address have mail again. The provider may have a list of its own, and go on dropping mail to it."""
    await delete_suppression(actor, address)
    return no_content()
