"""Completion scripts for bash, zsh and fish.

All three do the same: walk the words that are typed to find the command, then complete the value
of an option, an option, or a word. Live values come from ``modelkeep __complete``.
"""

from modelkeep.cli.commands import COMMANDS, DEFAULT_VERBS
from modelkeep.cli.spec import FLAG, GLOBAL_OPTIONS, Command, Option
from modelkeep.reference import tree

_HEAD = "Made by `python -m modelkeep.reference`; do not edit."


def _paths() -> list[tuple[str, Command]]:
    """``queue``, ``queue list``, … and the command each stands for."""
    paths = []
    for name in tree.public_names():
        paths.append((name, tree.default_command(name)))
        paths += [
            (command.name, command) for command in _verb_commands(name) if command.name != name
        ]
    return paths


def _verb_commands(name: str) -> list[Command]:
    return [command for command in tree.all_commands() if command.name.split()[0] == name]


def _names(options: tuple[Option, ...]) -> str:
    return " ".join(name for option in options for name in option.names)


def _valued_names() -> list[str]:
    """Every option of any command that takes a value: none is a flag elsewhere."""
    found = {
        name: None
        for command in tree.all_commands()
        for option in tree.valued_options(command)
        for name in option.names
    }
    return sorted(found)


def bash() -> str:
    """The script for bash 3.2 and later; needs no other."""
    return f"""# bash completion of modelkeep. {_HEAD}

_modelkeep_values() {{
    # $1: how to complete, $2: what is typed; prints candidates, one a line
    local IFS=$' \\t\\n'
    case $1 in
        =*) compgen -W "${{1#=}}" -- "$2" ;;
        folder) compgen -d -- "$2" ;;
        refs) "$program" __complete refs -- "$2" 2>/dev/null; compgen -f -- "$2" ;;
        ?*) "$program" __complete "$1" -- "$2" 2>/dev/null ;;
    esac
}}

_modelkeep() {{
    local program=$1 line=${{COMP_LINE:0:COMP_POINT}} path= before= plain=0 index word
    local -a words
    # by spaces: bash itself breaks words at colons too
    local current=${{line##*[[:space:]]}}
    read -ra words <<< "${{line%"$current"}}"
    for ((index = 1; index < ${{#words[@]}}; index++)); do
        word=${{words[index]}}
        case $before in
            {"|".join(_valued_names())}) before=; continue ;;
        esac
        before=$word
        case $word in -*) continue ;; esac
        case $path:$word in
            {_bash_steps()}
            *) plain=$((plain + 1)) ;;
        esac
    done

    local options= values= verbs=
    case $path in
{_bash_paths()}
    esac
    case "$path $before" in
{_bash_values()}
        *)
            if [[ $current == -* && $values != query ]]; then
                values="=$options {_names(GLOBAL_OPTIONS)}"
            elif [[ $current == --* ]]; then
                values="=$options {_names(GLOBAL_OPTIONS)}"
            fi
            ;;
    esac

    local candidate head=
    # what stands before the last break is not to be repeated
    case $current in
        *[:=]*) [[ $COMP_WORDBREAKS == *:* ]] && head=${{current%"${{current##*[:=]}}"}} ;;
    esac
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${{candidate#"$head"}}")
    done < <(
        _modelkeep_values "$values" "$current"
        [[ $plain == 0 ]] && _modelkeep_values "${{verbs:+=$verbs}}" "$current"
    )
    case $values in
        folder | refs) compopt -o filenames 2>/dev/null ;;
        query) compopt -o nospace 2>/dev/null ;;
    esac
    return 0
}}

complete -F _modelkeep modelkeep
"""


def _bash_steps() -> str:
    """Patterns of ``path:word`` that lead deeper."""
    names = "|".join(f":{name}" for name in tree.public_names())
    lines = [f"{names}) path=$word ;;"]
    for name in DEFAULT_VERBS:
        verbs = "|".join(f"{name}:{verb}" for verb in tree.verbs_of(name))
        lines.append(f'{verbs}) [[ $plain == 0 ]] && path="{name} $word" ;;')
    return "\n            ".join(lines)


def _bash_paths() -> str:
    lines = [f"        '') values='={' '.join(tree.public_names())}' ;;"]
    for path, command in _paths():
        sets = [f"options='{_names(command.options)}'"] if command.options else []
        kind = tree.argument_kind(command)
        if kind:
            sets.append(f"values='{kind}'")
        if path in DEFAULT_VERBS:
            sets.append(f"verbs='{' '.join(tree.verbs_of(path))}'")
        lines.append(f"        '{path}') {'; '.join(sets) or ':'} ;;")
    return "\n".join(lines)


def _bash_values() -> str:
    lines = []
    for path, command in _paths():
        for option in command.options:
            if option.kind != FLAG:
                patterns = "|".join(f"'{path} {name}'" for name in option.names)
                lines.append(f"        {patterns}) values='{tree.value_kind(option)}' ;;")
    for option in tree.valued_options(None):
        patterns = "|".join(f"*' {name}'" for name in option.names)
        lines.append(f"        {patterns}) values='{tree.value_kind(option)}' ;;")
    return "\n".join(lines)


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "'\\''") + "'"


def zsh() -> str:
    """The script for zsh; its first line makes it autoload."""
    return f"""#compdef modelkeep
# zsh completion of modelkeep. {_HEAD}

_modelkeep_values() {{
    local -a found
    case $1 in
        \\=*) found=(${{=1#=}}); compadd -a found ;;
        folder) _files -/ ;;
        ?*)
            found=("${{(@f)$($program __complete $1 -- "$PREFIX" 2>/dev/null)}}")
            found=(${{found:#}})
            if [[ $1 == query ]]; then compadd -S '' -a found; else compadd -a found; fi
            [[ $1 == refs ]] && _files
            ;;
    esac
}}

_modelkeep() {{
    local program=$words[1] position=() before='' word='' plain=0 index
    for ((index = 2; index < CURRENT; index++)); do
        word=$words[index]
        case $before in
            ({"|".join(_valued_names())}) before=''; continue ;;
        esac
        before=$word
        [[ $word == -* ]] && continue
        case "$position:$word" in
            {_zsh_steps()}
            (*) plain=$((plain + 1)) ;;
        esac
    done

    local -a options verbs
    local values=''
    case "$position" in
{_zsh_paths()}
    esac
    case "$position $before" in
{_zsh_values()}
    esac
    if [[ $PREFIX == -* && ( $values != query || $PREFIX == --* ) ]]; then
        options+=({_zsh_described_options(GLOBAL_OPTIONS)})
        _describe -o option options
        return
    fi
    (( $#verbs && ! plain )) && _describe verb verbs
    _modelkeep_values "$values"
}}

if [[ $funcstack[1] == _modelkeep ]]; then
    _modelkeep "$@"
else
    compdef _modelkeep modelkeep
fi
"""


def _zsh_steps() -> str:
    names = "|".join(f":{name}" for name in tree.public_names())
    lines = [f"({names}) position=($word) ;;"]
    for name in DEFAULT_VERBS:
        verbs = "|".join(f"{name}:{verb}" for verb in tree.verbs_of(name))
        lines.append(f"({verbs}) (( plain )) || position=({name} $word) ;;")
    return "\n            ".join(lines)


def _zsh_described_options(options: tuple[Option, ...]) -> str:
    return " ".join(
        _quoted(f"{name}:{option.help}".replace("`", ""))
        for option in options
        for name in option.names
    )


def _zsh_paths() -> str:
    top = " ".join(_quoted(f"{name}:{COMMANDS[name][2]}") for name in tree.public_names())
    lines = [f"        ('') verbs=({top}) ;;"]
    for path, command in _paths():
        sets = [f"options=({_zsh_described_options(command.options)})"] if command.options else []
        kind = tree.argument_kind(command)
        if kind:
            sets.append(f"values='{kind}'")
        if path in DEFAULT_VERBS:
            described = " ".join(
                _quoted(f"{verb.name.split()[1]}:{verb.summary}") for verb in _verb_commands(path)
            )
            sets.append(f"verbs=({described})")
        lines.append(f"        ('{path}') {'; '.join(sets) or ':'} ;;")
    return "\n".join(lines)


def _zsh_values() -> str:
    lines = []
    for path, command in _paths():
        for option in command.options:
            if option.kind != FLAG:
                patterns = "|".join(f"'{path} {name}'" for name in option.names)
                kind = tree.value_kind(option)
                lines.append(f"        ({patterns}) _modelkeep_values '{kind}'; return ;;")
    for option in tree.valued_options(None):
        patterns = "|".join(f"*' {name}'" for name in option.names)
        kind = tree.value_kind(option)
        lines.append(f"        ({patterns}) _modelkeep_values '{kind}'; return ;;")
    return "\n".join(lines)


def fish() -> str:
    """The script for fish 3."""
    lines = [
        f"# fish completion of modelkeep. {_HEAD}",
        "",
        "function __modelkeep_path --description 'the command that is typed'",
        "    set -l path",
        "    set -l before",
        "    for word in (commandline -opc)[2..-1]",
        f'        if contains -- "$before" {" ".join(_valued_names())}',
        "            set before",
        "            continue",
        "        end",
        "        set before $word",
        "        string match -q -- '-*' $word; and continue",
        '        switch "$path:$word"',
        f"            case {' '.join(f':{name}' for name in tree.public_names())}",
        "                set path $word",
    ]
    for name in DEFAULT_VERBS:
        lines += [
            f"            case {' '.join(f'{name}:{verb}' for verb in tree.verbs_of(name))}",
            f'                set path "{name} $word"',
        ]
    lines += [
        "            case '*'",
        '                set path "$path"',
        "        end",
        "    end",
        '    echo "$path"',
        "end",
        "",
        "function __modelkeep_at --description 'whether one of these is typed'",
        "    contains -- (__modelkeep_path) $argv",
        "end",
        "",
        "function __modelkeep_live --description 'values from the daemon'",
        "    modelkeep __complete $argv[1] -- (commandline -ct) 2>/dev/null",
        "end",
        "",
        "complete -c modelkeep -f",
    ]
    for option in GLOBAL_OPTIONS:
        lines.append(_fish_option("", option))
    for name in tree.public_names():
        lines.append(
            f"complete -c modelkeep -n '__modelkeep_at \"\"' -a {name} "
            f"-d {_quoted(COMMANDS[name][2])}"
        )
    for path, command in _paths():
        at = f"-n '__modelkeep_at \"{path}\"' "
        if path in DEFAULT_VERBS:
            lines += [
                f"complete -c modelkeep {at}-a {verb.name.split()[1]} -d {_quoted(verb.summary)}"
                for verb in _verb_commands(path)
            ]
        kind = tree.argument_kind(command)
        if kind:
            lines.append(f"complete -c modelkeep {at}{_fish_values(kind)}")
        lines += [_fish_option(at, option) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_values(kind: str) -> str:
    if kind.startswith("="):
        return f"-a {_quoted(kind[1:])}"
    if kind == "folder":
        return "-a '(__fish_complete_directories)'"
    files = "-F " if kind == "refs" else ""
    return f"{files}-a '(__modelkeep_live {kind})'"


def _fish_option(at: str, option: Option) -> str:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )
    line = f"complete -c modelkeep {at}{names} -d {_quoted(option.help)}"
    if option.kind != FLAG:
        kind = tree.value_kind(option)
        line += f" -x {_fish_values(kind)}" if kind else " -x"
    return line
