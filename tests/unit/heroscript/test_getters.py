"""A parameter is read as a value of the kind that is asked for, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from workers.heroscript.errors import ParameterError
from workers.heroscript.parameters import Parameter, Parameters
from workers.heroscript.reading import parse_parameters

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def given(value):
    return Parameters(named=(Parameter(key="key", value=value),))


READ = [
    ("get", "as it is", "as it is"),
    ("get_int", "-5", -5),
    ("get_u8", "255", 255),
    ("get_u32", "4294967295", 4294967295),
    ("get_u64", "18446744073709551615", 2**64 - 1),
    ("get_float", "1.5", 1.5),
    ("get_float", "12%", 0.12),
    ("get_percentage", "50", 0.5),
    ("get_percentage", "100%", 1.0),
    ("get_list", "[1,2,3]", ("1", "2", "3")),
    ("get_list", 'a, "b c" ,,', ("a", "b c")),
    ("get_list", 'a,"b,c"', ("a", "b", "c")),
    ("get_list_namefix", "A B,c-d", ("a_b", "c_d")),
    ("get_list_int", "1, -2", (1, -2)),
    ("get_list_u8", "0,255", (0, 255)),
    ("get_list_u16", "65535", (65535,)),
    ("get_list_u32", "1,2", (1, 2)),
    ("get_list_u64", "1", (1,)),
    ("get_list_i8", "-128,127", (-128, 127)),
    ("get_list_i16", "-32768", (-32768,)),
    ("get_list_i64", "-9223372036854775808", (-(2**63),)),
    ("get_list_f32", "1.5,2", (1.5, 2.0)),
    ("get_list_f64", "1e3", (1000.0,)),
    ("get_timestamp", "14:30", timedelta(hours=14, minutes=30)),
    ("get_timestamp", "2:30PM", timedelta(hours=14, minutes=30)),
    ("get_timestamp", "12AM", timedelta()),
    ("get_timestamp", "24:00", timedelta(days=1)),
    ("get_storagecapacity_in_bytes", "10", 10),
    ("get_storagecapacity_in_bytes", "10KB", 10 << 10),
    ("get_storagecapacity_in_bytes", "10mb", 10 << 20),
    ("get_storagecapacity_in_bytes", "10Gb", 10 << 30),
    ("get_storagecapacity_in_gigabytes", "1025MB", 2),
]

REFUSED = [
    ("get_int", "2147483648"),
    ("get_int", "1.0"),
    ("get_int", "0x10"),
    ("get_int", "1_000"),
    ("get_int", "٣"),
    ("get_int", "9" * 41),
    ("get_u8", "256"),
    ("get_u8", "-1"),
    ("get_u32", "4294967296"),
    ("get_u64", "18446744073709551616"),
    ("get_float", "nan"),
    ("get_float", "1e999"),
    ("get_percentage", "101"),
    ("get_percentage", "-1%"),
    ("get_list_int", "[1,2]"),
    ("get_list_u8", "1,256"),
    ("get_list_f64", "1,x"),
    ("get_timestamp", "25:00"),
    ("get_timestamp", "13PM"),
    ("get_timestamp", "1:60"),
    ("get_storagecapacity_in_bytes", "10TB"),
    ("get_storagecapacity_in_gigabytes", "-1"),
]


@pytest.mark.parametrize(("getter", "text", "value"), READ)
def test_a_value_is_read_as_its_kind(getter, text, value):
    assert getattr(given(text), getter)("key") == value


@pytest.mark.parametrize(("getter", "text"), REFUSED)
def test_what_is_not_of_its_kind_is_refused_with_its_line(getter, text):
    with pytest.raises(ParameterError, match=r"key must be .*\(line 1\)"):
        getattr(given(text), getter)("key")


@pytest.mark.parametrize("getter", sorted({getter for getter, _, _ in READ}))
def test_what_is_absent_is_its_default_or_missing(getter):
    default = object()
    absent = Parameters(line=7)
    assert getattr(absent, getter)("key", default=default) is default
    with pytest.raises(ParameterError, match=r"key is missing \(line 7\)"):
        getattr(absent, getter)("key")


@pytest.mark.parametrize("word", ["", "1", "true", "y", "yes", "YES"])
def test_what_says_true_is_true_by_default(word):
    assert given(word).get_default_true("key") is True
    assert Parameters().get_default_true("key") is True


@pytest.mark.parametrize("word", ["0", "false", "on", "ja"])
def test_everything_else_is_false_then(word):
    assert given(word).get_default_true("key") is False


@pytest.mark.parametrize("word", ["", "0", "false", "n", "no", "No"])
def test_what_says_false_is_false_by_default(word):
    assert given(word).get_default_false("key") is False
    assert Parameters().get_default_false("key") is False


@pytest.mark.parametrize("word", ["1", "true", "off", "nein"])
def test_everything_else_is_true_then(word):
    assert given(word).get_default_false("key") is True


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", NOW),
        ("+1w +2d -4h", NOW + timedelta(weeks=1, days=2, hours=-4)),
        ("1m", NOW + timedelta(minutes=1)),
        ("-1M+1Q", NOW + timedelta(days=60)),
        ("+1Y 30s", NOW + timedelta(days=365, seconds=30)),
        ("2022-12-5 20:14:35", datetime(2022, 12, 5, 20, 14, 35, tzinfo=UTC)),
        ("2022-12-05 20:14", datetime(2022, 12, 5, 20, 14, tzinfo=UTC)),
        ("2022/12/05 20", datetime(2022, 12, 5, 20, tzinfo=UTC)),
        ("2022-12-05", datetime(2022, 12, 5, tzinfo=UTC)),
        ("05-12-2022", datetime(2022, 12, 5, tzinfo=UTC)),
        ("05/12/2022", datetime(2022, 12, 5, tzinfo=UTC)),
    ],
)
def test_a_time_is_relative_or_a_date(text, at):
    assert given(text).get_time("key", now=NOW) == at


@pytest.mark.parametrize(
    "text", ["soon", "+1", "+1x", "2022-13-01", "2022-02-30", "+999999999Y", "1w !"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ParameterError, match="a time as in"):
        given(text).get_time("key", now=NOW)


def test_a_path_must_exist_or_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    there = given("~/folder/within")
    with pytest.raises(ParameterError, match="something that exists"):
        there.get_path("key")
    assert there.get_path_create("key") == tmp_path / "folder" / "within"
    assert there.get_path("key").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="a directory that can be made"):
        given("~/file").get_path_create("key")
    for no_path in ("", "~nobody-is-called-so/x"):
        with pytest.raises(ParameterError, match="a path"):
            given(no_path).get_path("key")


def test_getters_fix_the_name_and_exists_only_its_letters():
    params = parse_parameters("my_key:1 x/y:2")
    assert params.get("My Key") == "1"
    assert params.exists("MY_KEY")
    assert not params.exists("my key")
    assert params.exists("x/y")
    # The getters cannot find such a key.
    assert params.get("x/y", default="none") == "none"


def test_arguments_are_found_by_number_and_by_word():
    params = parse_parameters("fast Dry x:1")
    assert [params.get_arg(0), params.get_arg(1)] == ["fast", "Dry"]
    assert params.get_arg(2, default="-") == "-"
    with pytest.raises(ParameterError, match="no argument 2"):
        params.get_arg(2)
    assert params.exists_arg("FAST")
    assert params.exists_arg("Dry")
    assert not params.exists_arg("x")
