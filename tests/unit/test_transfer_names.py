"""Names: every hostile text becomes one harmless component, and no two files share one (D1)."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelkeepd.transfer.names import MAX_NAME_BYTES, fold, safe_name, split_suffix, unique_name

# What goes in, what must come out.
EXACT = [
    ("model.safetensors", "model.safetensors"),
    ("Model v1.5 (fp16).safetensors", "Model v1.5 (fp16).safetensors"),
    ("a  b.ckpt", "a  b.ckpt"),
    ("../x.safetensors", "x.safetensors"),
    ("../../etc/passwd", "etc_passwd"),
    ("/etc/passwd", "etc_passwd"),
    ("//server/share/x", "server_share_x"),
    ("..\\..\\x.pt", "x.pt"),
    ("\\\\server\\share\\x.pt", "server_share_x.pt"),
    ("C:\\Users\\me\\x.pt", "C__Users_me_x.pt"),
    ("C:x.pt", "C_x.pt"),
    ("\\\\?\\C:\\x.pt", "__C__x.pt"),
    ("a/b.safetensors", "a_b.safetensors"),
    ("unet/diffusion_pytorch_model.safetensors", "unet_diffusion_pytorch_model.safetensors"),
    ("a/./b/../c.pt", "a_b_c.pt"),
    ("a:b.pt", "a_b.pt"),
    ("file.txt:stream", "file.txt_stream"),
    ('what?"<>|*.pt', "what______.pt"),
    ("x\x00y.pt", "xy.pt"),
    ("x\r\nSet-Cookie: a.pt", "xSet-Cookie_ a.pt"),
    ("x\ty.pt", "xy.pt"),
    ("\x1b[31mred.pt", "[31mred.pt"),
    ("x\x7f\x85y.pt", "xy.pt"),
    (".bashrc", "bashrc"),
    (".ssh/authorized_keys", "ssh_authorized_keys"),
    ("...hidden.pt", "hidden.pt"),
    ("-rf.pt", "rf.pt"),
    ("--help", "help"),
    ("~/x.pt", "_x.pt"),
    ("~root", "root"),
    (" .-~ x.pt", "x.pt"),
    ("name.", "name"),
    ("name. . .", "name"),
    ("name ", "name"),
    (" name", "name"),
    ("CON", "_CON"),
    ("con", "_con"),
    ("Con.txt", "_Con.txt"),
    ("NUL.txt", "_NUL.txt"),
    ("nul.tar.gz", "_nul.tar.gz"),
    ("AUX.safetensors", "_AUX.safetensors"),
    ("PRN", "_PRN"),
    ("COM1", "_COM1"),
    ("com9.pt", "_com9.pt"),
    ("COM0", "_COM0"),
    ("COM¹.pt", "_COM¹.pt"),
    ("LPT³", "_LPT³"),
    ("LPT1.zip", "_LPT1.zip"),
    ("CON .txt", "_CON.txt"),
    ("CONIN$", "_CONIN$"),
    ("conout$.log", "_conout$.log"),
    ("CLOCK$", "_CLOCK$"),
    ("../CON", "_CON"),
    ("CON\u200b.pt", "_CON.pt"),
    ("COM10.pt", "COM10.pt"),
    ("CONSOLE.pt", "CONSOLE.pt"),
    ("", "model"),
    (".", "model"),
    ("..", "model"),
    ("/", "model"),
    ("\\", "model"),
    (" ", "model"),
    ("\u200b", "model"),
    ("\x00", "model"),
    ("- . ~", "model"),
    (".safetensors", "safetensors"),
    ("invoice\u202efdp.exe", "invoicefdp.exe"),
    ("a\u2066b\u2069c.pt", "abc.pt"),
    ("zero\u200bwidth\u200d\u2060\ufeff.pt", "zerowidth.pt"),
    ("soft\u00adhyphen.pt", "softhyphen.pt"),
    ("tag\U000e0041\U000e0042.pt", "tag.pt"),
    ("vs\ufe0f\U000e0100.pt", "vs.pt"),
    ("hangul\u3164filler\u115f\u1160\uffa0.pt", "hangulfiller.pt"),
    ("braille\u2800blank.pt", "brailleblank.pt"),
    ("cgj\u034f.pt", "cgj.pt"),
    ("line\u2028sep\u2029.pt", "linesep.pt"),
    ("private\ue000use.pt", "privateuse.pt"),
    ("lone\ud800surrogate.pt", "lonesurrogate.pt"),
    ("non\uffffchar.pt", "nonchar.pt"),
    ("nbsp\u00a0space.pt", "nbsp space.pt"),
    ("ideographic\u3000space.pt", "ideographic space.pt"),
    ("e\u0301te.pt", "\u00e9te.pt"),
    ("\u212bngstrom.pt", "\u00c5ngstrom.pt"),
    ("ガ.pt", "ガ.pt"),
    ("カ\u3099.pt", "ガ.pt"),
    ("日本語モデル.safetensors", "日本語モデル.safetensors"),
    ("한국어.safetensors", "한국어.safetensors"),
    ("Модель.safetensors", "Модель.safetensors"),
    ("😀.safetensors", "😀.safetensors"),
    ("نموذج.pt", "نموذج.pt"),
    ("a\u2215b\u2044c.pt", "a\u2215b\u2044c.pt"),
    ("a／b.pt", "a／b.pt"),
    ("\u037e.pt", ";.pt"),
    ("x" * 300 + ".safetensors", "x" * (MAX_NAME_BYTES - 12) + ".safetensors"),
    ("x" * 300, "x" * MAX_NAME_BYTES),
    ("あ" * 100 + ".pt", "あ" * 49 + ".pt"),
    ("a" * 149 + ". .pt", "a" * 147 + ".pt"),
    ("x." + "y" * 300, ("x." + "y" * 300)[:MAX_NAME_BYTES]),
]

PORTS = [f"{port}{digit}" for port in ("COM", "LPT") for digit in range(10)]
RESERVED = ["CON", "PRN", "AUX", "NUL", *PORTS]
FORMS = ["{}", "{}.", "{} ", "{}.txt", "{}.a.b", " {}", "-{}", "./{}", "{}\u200b", "{}\x00.pt"]
HOSTILE = [hostile for hostile, _ in EXACT] + [
    form.format(case)
    for name in RESERVED
    for form, case in zip(FORMS, [name, name.lower()] * 5, strict=True)
]


def assert_harmless(name: str) -> None:
    assert name
    assert len(name.encode("utf-8")) <= MAX_NAME_BYTES
    assert not set(name) & set('/\\<>:"|?*\0')
    assert name[0] not in " .-~"
    assert name[-1] not in " ."
    assert name.partition(".")[0].strip().upper() not in RESERVED
    assert unicodedata.normalize("NFC", name) == name
    categories = {unicodedata.category(character) for character in name}
    assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert safe_name(name) == name


@pytest.mark.parametrize(("hostile", "safe"), EXACT)
def test_known_names_become_what_is_written_down(hostile: str, safe: str) -> None:
    assert safe_name(hostile) == safe


def test_every_hostile_name_of_the_table_becomes_harmless() -> None:
    assert len(HOSTILE) >= 200
    for hostile in HOSTILE:
        assert_harmless(safe_name(hostile))


names = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="./\\-~ :conCON1\u200b\u202e\u0301\u3099\u1100\u1161\ud800é日", max_size=40),
    st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")),
)


@given(names)
@example("a\u0301" * 200 + ".pt")
@example("\u0344" * 80)
@example("con\u0307")
@settings(max_examples=400, deadline=None)
def test_any_text_becomes_harmless(hostile: str) -> None:
    assert_harmless(safe_name(hostile))


@given(st.lists(st.tuples(names, st.text(max_size=12)), max_size=12))
@settings(max_examples=150, deadline=None)
def test_different_remote_files_never_share_a_local_name(files: list[tuple[str, str]]) -> None:
    taken: set[str] = set()
    for hostile, mark in files:
        name = unique_name(hostile, mark, taken)
        assert_harmless(name)
        assert fold(name) not in taken
        taken.add(fold(name))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Model.pt", "model.PT"),
        ("straße.pt", "STRASSE.pt"),
        ("\u00e9.pt", "e\u0301.pt"),
        ("ﬁle.pt", "file.pt"),
        ("ＡＢＣ.pt", "abc.pt"),
        ("a/b.pt", "a_b.pt"),
        ("x" * 200 + "1.pt", "x" * 200 + "2.pt"),
        ("İ.pt", "i̇.pt"),
    ],
)
def test_names_that_meet_on_some_disk_are_told_apart(first: str, second: str) -> None:
    one = unique_name(first, "11", set())
    other = unique_name(second, "22", {fold(one)})
    assert fold(one) != fold(other)
    assert "22" in other


def test_a_free_name_is_kept_and_a_taken_one_gets_the_hubs_id_before_its_suffix() -> None:
    assert unique_name("m.safetensors", "1301-7", set()) == "m.safetensors"
    taken = {fold("m.safetensors")}
    assert unique_name("m.safetensors", "1301-7", taken) == "m-1301-7.safetensors"
    taken.add(fold("m-1301-7.safetensors"))
    assert unique_name("m.safetensors", "1301-7", taken) == "m-1301-7-2.safetensors"


def test_a_hostile_discriminator_cannot_spoil_the_name() -> None:
    name = unique_name("m.pt", "../../\u202eX" * 20, {fold("m.pt")})
    assert_harmless(name)


def test_the_suffix_is_what_looks_like_a_file_type() -> None:
    assert split_suffix("model.fp16.safetensors") == ("model.fp16", ".safetensors")
    assert split_suffix("v1.5 final") == ("v1.5 final", "")
