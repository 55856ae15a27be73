# bash completion of modelkeep. Made by `python -m modelkeep.reference`; do not edit.

_modelkeep_values() {
    # $1: how to complete, $2: what is typed; prints candidates, one a line
    local IFS=$' \t\n'
    case $1 in
        =*) compgen -W "${1#=}" -- "$2" ;;
        folder) compgen -d -- "$2" ;;
        refs) "$program" __complete refs -- "$2" 2>/dev/null; compgen -f -- "$2" ;;
        ?*) "$program" __complete "$1" -- "$2" 2>/dev/null ;;
    esac
}

_modelkeep() {
    local program=$1 line=${COMP_LINE:0:COMP_POINT} path= before= plain=0 index word
    local -a words
    # by spaces: bash itself breaks words at colons too
    local current=${line##*[[:space:]]}
    read -ra words <<< "${line%"$current"}"
    for ((index = 1; index < ${#words[@]}; index++)); do
        word=${words[index]}
        case $before in
            --after|--base|--before|--color|--file|--from|--kind|--layout|--limit|--offset|--priority|--root|--severity|--since|--sort|--state|--to|--topic|--trust|--type) before=; continue ;;
        esac
        before=$word
        case $word in -*) continue ;; esac
        case $path:$word in
            :search|:show|:history|:sync|:catalog|:api-changes|:types|:get|:queue|:library|:status|:events|:stop|:help|:completion|:version) path=$word ;;
            queue:list|queue:watch|queue:pause|queue:resume|queue:cancel|queue:retry|queue:move) [[ $plain == 0 ]] && path="queue $word" ;;
            library:list|library:roots|library:add|library:remove|library:scan) [[ $plain == 0 ]] && path="library $word" ;;
            api-changes:list|api-changes:endpoints|api-changes:diff|api-changes:accept|api-changes:resume) [[ $plain == 0 ]] && path="api-changes $word" ;;
            types:list|types:guess|types:confirm) [[ $plain == 0 ]] && path="types $word" ;;
            catalog:export|catalog:import) [[ $plain == 0 ]] && path="catalog $word" ;;
            *) plain=$((plain + 1)) ;;
        esac
    done

    local options= values= verbs=
    case $path in
        '') values='=search show history sync catalog api-changes types get queue library status events stop help completion version' ;;
        'search') options='--sort --limit --offset --facets'; values='query' ;;
        'show') options='--raw --fresh'; values='refs' ;;
        'history') options='--statistics --limit --before'; values='refs' ;;
        'sync') options='--full --wait'; values='hubs' ;;
        'catalog') options='--since'; values='folder'; verbs='export import' ;;
        'catalog export') options='--since'; values='folder' ;;
        'catalog import') options='--trust'; values='folder' ;;
        'api-changes') options='--severity --limit --before'; values='hubs'; verbs='list endpoints diff accept resume' ;;
        'api-changes list') options='--severity --limit --before'; values='hubs' ;;
        'api-changes endpoints') : ;;
        'api-changes diff') options='--from --to'; values='hubs' ;;
        'api-changes accept') : ;;
        'api-changes resume') values='hubs' ;;
        'types') options='--kind'; verbs='list guess confirm' ;;
        'types list') options='--kind' ;;
        'types guess') values='folder' ;;
        'types confirm') options='--type --base'; values='folder' ;;
        'get') options='--file --to --priority --dry-run --wait'; values='refs' ;;
        'queue') options='--state --all --limit --after'; values='jobs'; verbs='list watch pause resume cancel retry move' ;;
        'queue list') options='--state --all --limit --after'; values='jobs' ;;
        'queue watch') values='jobs' ;;
        'queue pause') options='--all'; values='jobs' ;;
        'queue resume') options='--all'; values='jobs' ;;
        'queue cancel') options='--all -y --yes'; values='jobs' ;;
        'queue retry') options='--all'; values='jobs' ;;
        'queue move') options='--priority'; values='jobs' ;;
        'library') options='--state --root --limit --after'; verbs='list roots add remove scan' ;;
        'library list') options='--state --root --limit --after' ;;
        'library roots') : ;;
        'library add') options='--layout'; values='folder' ;;
        'library remove') values='roots' ;;
        'library scan') values='roots' ;;
        'status') : ;;
        'events') options='--since --topic --limit --no-follow' ;;
        'stop') : ;;
        'help') values='=search show history sync catalog api-changes types get queue library status events stop help completion version query refs exit-codes environment' ;;
        'completion') values='=bash zsh fish' ;;
        'version') : ;;
    esac
    case "$path $before" in
        'search --sort') values='' ;;
        'search --limit') values='' ;;
        'search --offset') values='' ;;
        'history --limit') values='' ;;
        'history --before') values='' ;;
        'catalog --since') values='folder' ;;
        'catalog export --since') values='folder' ;;
        'catalog import --trust') values='' ;;
        'api-changes --severity') values='=harmless adopted degraded breaking' ;;
        'api-changes --limit') values='' ;;
        'api-changes --before') values='' ;;
        'api-changes list --severity') values='=harmless adopted degraded breaking' ;;
        'api-changes list --limit') values='' ;;
        'api-changes list --before') values='' ;;
        'api-changes diff --from') values='' ;;
        'api-changes diff --to') values='' ;;
        'types --kind') values='=type base' ;;
        'types list --kind') values='=type base' ;;
        'types confirm --type') values='types' ;;
        'types confirm --base') values='bases' ;;
        'get --file') values='' ;;
        'get --to') values='folder' ;;
        'get --priority') values='' ;;
        'queue --state') values='=queued downloading placing resolving scanning verifying waiting paused done failed quarantined canceled' ;;
        'queue --limit') values='' ;;
        'queue --after') values='' ;;
        'queue list --state') values='=queued downloading placing resolving scanning verifying waiting paused done failed quarantined canceled' ;;
        'queue list --limit') values='' ;;
        'queue list --after') values='' ;;
        'queue move --priority') values='' ;;
        'library --state') values='' ;;
        'library --root') values='folder' ;;
        'library --limit') values='' ;;
        'library --after') values='folder' ;;
        'library list --state') values='' ;;
        'library list --root') values='folder' ;;
        'library list --limit') values='' ;;
        'library list --after') values='folder' ;;
        'library add --layout') values='' ;;
        'events --since') values='' ;;
        'events --topic') values='=model library transfer sync metrics node' ;;
        'events --limit') values='' ;;
        *' --color') values='=auto always never' ;;
        *)
            if [[ $current == -* && $values != query ]]; then
                values="=$options --json -q --quiet -v --verbose --color -h --help --version"
            elif [[ $current == --* ]]; then
                values="=$options --json -q --quiet -v --verbose --color -h --help --version"
            fi
            ;;
    esac

    local candidate head=
    # what stands before the last break is not to be repeated
    case $current in
        *[:=]*) [[ $COMP_WORDBREAKS == *:* ]] && head=${current%"${current##*[:=]}"} ;;
    esac
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$head"}")
    done < <(
        _modelkeep_values "$values" "$current"
        [[ $plain == 0 ]] && _modelkeep_values "${verbs:+=$verbs}" "$current"
    )
    case $values in
        folder | refs) compopt -o filenames 2>/dev/null ;;
        query) compopt -o nospace 2>/dev/null ;;
    esac
    return 0
}

complete -F _modelkeep modelkeep
