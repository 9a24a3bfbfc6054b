# That the documentation says what the programs do.

load helpers

root=$TESTS/..

programs() {
    (cd "$root" && basename -s .c -a filters/*.c && echo checkpoint_converter.sh)
}

# The options that --help lists, one a line, in alphabetical order.
help_options() {
    "$1" --help | sed -n '/^Examples:/q; s/^ \+\(-.*\)/\1/p' | sed 's/   *.*//' | grep -oE -- '(^|[ ,])--?[A-Za-z][a-z_-]*' |
        tr -d ' ,' | sort
}

# The options that the manual page describes.
page_options() {
    sed -n 's/^\.It \(Fl .*\)/\1/p' "$root/man/$1.1" | grep -oE 'Fl -?[a-z][a-z_-]*|Fl [A-Z]' | sed 's/Fl /-/' | sort
}

sections() {
    sed -n 's/^\.Sh //p' "$1"
}

@test "every program has a manual page and says who and which version it is" {
    for program in $(programs); do
        [ -e "$root/man/$program.1" ] || { echo "$program has no page" && return 1; }
        "$program" --help | grep -q "^Usage: $program " || { echo "$program --help" && return 1; }
        "$program" --version | grep -qE "^$program \(ckpt-filters\) [0-9.]+\$" || { echo "$program --version" && return 1; }
    done
}

@test "every option that --help prints is in the manual page, and the other way round" {
    for program in $(programs); do
        diff <(help_options "$program") <(page_options "$program") || { echo "of $program" && return 1; }
    done
}

@test "manual pages have the same sections in the same order, and mandoc finds nothing wrong" {
    local order='NAME SYNOPSIS DESCRIPTION OPTIONS ENVIRONMENT FILES EXIT STATUS EXAMPLES SEE ALSO'
    mandoc -T lint -W warning "$root"/man/*.[15]
    for page in "$root"/man/*.1; do
        local rest=$order section
        while read -r section; do
            [[ $rest == *"$section"* ]] || { echo "$page: $section" && return 1; }
            rest=${rest#*"$section"}
        done < <(sections "$page")
        for section in NAME SYNOPSIS DESCRIPTION OPTIONS 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
            sections "$page" | grep -qx "$section" || { echo "$page has no $section" && return 1; }
        done
    done
}

@test "manual pages refer to pages that exist" {
    for reference in $(sed -n 's/^\.Xr \([^ ]*\) \([15]\).*/\1.\2/p' "$root"/man/*.[15] | sort -u); do
        case $reference in
        ckpt-* | hf-* | checkpoint_*) [ -e "$root/man/$reference" ] || { echo "$reference" && return 1; } ;;
        esac
    done
}

@test "README names every program" {
    for program in $(programs); do
        grep -qF "\`$program\`" "$root/README.md" || { echo "$program" && return 1; }
    done
}

@test "README's table of the old script's options has every option of the converter" {
    for option in $(help_options checkpoint_converter.sh | grep -- '--'); do
        grep -qF -- "\`$option\`" "$root/README.md" || { echo "$option" && return 1; }
    done
}

@test "ckpt-stream(5) names everything that is written into a stream" {
    local page=$root/man/ckpt-stream.5
    sed 's/\\(dq/"/g' "$page" >page
    grep -oE '\\"[a-z_]+\\":|add_(count|flag|dims)\([^,]*, "[a-z_]+"' "$root/common/stream_write.c" |
        sed 's/.*"\([a-z_]*\)\\*".*/\1/; s/\\//g; s/[":]//g' | sort -u >members
    [ "$(wc -l <members)" -gt 20 ]
    while read -r member; do
        grep -qwF -- "$member" page || { echo "$member" && return 1; }
    done <members
}

# The example of ckpt-stream(5), as a reader of the page would copy it.
make_ckpt_prefix() {
    mandoc -T ascii "$root/man/ckpt-stream.5" | sed 's/.\x08//g' |
        sed -n '/^ *\/\* ckpt-prefix/,/^SEE ALSO/p' | sed '$d' >ckpt-prefix.c
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -o ckpt-prefix ckpt-prefix.c
    PATH=$PWD:$PATH
}

@test "the example filter of ckpt-stream(5) compiles and works by reference, inline and on sharded streams" {
    local model=$TESTS/golden/models/llama-gqa
    make_ckpt_prefix
    sed 's/^/a.b./' "$model/tensors.tsv" >expected
    for form in --by-reference --inline; do
        ckpt-unpack $form "$model" | ckpt-prefix a.b. | ckpt-sum --tsv >actual
        same expected actual
        ckpt-unpack "$model" | ckpt-shard -t 2 $form >sharded
        ckpt-sum --tsv <sharded | sed 's/\t/\ta.b./' >expected-sharded
        ckpt-prefix a.b. <sharded | ckpt-sum --tsv >actual-sharded
        same expected-sharded actual-sharded
    done
    ckpt-unpack "$model" | ckpt-prefix '' | ckpt-pack-pt out.pt
    ckpt-unpack out.pt | ckpt-sum --tsv >actual
    same "$model/tensors.tsv" actual
}

@test "the example filter notices a cut stream, what is behind the end, and other input, and passes failures on" {
    local model=$TESTS/golden/models/llama-gqa length
    make_ckpt_prefix
    ckpt-unpack "$model" >whole --by-reference
    length=$(stat -c %s whole)
    for cut in 5 11 12 20 100 $((length / 2)) $((length - 1)); do
        run ckpt-prefix x. < <(head -c "$cut" whole)
        [ "$status" -eq 1 ]
    done
    run ckpt-prefix x. < <(cat whole && echo)
    [ "$status" -eq 1 ]
    run ckpt-prefix x. <"$model/pytorch_model.bin"
    [ "$status" -eq 1 ]
    run bash -c 'ckpt-unpack nowhere | ckpt-prefix x. | ckpt-ls'
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
}

complete_words() { # word...: what completion offers for the last word
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _ckpt_filters
    printf '%s\n' "${COMPREPLY[@]}"
}

@test "bash completion knows the options of every program, the values of choices, and files" {
    source "$root/completion/ckpt-filters.bash"
    for program in $(programs); do
        complete -p "$program" | grep -q _ckpt_filters || { echo "$program" && return 1; }
        diff <(complete_words "$program" -- | sort) <(help_options "$program" | grep -- --) || { echo "of $program" && return 1; }
    done
    [ "$(complete_words ckpt-shard --hw-backend '' | xargs)" = 'trn1 trn2' ]
    [ "$(complete_words ckpt-shard --hw-backend = tr | xargs)" = 'trn1 trn2' ]
    [ "$(complete_words checkpoint_converter.sh --save_xser '' | xargs)" = 'True False' ]
    [ "$(complete_words checkpoint_converter.sh --pp_ | xargs)" = --pp_size ]
    mkdir 'a model'
    [ "$(complete_words ckpt-unpack a)" = 'a model' ]
    [ -z "$(complete_words ckpt-shard --tp-size '')" ]
}

@test "shellcheck finds nothing in the scripts" {
    make -s -C "$root" shellcheck
}

@test "make install puts programs, pages and completion there, and make uninstall removes them" {
    # The programs are built already; their objects must not be made again with other flags.
    cp -r "$(dirname "$(command -v ckpt-ls)")" built
    make -s -C "$root" -o all BUILD="$PWD/built" DESTDIR="$PWD/root" PREFIX=/usr install
    for program in $(programs); do
        [ -x "root/usr/bin/$program" ]
        [ -e "root/usr/share/man/man1/$program.1" ]
        [ -e "root/usr/share/bash-completion/completions/$program" ]
    done
    [ -e root/usr/share/man/man5/ckpt-stream.5 ]
    root/usr/bin/ckpt-unpack "$TESTS/golden/models/llama-mha" | root/usr/bin/ckpt-ls | grep -q embed_tokens
    root/usr/bin/checkpoint_converter.sh --version
    make -s -C "$root" DESTDIR="$PWD/root" PREFIX=/usr uninstall
    [ -z "$(find root ! -type d)" ]
}

# The ```sh blocks of README, except those whose paragraph before says "(shown only)".
readme_commands() {
    awk '/^```sh$/ { on = text !~ /shown only/; next } /^```/ { on = 0; text = "" } on { print } { text = $0 == "" ? text : $0 }' \
        "$root/README.md"
}

@test "the pipelines of README work as they stand, one after another" {
    cp -r "$root/tests/golden" golden
    chmod -R u+w golden
    mkdir tests build && mv golden tests/
    cp "$(dirname "$(command -v ckpt-ls)")"/{ckpt-*,checkpoint_converter.sh} build/
    readme_commands >commands
    [ "$(wc -l <commands)" -gt 20 ]
    # Nothing but the build directory and the system's programs is in PATH, as for a reader of README.
    PATH=/usr/local/bin:/usr/bin:/bin bash -e -o pipefail commands
    sed -n '/^```make$/,/^```$/{/^```/!p}' "$root/README.md" >Makefile
    PATH=$PWD/build:/usr/bin:/bin make -j2
    [ -e out/made/llama-gqa16/done ]
    PATH=$PWD/build:/usr/bin:/bin make | grep -q 'Nothing to be done'
}

@test "make demo shows that a checkpoint comes back as it was" {
    BUILD=$(dirname "$(command -v ckpt-ls)") TMPDIR=$PWD "$root/scripts/demo.sh" >demo
    grep -q '^Yes: all 39 tensors' demo
    [ -z "$(find . -name 'ckpt-demo*')" ]
}
