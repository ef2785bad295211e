"""Why a link, a request of an Admin's or a word of the mail provider's has no effect."""

from app.platform.errors import BadRequest, Code, Conflict, Forbidden


class InvalidUnsubscribeToken(BadRequest):
    code = Code.INVALID_UNSUBSCRIBE_TOKEN
    detail = "This link is not one of ours, or not the whole of it"


class NotDead(Conflict):
    code = Code.NOT_DEAD
    detail = "This mail was not given up"


class InvalidSignature(Forbidden):
    code = Code.INVALID_SIGNATURE
    detail = "This does not bear the provider's signature"
