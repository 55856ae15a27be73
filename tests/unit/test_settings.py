"""Settings: which source wins, what is warned about, what is refused and where it stands."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkeepd.settings import BadSettings, Settings, keys, load_settings, table_keys
from modelkeepd.settings import LibraryRoot as Root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refused(config: Path, text: str) -> str:
    """The message; the file's path in it is replaced by FILE."""
    config.write_text(text)
    with pytest.raises(BadSettings) as caught:
        load_settings(config, {})
    return str(caught.value).replace(str(config), "FILE")


def warned(config: Path, text: str) -> list[str]:
    config.write_text(text)
    return [line.replace(str(config), "FILE") for line in load_settings(config, {})[1]]


def test_without_any_source_the_defaults_hold(config: Path) -> None:
    assert load_settings(config, {}) == (Settings(), [])


def test_flags_win_over_environment_over_file_over_default(config: Path) -> None:
    config.write_text("[transfer]\nparallel_files = 5\n")
    environ = {"MODELKEEP_TRANSFER_PARALLEL_FILES": "6"}
    flags = ["transfer.parallel_files=7"]
    assert Settings().transfer.parallel_files == 3
    assert load_settings(config, {})[0].transfer.parallel_files == 5
    assert load_settings(config, environ)[0].transfer.parallel_files == 6
    assert load_settings(config, environ, flags)[0].transfer.parallel_files == 7
    again = [*flags, "transfer.parallel_files=8"]
    assert load_settings(config, environ, again)[0].transfer.parallel_files == 8


def test_the_example_of_the_design_is_read_whole(config: Path) -> None:
    config.write_text(
        """
[sync]
auto = false
[hubs.civitai]
base_url = "http://127.0.0.1:8000"
[hubs.huggingface]
enabled = false
[[library.roots]]
path = "/data/ComfyUI/models"
layout = "comfyui"
[[library.roots]]
path = "~/models"
[transfer]
root = "/data/ComfyUI/models"
"""
    )
    found, warnings = load_settings(config, {})
    assert warnings == []
    assert not found.sync.auto
    assert found.hubs.civitai.base_url == "http://127.0.0.1:8000"
    assert found.hubs.huggingface.base_url == "https://huggingface.co"
    assert not found.hubs.huggingface.enabled
    assert found.library.roots == (Root("/data/ComfyUI/models", "comfyui"), Root("~/models"))
    assert found.transfer.root == "/data/ComfyUI/models"


def test_an_unknown_key_is_a_warning_with_its_line_and_the_nearest_name(config: Path) -> None:
    text = "# comment about atuo\n[sync]\n\nauto = true\natuo = true\n[snyc]\nauto = false\n"
    assert warned(config, text) == [
        "FILE:5: unknown key sync.atuo; did you mean auto?",
        "FILE:6: unknown key snyc; did you mean sync?",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[library]\nroots = [{path = "/a"}, {path = "/b", layuot = "x"}]\n', 2),
        ('[[library.roots]]\npath = "/a"\n[[library.roots]]\nlayuot = 1\npath = "/b"\n', 4),
        ('library.roots = [\n {path = "/a"},\n {path = "/b", layuot = 2},\n]\n', 3),
    ],
)
def test_a_key_inside_a_list_is_found(config: Path, text: str, line: int) -> None:
    warnings = warned(config, text)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"FILE:{line}: unknown key library.roots.")
    assert warnings[0].endswith("layuot; did you mean layout?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[transfer]\n\nparallel_files = 0\n", "FILE:3: transfer.parallel_files: "),
        ("[transfer]\nparallel_files = 33\n", "FILE:2: transfer.parallel_files: "),
        ('transfer.parallel_files = "3"\n', "FILE:1: transfer.parallel_files: "),
        ("[transfer]\nparallel_files = 3.5\n", "FILE:2: transfer.parallel_files: "),
        ("[transfer]\nparallel_files = true\n", "FILE:2: transfer.parallel_files: "),
        ('[sync]\n"auto" = 1\n', "FILE:2: sync.auto: "),
        ("[sync]\nauto = 1979-05-27\n", "FILE:2: sync.auto: "),
        ("sync = 3\n", "FILE:1: sync: expected a table [sync]"),
        ("[[sync]]\nauto = true\n", "FILE:1: sync: expected a table [sync]"),
        ('[hubs]\ncivitai = "x"\n', "FILE:2: hubs.civitai: expected a table [hubs.civitai]"),
        ('[hubs.civitai]\nbase_url = "ftp://x"\n', "FILE:2: hubs.civitai.base_url: "),
        (
            '[hubs.civitai]\nquiet_hours = "22-7"\n',
            "FILE:2: hubs.civitai.quiet_hours: expected a text such as '23:00-07:30', got '22-7'",
        ),
        ('[hubs.civitai]\nfilters = ["x"]\nenabled = 1\n', "FILE:3: hubs.civitai.enabled: "),
        ('[hubs.huggingface]\nfilters = "gguf"\n', "FILE:2: hubs.huggingface.filters: "),
        ('[hubs.huggingface]\nfilters = ["gguf", 5]\n', "FILE:2: hubs.huggingface.filters: "),
        ('[hubs.huggingface]\nfilters = [""]\n', "FILE:2: hubs.huggingface.filters: "),
        ("[hubs.huggingface]\n[[hubs.huggingface.filters]]\nx = 1\n", "FILE:2: hubs.hugg"),
        ("[library]\nsettle_s = nan\n", "FILE:2: library.settle_s: "),
        ("[library]\nsettle_s = inf\n", "FILE:2: library.settle_s: "),
        ("[library]\nroots = 5\n", "FILE:2: library.roots: expected tables [[library.roots]]"),
        ("[library]\nroots = [5]\n", "FILE:2: library.roots.0: "),
        ('[[library.roots]]\npath = "/a"\n[[library.roots]]\npath = "b"\n', "FILE:4: library."),
        ('[[library.roots]]\nlayout = "flat"\n', "FILE:1: library.roots.0: "),
        ('[log]\nlevel = "loud"\n', "FILE:2: log.level: "),
        ('text = """\n[log]\nlevel = 1\n"""\n[log]\nlevel = 5\n', "FILE:6: log.level: "),
        ("[transfer]\nreserve_bytes = 99999999999999999999999\n", "FILE:2: transfer.reserve"),
        ("[log]\nlevel = \n", "FILE:2: not valid TOML"),
        ("[log]\n[log]\n", "FILE:2: not valid TOML"),
        ("x = " + "9" * 5000 + "\n", "FILE: not valid TOML"),
        ("x = " + "[" * 5000 + "]" * 5000 + "\n", "FILE: not valid TOML"),
    ],
)
def test_a_bad_value_is_refused_with_file_and_line(config: Path, text: str, message: str) -> None:
    found = refused(config, text)
    assert found.startswith(message), found
    assert "object" not in found.lower(), "that is JSON's word, not TOML's"


def test_a_file_that_can_not_be_read_is_refused(config: Path, tmp_path: Path) -> None:
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match="can't be read"):
        load_settings(config, {})
    with pytest.raises(BadSettings, match="can't be read"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("transfer.root", "/data/models", "/data/models"),
        ("transfer.root", '"/data/models"', "/data/models"),
        ("transfer.root", "123", "123"),
        ("transfer.root", "true", "true"),
        ("transfer.root", "", ""),
        ("transfer.root", '"unbalanced', '"unbalanced'),
        ("transfer.root", "[1]", "[1]"),
        ("log.level", "debug", "debug"),
        ("sync.auto", "false", False),
        ("library.settle_s", "3", 3.0),
        ("library.settle_s", "1e1", 10.0),
        ("library.hash_threads", "0x10", 16),
        ("library.roots", '[{path = "/a"}]', (Root("/a"),)),
        ("library.roots", "[]", ()),
    ],
)
@pytest.mark.parametrize("source", ["environment", "flag"])
def test_values_from_texts_take_the_type_of_their_key(
    config: Path, name: str, text: str, expected: object, source: str
) -> None:
    key = next(key for key in keys() if key.dotted == name)
    if source == "flag":
        found, warnings = load_settings(config, {}, [f"{name}={text}"])
    else:
        found, warnings = load_settings(config, {key.variable: text})
    for part in key.path:
        found = getattr(found, part)
    assert warnings == []
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sync.auto", "yes"),
        ("sync.auto", "1"),
        ("library.hash_threads", "many"),
        ("library.hash_threads", "1\nx = 2"),
        ("library.hash_threads", "9" * 5000),
        ("library.roots", "/a"),
        ("library.roots", '[{path = "a"}]'),
        ("log.level", "loud"),
        ("hubs.civitai.base_url", "civitai.com"),
        ("hubs.civitai.quiet_hours", "24:00-01:00"),
        ("hubs.huggingface.filters", "gguf"),
        ("hubs.huggingface.page_size", "5"),
    ],
)
def test_a_bad_text_is_refused_with_its_source(config: Path, name: str, text: str) -> None:
    variable = next(key.variable for key in keys() if key.dotted == name)
    with pytest.raises(BadSettings) as caught:
        load_settings(config, {variable: text})
    assert str(caught.value).startswith(f"the environment variable {variable}: {name}: ")
    with pytest.raises(BadSettings, match=r"^--set "):
        load_settings(config, {}, [f"{name}={text}"])


def test_a_list_of_texts_is_read_from_everywhere(config: Path) -> None:
    config.write_text('[hubs.huggingface]\nfilters = [\n  "gguf",\n  "lora, diffusers",\n]\n')
    found = load_settings(config, {})[0]
    assert found.hubs.huggingface.filters == ("gguf", "lora, diffusers")
    environ = {"MODELKEEP_HUBS_HUGGINGFACE_FILTERS": "[]"}
    assert load_settings(config, environ)[0].hubs.huggingface.filters == ()
    flags = ["hubs.huggingface.filters=['comfyui']"]
    assert load_settings(config, environ, flags)[0].hubs.huggingface.filters == ("comfyui",)


@pytest.mark.parametrize("text", ["", "23:00-07:30", "00:00-00:00", "09:15-17:45"])
def test_quiet_hours_are_two_times_of_day(config: Path, text: str) -> None:
    found = load_settings(config, {"MODELKEEP_HUBS_CIVITAI_QUIET_HOURS": text})[0]
    assert found.hubs.civitai.quiet_hours == text


def test_a_variable_that_is_no_setting_is_warned_about(config: Path) -> None:
    environ = {
        "MODELKEEP_SYNC_ATUO": "1",
        "MODELKEEP_HOME": "/x",
        "MODELKEEP_FAILPOINTS": "",
        "MODELKEEP_CIVITAI_TOKEN": "x",
        "PATH": "/bin",
    }
    assert load_settings(config, environ)[1] == [
        "MODELKEEP_SYNC_ATUO is no setting; did you mean MODELKEEP_SYNC_AUTO?"
    ]


@pytest.mark.parametrize("flag", ["sync.atuo=true", "sync.auto", "=", "", "sync=1", "a=b=c"])
def test_a_flag_of_a_wrong_form_is_refused(config: Path, flag: str) -> None:
    with pytest.raises(BadSettings, match="write KEY=VALUE"):
        load_settings(config, {}, [flag])


def test_every_key_is_documented_and_has_its_own_variable() -> None:
    found = list(keys())
    assert len(found) > 15
    for key in [*found, *table_keys(Root)]:
        assert key.description.endswith("."), key.dotted
        assert key.type
    assert len({key.variable for key in found}) == len(found)
    assert not any(key.variable.endswith("_TOKEN") for key in found), "those are secrets"
    assert {key.dotted: key.default for key in found}["hubs.civitai.base_url"].startswith("https")


NAMES = st.sampled_from(
    [*Settings.__struct_fields__, "civitai", "roots", "path", "auto", "level", "root", "x", '"\\n"']
)
SCALARS = st.sampled_from(
    ["1", "-1", "1.5", "nan", "true", '"/a"', "'x'", "[]", "{}", "[{}]", "1979-05-27", "[[1]]", "x"]
)
LINES = (
    st.tuples(NAMES, NAMES, SCALARS).map(lambda t: f"{t[0]}.{t[1]} = {t[2]}")
    | st.tuples(NAMES, SCALARS).map(lambda t: f"{t[0]} = {t[1]}")
    | NAMES.map(lambda name: f"[{name}]")
    | st.tuples(NAMES, NAMES).map(lambda t: f"[{t[0]}.{t[1]}]")
    | st.tuples(NAMES, NAMES).map(lambda t: f"[[{t[0]}.{t[1]}]]")
    | st.text(max_size=15)
)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(st.lists(LINES, max_size=6).map("\n".join) | st.binary(max_size=40))
def test_a_hostile_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile.toml"
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    file.write_bytes(raw)
    try:
        told = load_settings(file, {})[1]
    except BadSettings as exc:
        told = [str(exc)]
    # warnings and refusals alike are one line that names the file
    assert all(line.startswith(str(file)) and line.splitlines() == [line] for line in told)
