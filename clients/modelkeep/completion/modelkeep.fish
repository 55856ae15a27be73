# fish completion of modelkeep. Made by `python -m modelkeep.reference`; do not edit.

function __modelkeep_path --description 'the command that is typed'
    set -l path
    set -l before
    for word in (commandline -opc)[2..-1]
        if contains -- "$before" --after --base --before --color --file --from --kind --layout --limit --offset --priority --root --severity --since --sort --state --to --topic --trust --type
            set before
            continue
        end
        set before $word
        string match -q -- '-*' $word; and continue
        switch "$path:$word"
            case :search :show :history :sync :catalog :api-changes :types :get :queue :library :status :events :stop :help :completion :version
                set path $word
            case queue:list queue:watch queue:pause queue:resume queue:cancel queue:retry queue:move
                set path "queue $word"
            case library:list library:roots library:add library:remove library:scan
                set path "library $word"
            case api-changes:list api-changes:endpoints api-changes:diff api-changes:accept api-changes:resume
                set path "api-changes $word"
            case types:list types:guess types:confirm
                set path "types $word"
            case catalog:export catalog:import
                set path "catalog $word"
            case '*'
                set path "$path"
        end
    end
    echo "$path"
end

function __modelkeep_at --description 'whether one of these is typed'
    contains -- (__modelkeep_path) $argv
end

function __modelkeep_live --description 'values from the daemon'
    modelkeep __complete $argv[1] -- (commandline -ct) 2>/dev/null
end

complete -c modelkeep -f
complete -c modelkeep -l json -d 'one JSON document on stdout; JSON lines when following'
complete -c modelkeep -s q -l quiet -d 'only results, ids where there are some; no hints'
complete -c modelkeep -s v -l verbose -d 'more: what is left out of tables, and causes of errors'
complete -c modelkeep -l color -d 'when to color' -x -a 'auto always never'
complete -c modelkeep -s h -l help -d 'show help, of the command when one is named'
complete -c modelkeep -l version -d 'show the version'
complete -c modelkeep -n '__modelkeep_at ""' -a search -d 'find models in the offline catalog'
complete -c modelkeep -n '__modelkeep_at ""' -a show -d 'everything known of one model'
complete -c modelkeep -n '__modelkeep_at ""' -a history -d 'how a model changed'
complete -c modelkeep -n '__modelkeep_at ""' -a sync -d 'start or show a sync with the hubs'
complete -c modelkeep -n '__modelkeep_at ""' -a catalog -d 'write or read the catalog as one file'
complete -c modelkeep -n '__modelkeep_at ""' -a api-changes -d 'how the hubs'\'' APIs changed'
complete -c modelkeep -n '__modelkeep_at ""' -a types -d 'known types and base models; guesses for files'
complete -c modelkeep -n '__modelkeep_at ""' -a get -d 'download models into the library'
complete -c modelkeep -n '__modelkeep_at ""' -a queue -d 'see and steer the downloads'
complete -c modelkeep -n '__modelkeep_at ""' -a library -d 'the model files on disk and the watched folders'
complete -c modelkeep -n '__modelkeep_at ""' -a status -d 'daemon, catalog, queue and library at a glance'
complete -c modelkeep -n '__modelkeep_at ""' -a events -d 'follow what happens'
complete -c modelkeep -n '__modelkeep_at ""' -a stop -d 'stop the daemon'
complete -c modelkeep -n '__modelkeep_at ""' -a help -d 'help on a command or a topic'
complete -c modelkeep -n '__modelkeep_at ""' -a completion -d 'the completion script of a shell'
complete -c modelkeep -n '__modelkeep_at ""' -a version -d 'versions of client, protocol and daemon'
complete -c modelkeep -n '__modelkeep_at "search"' -a '(__modelkeep_live query)'
complete -c modelkeep -n '__modelkeep_at "search"' -l sort -d 'relevance, downloads, updated, published, name, size …' -x
complete -c modelkeep -n '__modelkeep_at "search"' -l limit -d 'how many to list (20)' -x
complete -c modelkeep -n '__modelkeep_at "search"' -l offset -d 'skip so many' -x
complete -c modelkeep -n '__modelkeep_at "search"' -l facets -d 'count the hits by type, base model and topic'
complete -c modelkeep -n '__modelkeep_at "show"' -F -a '(__modelkeep_live refs)'
complete -c modelkeep -n '__modelkeep_at "show"' -l raw -d 'the document as the hub sent it'
complete -c modelkeep -n '__modelkeep_at "show"' -l fresh -d 'ask the hub now, however young the answer is'
complete -c modelkeep -n '__modelkeep_at "history"' -F -a '(__modelkeep_live refs)'
complete -c modelkeep -n '__modelkeep_at "history"' -l statistics -d 'changes of counters too'
complete -c modelkeep -n '__modelkeep_at "history"' -l limit -d 'how many to list (50)' -x
complete -c modelkeep -n '__modelkeep_at "history"' -l before -d 'those seen before this time' -x
complete -c modelkeep -n '__modelkeep_at "sync"' -a '(__modelkeep_live hubs)'
complete -c modelkeep -n '__modelkeep_at "sync"' -l full -d 'a full crawl instead of what changed'
complete -c modelkeep -n '__modelkeep_at "sync"' -l wait -d 'show progress and wait for the end'
complete -c modelkeep -n '__modelkeep_at "catalog"' -a export -d 'write the catalog to one signed file'
complete -c modelkeep -n '__modelkeep_at "catalog"' -a import -d 'merge a snapshot into the catalog'
complete -c modelkeep -n '__modelkeep_at "catalog"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "catalog"' -l since -d 'only what changed since this one' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "catalog export"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "catalog export"' -l since -d 'only what changed since this one' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "catalog import"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "catalog import"' -l trust -d 'accept this signer: a key, or the file' -x
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a list -d 'changes of the hubs'\'' APIs'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a endpoints -d 'what is known of the hubs'\'' endpoints'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a diff -d 'the difference between two versions of an endpoint'\''s answers'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a accept -d 'mark a change as seen'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a resume -d 'ask a paused endpoint again'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -a '(__modelkeep_live hubs)'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -l severity -d 'only these' -x -a 'harmless adopted degraded breaking'
complete -c modelkeep -n '__modelkeep_at "api-changes"' -l limit -d 'how many to list (50)' -x
complete -c modelkeep -n '__modelkeep_at "api-changes"' -l before -d 'those before this change' -x
complete -c modelkeep -n '__modelkeep_at "api-changes list"' -a '(__modelkeep_live hubs)'
complete -c modelkeep -n '__modelkeep_at "api-changes list"' -l severity -d 'only these' -x -a 'harmless adopted degraded breaking'
complete -c modelkeep -n '__modelkeep_at "api-changes list"' -l limit -d 'how many to list (50)' -x
complete -c modelkeep -n '__modelkeep_at "api-changes list"' -l before -d 'those before this change' -x
complete -c modelkeep -n '__modelkeep_at "api-changes diff"' -a '(__modelkeep_live hubs)'
complete -c modelkeep -n '__modelkeep_at "api-changes diff"' -l from -d 'the older version' -x
complete -c modelkeep -n '__modelkeep_at "api-changes diff"' -l to -d 'the newer version' -x
complete -c modelkeep -n '__modelkeep_at "api-changes resume"' -a '(__modelkeep_live hubs)'
complete -c modelkeep -n '__modelkeep_at "types"' -a list -d 'known types and base models'
complete -c modelkeep -n '__modelkeep_at "types"' -a guess -d 'what a file may be'
complete -c modelkeep -n '__modelkeep_at "types"' -a confirm -d 'say what a file is; later guesses learn from it'
complete -c modelkeep -n '__modelkeep_at "types"' -l kind -d 'types or base models' -x -a 'type base'
complete -c modelkeep -n '__modelkeep_at "types list"' -l kind -d 'types or base models' -x -a 'type base'
complete -c modelkeep -n '__modelkeep_at "types guess"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "types confirm"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "types confirm"' -l type -d 'the type' -x -a '(__modelkeep_live types)'
complete -c modelkeep -n '__modelkeep_at "types confirm"' -l base -d 'the base model' -x -a '(__modelkeep_live bases)'
complete -c modelkeep -n '__modelkeep_at "get"' -F -a '(__modelkeep_live refs)'
complete -c modelkeep -n '__modelkeep_at "get"' -l file -d 'files to take, by name or path (the model)' -x
complete -c modelkeep -n '__modelkeep_at "get"' -l to -d 'where to (the library, by layout and type)' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "get"' -l priority -d '-100 to 100; higher goes first' -x
complete -c modelkeep -n '__modelkeep_at "get"' -l dry-run -d 'say what would be downloaded'
complete -c modelkeep -n '__modelkeep_at "get"' -l wait -d 'show progress and wait until all files are in place'
complete -c modelkeep -n '__modelkeep_at "queue"' -a list -d 'the jobs: what is going on, and what needs you'
complete -c modelkeep -n '__modelkeep_at "queue"' -a watch -d 'follow the downloads to their end'
complete -c modelkeep -n '__modelkeep_at "queue"' -a pause -d 'pause jobs; they keep what they have'
complete -c modelkeep -n '__modelkeep_at "queue"' -a resume -d 'let paused jobs go on'
complete -c modelkeep -n '__modelkeep_at "queue"' -a cancel -d 'cancel jobs and drop what they have fetched'
complete -c modelkeep -n '__modelkeep_at "queue"' -a retry -d 'try failed jobs again'
complete -c modelkeep -n '__modelkeep_at "queue"' -a move -d 'change the order: set the priority of jobs'
complete -c modelkeep -n '__modelkeep_at "queue"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue"' -l state -d 'only jobs in this state; may be repeated' -x -a 'queued downloading placing resolving scanning verifying waiting paused done failed quarantined canceled'
complete -c modelkeep -n '__modelkeep_at "queue"' -l all -d 'finished and canceled jobs too'
complete -c modelkeep -n '__modelkeep_at "queue"' -l limit -d 'how many to list (100)' -x
complete -c modelkeep -n '__modelkeep_at "queue"' -l after -d 'those that follow this job' -x
complete -c modelkeep -n '__modelkeep_at "queue list"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue list"' -l state -d 'only jobs in this state; may be repeated' -x -a 'queued downloading placing resolving scanning verifying waiting paused done failed quarantined canceled'
complete -c modelkeep -n '__modelkeep_at "queue list"' -l all -d 'finished and canceled jobs too'
complete -c modelkeep -n '__modelkeep_at "queue list"' -l limit -d 'how many to list (100)' -x
complete -c modelkeep -n '__modelkeep_at "queue list"' -l after -d 'those that follow this job' -x
complete -c modelkeep -n '__modelkeep_at "queue watch"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue pause"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue pause"' -l all -d 'all jobs it makes sense for'
complete -c modelkeep -n '__modelkeep_at "queue resume"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue resume"' -l all -d 'all jobs it makes sense for'
complete -c modelkeep -n '__modelkeep_at "queue cancel"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue cancel"' -l all -d 'all jobs it makes sense for'
complete -c modelkeep -n '__modelkeep_at "queue cancel"' -s y -l yes -d 'don'\''t ask'
complete -c modelkeep -n '__modelkeep_at "queue retry"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue retry"' -l all -d 'all jobs it makes sense for'
complete -c modelkeep -n '__modelkeep_at "queue move"' -a '(__modelkeep_live jobs)'
complete -c modelkeep -n '__modelkeep_at "queue move"' -l priority -d '-100 to 100; higher goes first (1)' -x
complete -c modelkeep -n '__modelkeep_at "library"' -a list -d 'the model files on disk'
complete -c modelkeep -n '__modelkeep_at "library"' -a roots -d 'the watched folders'
complete -c modelkeep -n '__modelkeep_at "library"' -a add -d 'watch a folder'
complete -c modelkeep -n '__modelkeep_at "library"' -a remove -d 'stop watching a folder; its files stay'
complete -c modelkeep -n '__modelkeep_at "library"' -a scan -d 'walk the watched folders now'
complete -c modelkeep -n '__modelkeep_at "library"' -l state -d 'only files in this state' -x
complete -c modelkeep -n '__modelkeep_at "library"' -l root -d 'only below this folder' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "library"' -l limit -d 'how many to list (100)' -x
complete -c modelkeep -n '__modelkeep_at "library"' -l after -d 'those that follow this path' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "library list"' -l state -d 'only files in this state' -x
complete -c modelkeep -n '__modelkeep_at "library list"' -l root -d 'only below this folder' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "library list"' -l limit -d 'how many to list (100)' -x
complete -c modelkeep -n '__modelkeep_at "library list"' -l after -d 'those that follow this path' -x -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "library add"' -a '(__fish_complete_directories)'
complete -c modelkeep -n '__modelkeep_at "library add"' -l layout -d 'comfyui, forge, flat … (auto)' -x
complete -c modelkeep -n '__modelkeep_at "library remove"' -a '(__modelkeep_live roots)'
complete -c modelkeep -n '__modelkeep_at "library scan"' -a '(__modelkeep_live roots)'
complete -c modelkeep -n '__modelkeep_at "events"' -l since -d 'begin after this cursor (now)' -x
complete -c modelkeep -n '__modelkeep_at "events"' -l topic -d 'only this topic; may be repeated' -x -a 'model library transfer sync metrics node'
complete -c modelkeep -n '__modelkeep_at "events"' -l limit -d 'end after so many' -x
complete -c modelkeep -n '__modelkeep_at "events"' -l no-follow -d 'end when there are no more'
complete -c modelkeep -n '__modelkeep_at "help"' -a 'search show history sync catalog api-changes types get queue library status events stop help completion version query refs exit-codes environment'
complete -c modelkeep -n '__modelkeep_at "completion"' -a 'bash zsh fish'
