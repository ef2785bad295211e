"""Why there are no figures."""

from app.platform.errors import AppError, Code


class StatisticsIncomplete(AppError):
    status = 503
    code = Code.STATISTICS_INCOMPLETE
    detail = "The figures are still being counted; please try again later"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "10"})
