# shellcheck shell=bash
# Bash completion for all programs of ckpt-filters. Options and their values come from the program's --help.

# Prints "OPTION ARGUMENT" (ARGUMENT may be empty), one a line, of the program $1.
_ckpt_filters_options() {
    "$1" --help 2>/dev/null | awk '
        /^Examples:/ { exit }
        /^ +-/ {
            sub(/^ +/, "")
            sub(/  .*/, "")
            n = split($0, words, /[ ,]+/)
            for (i = 1; i <= n; i++)
                if (words[i] ~ /^-/)
                    print words[i], words[i + 1] ~ /^-/ ? "" : words[i + 1]
        }'
}

_ckpt_filters() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before='' options argument=''
    ((COMP_CWORD < 2)) || before=${COMP_WORDS[COMP_CWORD - 1]}
    # Readline takes --option=value for three words.
    [[ $word != '=' ]] || { before='=' && word=''; }
    if [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD - 1]}
        [[ $before != '=' ]] || before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    program=${program/#\~/$HOME}
    options=$(_ckpt_filters_options "$program")
    COMPREPLY=()
    if [[ $before == -* ]]; then
        argument=$(awk -v option="$before" '$1 == option { print $2 }' <<<"$options")
    fi
    case $argument in
    '') ;;
    BOOL)
        mapfile -t COMPREPLY < <(compgen -W 'True False' -- "$word")
        return
        ;;
    *[!a-z0-9\|]*) ;; # FILE, N, …
    *)
        mapfile -t COMPREPLY < <(compgen -W "${argument//|/ }" -- "$word")
        return
        ;;
    esac
    if [[ -z $argument && $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(awk '/^--/ { print $1 }' <<<"$options")" -- "$word")
    elif [[ $argument != N ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -F _ckpt_filters checkpoint_converter.sh ckpt-config ckpt-diff ckpt-fuse-qkv ckpt-ls ckpt-merge \
    ckpt-pack-pt ckpt-pack-safetensors ckpt-pack-xser ckpt-rename ckpt-shard ckpt-split-qkv ckpt-sum ckpt-unpack hf-fetch
