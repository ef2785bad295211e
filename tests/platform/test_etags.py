"""Versions as entity tags, header by header."""

import pytest
from starlette.requests import Request

from app.platform.errors import VersionConflict
from app.platform.etags import IfMatch, etag, is_unchanged

NEVER = [
    *("", " ", "3", "'3'", '"3', '3"', '"03"', '"3 "', '" 3"', '"4"', '"4", "5"', '""', "W/", "null", '"3"x', '"*"'),
    *('"1,"3"', '"1,3"', '"3" "4"', '3,"3"'),
]


def request(name: str, *values: str) -> Request:
    return Request({"type": "http", "headers": [(name.encode(), value.encode()) for value in values]})


def holds(*values: str) -> bool:
    try:
        IfMatch.of(request("if-match", *values)).check(3)
    except VersionConflict:
        return False
    return True


class TestEtag:
    def test_is_the_version_in_quotes(self) -> None:
        assert etag(3) == '"3"'


class TestIfMatch:
    def test_without_one_everything_goes(self) -> None:
        precondition = IfMatch.of(request("if-match"))

        precondition.check(3)

    @pytest.mark.parametrize(
        "value", ['"3"', ' "3" ', '"1","3"', '"1" , "2",\t"3"', '"3", W/"3"', "*", " * ", ',"3",', '"1,2","3"']
    )
    def test_holds(self, value: str) -> None:
        assert holds(value)

    @pytest.mark.parametrize("value", [*NEVER, 'W/"3"', 'w/"3"', 'W/"3", "4"', 'W/ "3"', "**", '*, "4"'])
    def test_holds_not(self, value: str) -> None:
        assert not holds(value)

    def test_the_refusal_names_the_current_version(self) -> None:
        with pytest.raises(VersionConflict) as refusal:
            IfMatch('"2"').check(3)

        assert refusal.value.extra == {"currentVersion": 3}
        assert refusal.value.headers == {"ETag": '"3"'}

    def test_takes_several_lines_as_one_list(self) -> None:
        assert holds('"1"', '"3"')
        assert not holds('"1"', '"2"')


class TestIfNoneMatch:
    @pytest.mark.parametrize("value", ['"3"', 'W/"3"', '"1", W/"3"', "*"])
    def test_says_that_the_client_has_it(self, value: str) -> None:
        assert is_unchanged(request("if-none-match", value), 3)

    @pytest.mark.parametrize("value", [*NEVER, 'w/"3"'])
    def test_says_that_it_has_not(self, value: str) -> None:
        assert not is_unchanged(request("if-none-match", value), 3)

    def test_takes_several_lines_as_one_list(self) -> None:
        assert is_unchanged(request("if-none-match", '"1"', 'W/"3"'), 3)
        assert not is_unchanged(request("if-none-match"), 3)
