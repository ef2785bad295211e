"""Why an operation is not executed."""

from collections.abc import Sequence

from graphql import GraphQLError

from app.platform.errors import AppError, BadRequest, Code

# The rest of a long list helps nobody, and would make a large answer to a small request.
MAX_ERRORS = 50
# In a document, or in its variables: each may quote the whole of what it is about, which takes its time.
MAX_FINDINGS = 10
MAX_MESSAGE = 500


class InvalidRequest(BadRequest):
    """What was sent is no GraphQL-over-HTTP request."""

    code = Code.GRAPHQL_INVALID_REQUEST
    detail = "Send a JSON object with the text of a GraphQL document as query"


class NotAcceptable(AppError):
    status = 406
    code = Code.NOT_ACCEPTABLE
    detail = "Answers are application/graphql-response+json or application/json"


class ParseFailed(BadRequest):
    code = Code.GRAPHQL_PARSE_FAILED
    detail = "The document is not GraphQL"


class ValidationFailed(BadRequest):
    code = Code.GRAPHQL_VALIDATION_FAILED
    detail = "The document does not fit the schema"


class InvalidVariables(BadRequest):
    code = Code.GRAPHQL_INVALID_VARIABLES
    detail = "The variables do not fit the document"


class UnknownOperation(BadRequest):
    code = Code.GRAPHQL_UNKNOWN_OPERATION
    detail = "Name one of the document's operations in operationName"


class NeedsWebSocket(BadRequest):
    code = Code.GRAPHQL_NEEDS_WEBSOCKET
    detail = "Subscriptions go through a WebSocket (graphql-transport-ws)"


class TooComplex(BadRequest):
    code = Code.GRAPHQL_TOO_COMPLEX
    detail = "Too many fields of the same name are brought together by fragments, or fragments nest too deeply"


class TooManyTokens(BadRequest):
    code = Code.GRAPHQL_TOO_MANY_TOKENS
    detail = "The document has too many tokens"


class TooDeep(BadRequest):
    code = Code.GRAPHQL_TOO_DEEP
    detail = "The document is nested too deeply"


class TooManyAliases(BadRequest):
    code = Code.GRAPHQL_TOO_MANY_ALIASES
    detail = "The document has too many aliases"


class TooManyMutations(BadRequest):
    code = Code.GRAPHQL_TOO_MANY_MUTATIONS
    detail = "The document has too many mutations"


class TooCostly(BadRequest):
    """The error carries `cost` and `maxCost`."""

    code = Code.GRAPHQL_TOO_COSTLY
    detail = "The answer could become too large"


class Refused(Exception):
    """The operation can't be executed, for these reasons (a request error, as the GraphQL specification has it)."""

    def __init__(self, *errors: GraphQLError) -> None:
        self.errors = errors
        super().__init__("; ".join(error.message for error in errors))


def because(error: AppError) -> Refused:
    return Refused(GraphQLError(error.text, original_error=error))


def explained(errors: Sequence[GraphQLError], kind: type[AppError]) -> list[GraphQLError]:
    """The library's findings with a code of ours, their places in the document kept."""
    return [
        GraphQLError(e.message, e.nodes, e.source, e.positions, e.path, kind(e.message[:MAX_MESSAGE])) for e in errors
    ]
