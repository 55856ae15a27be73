"""Walks the opcodes of a pickle without executing anything, and reports what it would import and
call.

First version: a walk, not yet an abstract machine. It therefore never says `safe`: at best
`review`. An import known to run programs, open files or load code is `dangerous`, as is a name it
cannot resolve; the deny list only explains, it does not clear the rest. The walk is linear in the
bytes, keeps no list of opcodes, and stops at a cap of operations (which is a reason, not a pass).
"""

from modelkeepd.scan.verdicts import Findings, Verdict

MAX_OPERATIONS = 2_000_000
MAX_NAME_BYTES = 1 << 10
MAX_STREAMS = 64

# Fixed argument sizes; negative: a length of that many bytes follows, then so many bytes; 'line':
# one newline-ended line; 'lines': two of them.
_LINE, _TWO_LINES = 1000, 1001
_ARGUMENTS: dict[int, int] = {
    **dict.fromkeys(b"(.012NQR]^abd}eols)tu", 0),
    **dict.fromkeys(b"\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98", 0),
    **dict.fromkeys(b"Khq\x80\x82", 1),
    **dict.fromkeys(b"M\x83", 2),
    **dict.fromkeys(b"Jjr\x84", 4),
    **dict.fromkeys(b"G\x95", 8),
    **dict.fromkeys(b"FILPSVgp", _LINE),
    **dict.fromkeys(b"ci", _TWO_LINES),
    **dict.fromkeys(b"CU\x8a\x8c", -1),
    **dict.fromkeys(b"BTX\x8b", -4),
    **dict.fromkeys(b"\x8d\x8e\x96", -8),
}
_TEXT_OPS = frozenset(b"X\x8c\x8dSUVT")
_CALLS = {
    0x52: "REDUCE",
    0x69: "INST",
    0x6F: "OBJ",
    0x81: "NEWOBJ",
    0x92: "NEWOBJ_EX",
    0x62: "BUILD",
}
_EXTENSIONS = frozenset((0x82, 0x83, 0x84))

_WHY_DANGEROUS = {
    "runs programs": "os posix nt subprocess pty commands",
    "loads code": "sys importlib runpy imp pkgutil zipimport pydoc",
    "builds code": "code codeop types marshal ctypes _ctypes",
    "runs text as code": "bdb pdb profile cProfile trace timeit doctest",
    "opens the network": "socket ssl urllib http ftplib smtplib requests httpx",
    "opens files": "shutil io _io pathlib tempfile fileinput glob",
    "loads other pickles": "pickle _pickle cPickle dill cloudpickle joblib shelve jsonpickle",
    "starts other work": "threading multiprocessing asyncio concurrent signal webbrowser platform",
    "calls what it is given": "operator _operator functools _functools lib2to3 idlelib test",
}
DANGEROUS_MODULES = {
    module: why for why, modules in _WHY_DANGEROUS.items() for module in modules.split()
}
_DANGEROUS_BUILTINS = frozenset(
    (
        *("eval", "exec", "compile", "open", "input", "__import__", "getattr", "setattr"),
        *("delattr", "globals", "locals", "vars", "breakpoint", "apply", "execfile", "file"),
        *("map", "filter", "type", "object", "help", "memoryview"),
    )
)
_BUILTINS = frozenset(("builtins", "__builtin__", "__builtins__"))


def examine(data: bytes, base: int = 0, *, cut: bool = False) -> Findings:
    """Judge the pickles in `data`, which lies at `base` in the file.

    `cut` says that there is more of it, which was not read.
    """
    findings = Findings.starting_at(Verdict.REVIEW)
    at = 0
    for _ in range(MAX_STREAMS):
        walk = Walk(data, base)
        end = walk.run(at, findings)
        if end is None:
            if walk.broken == "pickle-too-long":
                findings.add(Verdict.NOT_SCANNED, walk.broken, walk.what, base + walk.at)
            elif not (cut and walk.ran_out):
                findings.add(Verdict.MALFORMED, walk.broken, walk.what, base + walk.at)
            break
        at = end
        if data[at : at + 1] not in (b"\x80",):
            break
    if cut:
        findings.add(Verdict.NOT_SCANNED, "pickle-not-read", "the pickle is longer than we read")
    if not findings.reasons:
        findings.note("pickle", "a pickle can run code when it is loaded; nothing was proven of it")
    return findings


class Walk:
    """One pass over one stream, from `start` to its STOP."""

    def __init__(self, data: bytes, base: int) -> None:
        self._data = data
        self._base = base
        self._texts: list[bytes | None] = []
        self._memo: dict[int, bytes | None] = {}
        self.at = 0
        self.broken = ""
        self.what = ""
        self.ran_out = False
        self.imports = 0
        self.operations = 0

    def run(self, start: int, findings: Findings) -> int | None:
        """The offset after STOP, or None where the stream breaks (see `broken`, `at`)."""
        data, size = self._data, len(self._data)
        at = start
        while at < size:
            self.at = at
            self.operations += 1
            if self.operations > MAX_OPERATIONS:
                return self._give_up("pickle-too-long", f"over {MAX_OPERATIONS} operations")
            op = data[at]
            shape = _ARGUMENTS.get(op)
            if shape is None:
                return self._give_up("pickle-opcode", f"{op:#04x} is no pickle opcode")
            at += 1
            argument = b""
            if shape >= _LINE:
                for _ in range(shape - _LINE + 1):
                    end = data.find(b"\n", at)
                    if end < 0:
                        return self._cut()
                    argument += data[at : min(end, at + MAX_NAME_BYTES)] + b"\n"
                    at = end + 1
            elif shape:
                width = abs(shape)
                if at + width > size:
                    return self._cut()
                if shape < 0:
                    length = int.from_bytes(data[at : at + width], "little")
                    at += width
                    if length > size - at:
                        return self._cut()
                    argument = data[at : at + min(length, MAX_NAME_BYTES)]
                    at += length
                else:
                    argument = data[at : at + width]
                    at += width
            if op == 0x2E:
                return at
            self._observe(op, argument, findings)
        return self._cut()

    def _observe(self, op: int, argument: bytes, findings: Findings) -> None:
        if op in _TEXT_OPS:
            self._texts = [*self._texts[-1:], argument.rstrip(b"\n") if op in b"SV" else argument]
        elif op in b"ci":
            module, _, name = argument[:-1].partition(b"\n")
            self._import(module, name, findings)
        elif op == 0x93:
            module_text, name_text = [None, None, *self._texts][-2:]
            self._import(module_text, name_text, findings)
        elif op == 0x94:  # MEMOIZE
            self._remember(len(self._memo))
        elif op in b"qr":
            self._remember(int.from_bytes(argument, "little"))
        elif op in b"hj":
            self._texts = [
                *self._texts[-1:],
                self._memo.get(int.from_bytes(argument, "little")),
            ]
        elif op in _EXTENSIONS:
            self._flag(findings, "pickle-extension", "names an object by a registry number")
        if op in _CALLS and op not in b"b" and len(findings.reasons) < 8 and self.imports == 0:
            self._flag(findings, "pickle-call", f"{_CALLS[op]} calls something it did not name")

    def _remember(self, index: int) -> None:
        if len(self._memo) < 100_000:
            self._memo[index] = self._texts[-1] if self._texts else None

    def _flag(self, findings: Findings, rule: str, what: str) -> None:
        findings.add(Verdict.DANGEROUS, rule, what, self._base + self.at)

    def _import(self, module: bytes | None, name: bytes | None, findings: Findings) -> None:
        self.imports += 1
        if module is None or name is None or len(module) + len(name) >= MAX_NAME_BYTES:
            self._flag(findings, "pickle-unresolvable", "imports a name that cannot be told")
            return
        shown = f"{module.decode('utf-8', 'replace')}.{name.decode('utf-8', 'replace')}"
        if not shown.replace(".", "").replace("_", "").isalnum() or not shown.isascii():
            self._flag(findings, "pickle-unresolvable", f"imports the odd name {shown!r}")
            return
        root = shown.partition(".")[0]
        why = DANGEROUS_MODULES.get(root)
        if root in _BUILTINS and name.decode() in _DANGEROUS_BUILTINS:
            why = "runs or reaches code"
        if b"." in name:
            why = why or "reaches into another object"
        if why is not None:
            self._flag(findings, "pickle-import", f"imports {shown}, which {why}")
        else:
            findings.add(
                Verdict.REVIEW,
                "pickle-global",
                f"imports {shown}; not proven harmless",
                self._base + self.at,
            )

    def _cut(self) -> int | None:
        self.ran_out = True
        return self._give_up("pickle-truncated", "the pickle ends before its STOP")

    def _give_up(self, rule: str, what: str) -> int | None:
        self.broken, self.what = rule, what
        return None


def looks_like_pickle(data: bytes) -> bool:
    """Would an unpickler get anywhere with these bytes: reach a STOP, or import something first?"""
    walk = Walk(data, 0)
    end = walk.run(0, Findings.starting_at(Verdict.REVIEW))
    return end is not None or walk.imports > 0
