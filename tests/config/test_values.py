"""Values are read as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvshim.config.url import Scheme, Url, bind_problem, parse_url, parse_urls
from kvshim.config.values import parse_bool, parse_duration, parse_gates, parse_int, parse_strings

MS = 1_000_000
SECOND = 1000 * MS


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("100ms", 100 * MS),
        ("5m0s", 300 * SECOND),
        ("1.5h", 5400 * SECOND),
        ("2h45m30.5s", 9930 * SECOND + 500 * MS),
        ("-3s", -3 * SECOND),
        ("+3s", 3 * SECOND),
        ("0", 0),
        ("-0", 0),
        (".5s", 500 * MS),
        ("1.s", SECOND),
        ("1us", 1000),
        ("1µs", 1000),
        ("1μs", 1000),
        ("7ns", 7),
        ("0.3333333333333333333h", 1_199_999_999_999),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text, nanoseconds):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5s ", "5d", "1h-3m", ".s", "+", "-", "1e3s", "5S", "300000h0x"]
)
def test_what_go_calls_no_duration_is_none(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_a_duration_beyond_64_bits_is_refused():
    with pytest.raises(ValueError, match="292 years"):
        parse_duration("3000000h")


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999_999_999))
def test_what_go_prints_is_read_back(hours, minutes, seconds, nanoseconds):
    text = f"{hours}h{minutes}m{seconds}.{nanoseconds:09d}s"
    expected = (hours * 3600 + minutes * 60 + seconds) * SECOND + nanoseconds
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("+7", 7), ("-7", -7), ("0x1F", 31), ("0o17", 15), ("017", 15), ("0b11", 3),
     ("1_000", 1000), ("0", 0)],
)  # fmt: skip
def test_a_number_may_have_any_of_gos_bases(text, number):
    assert parse_int(text, -100, 10_000) == number


@pytest.mark.parametrize("text", ["", "-", "08", " 7", "7 ", "7.0", "1e3", "٣", "--7", "0x", "_1"])
def test_what_go_calls_no_number_is_none(text):
    with pytest.raises(ValueError, match="expected a whole number"):
        parse_int(text, -100, 10_000)


def test_a_number_outside_its_type_is_told_the_limits():
    with pytest.raises(ValueError, match="from 0 to 4294967295"):
        parse_int("4294967296", 0, 2**32 - 1)


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_has_gos_spellings(text):
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false_has_gos_spellings(text):
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["", "yes", "no", "on", "tRUE", " true"])
def test_other_words_are_no_bools(text):
    with pytest.raises(ValueError, match="true or false"):
        parse_bool(text)


def test_nothing_is_an_empty_list():
    assert parse_strings("") == ()
    assert parse_strings("a,b") == ("a", "b")


def test_gates_are_names_with_bools():
    known = {"A": False, "B": True}
    assert parse_gates("A=true, B = f,", known) == {"A": True, "B": False}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("A", "missing bool value for A"), ("C=true", "unrecognized feature gate: C"),
     ("A=maybe", "A=maybe: expected true or false")],
)  # fmt: skip
def test_a_wrong_gate_is_named(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_gates(text, {"A": False})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:2379", Url(Scheme.HTTP, "127.0.0.1", 2379)),
        (" HTTPS://Host.example:1 ", Url(Scheme.HTTPS, "host.example", 1)),
        ("https://[::1]:2379", Url(Scheme.HTTPS, "::1", 2379)),
        ("http://:80", Url(Scheme.HTTP, "", 80)),
        ("unix:///run/kv.sock", Url(Scheme.UNIX, "/run/kv.sock", 0)),
        ("unixs://localhost:2379", Url(Scheme.UNIXS, "localhost:2379", 0)),
        ("unix:/run/kv.sock", Url(Scheme.UNIX, "/run/kv.sock", 0)),
    ],
)
def test_a_url_is_read(text, url):
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("127.0.0.1:2379", "URL scheme must be"),
        ("", "URL scheme must be"),
        ("ftp://1.2.3.4:5", "URL scheme must be"),
        ("http://1.2.3.4", 'does not have the form "host:port"'),
        ("http://1.2.3.4:", 'does not have the form "host:port"'),
        ("http://1.2.3.4:5/", "must not contain a path"),
        ("http://1.2.3.4:x", "port"),
        ("http://1.2.3.4:65536", "port"),
        ("http://[::1:5", "invalid"),
        ("unix://", "names no socket path"),
    ],
)
def test_a_wrong_url_is_told_why(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_url(text)


def test_urls_print_as_they_are_written():
    for text in ("https://[::1]:2379", "http://127.0.0.1:80", "unix:///run/kv.sock"):
        assert str(parse_url(text)) == text


def test_a_list_of_urls_is_sorted_and_each_stands_once():
    urls = parse_urls("https://b:1,https://a:1,https://b:1")
    assert [url.host for url in urls] == ["a", "b"]


def test_names_are_not_bound_to():
    assert bind_problem(parse_url("http://example.com:1")) is not None
    assert bind_problem(parse_url("http://:1")) is not None
    for text in ("http://localhost:1", "http://0.0.0.0:1", "https://[::]:1", "unix://a"):
        assert bind_problem(parse_url(text)) is None
