# What the tests of hf-fetch share: models to serve, and the stand-in Hub (standin.py).

HUB_TESTS=$BATS_TEST_DIRNAME/hub
REPOSITORY=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$REPOSITORY/$BUILD ;; esac
PYTHON=$(command -v /usr/bin/python3 || command -v python3)
TOKEN=hf_rightTokenForTheStandin

# random FILE SIZE
random() {
    mkdir -p "$(dirname "$1")"
    head -c "$2" /dev/urandom >"$1"
}

# Makes the models that the stand-in serves. acme/tiny has everything a repository may have; the weights of
# acme/two take three ranges.
make_models() {
    local tiny=$1/acme/tiny two=$1/acme/two
    random "$tiny/model-00001-of-00002.safetensors" 300000
    random "$tiny/model-00002-of-00002.safetensors" 200000
    echo '{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}' \
        >"$tiny/model.safetensors.index.json"
    random "$tiny/pytorch_model.bin" 1000
    random "$tiny/consolidated.safetensors" 1000
    random "$tiny/original/consolidated.00.pth" 1000
    random "$tiny/tokenizer.model" 500
    echo '{"model_type":"llama"}' >"$tiny/config.json"
    echo '{"eos_token_id":2}' >"$tiny/generation_config.json"
    echo '{}' >"$tiny/tokenizer_config.json"
    echo '# tiny' >"$tiny/README.md"
    random "$two/model.safetensors" 20000000
    echo '{}' >"$two/config.json"
    random "$1/acme/old/pytorch_model.bin" 5000
    random "$1/acme/old/training_args.bin" 50
    echo '{}' >"$1/acme/old/config.json"
    mkdir "$1/acme/old/notes"
    : >"$1/acme/old/notes/empty.txt"
    mkdir -p "$1/acme/empty" && echo "# nothing" >"$1/acme/empty/README.md"
}

# start_hub [standin.py's options]: a stand-in that ends with the test
start_hub() {
    rm -f "$BATS_TEST_TMPDIR/port"
    LOG=$BATS_TEST_TMPDIR/log
    "$PYTHON" "$HUB_TESTS/standin.py" --root "${MODELS:-$BATS_FILE_TMPDIR/models}" --parent $$ --lifetime 60 \
        --port-file "$BATS_TEST_TMPDIR/port" --log "$LOG" "$@" 3>&- &
    HUB=$!
    for _ in {1..200}; do
        [ -s "$BATS_TEST_TMPDIR/port" ] && break
        sleep 0.02
    done
    PORT=$(cat "$BATS_TEST_TMPDIR/port")
    export HF_ENDPOINT=http://127.0.0.1:$PORT
}

stop_hub() {
    [ -z "${HUB:-}" ] || kill "$HUB" 2>/dev/null || true
    HUB=
}

# Nothing of the caller's own Hub settings may reach a test.
clean_environment() {
    unset HF_HUB_CACHE HF_TOKEN HF_TOKEN_PATH HF_HUB_OFFLINE HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_ETAG_TIMEOUT \
        HF_HUB_DOWNLOAD_TIMEOUT XDG_CACHE_HOME CURL_CA_BUNDLE SSL_CERT_FILE http_proxy https_proxy all_proxy \
        HTTP_PROXY HTTPS_PROXY ALL_PROXY
    export HF_HOME=$BATS_TEST_TMPDIR/home no_proxy='*'
    CACHE=$HF_HOME/hub
}

hf_fetch() {
    "$BUILD/hf-fetch" "$@"
}

# Runs hf-fetch; its standard output goes to $output, its standard error to $errors.
fetch() {
    run bash -c '"$0" "$@" 2>"$BATS_TEST_TMPDIR/errors"' "$BUILD/hf-fetch" "$@"
    errors=$(cat "$BATS_TEST_TMPDIR/errors")
    echo "standard output: $output"
    echo "standard error: $errors"
}

# Assertions
succeeds() { [ "$status" -eq 0 ]; }
fails_with() { # STATUS TEXT: one line that has the text
    [ "$status" -eq "$1" ] && [[ $errors == *"$2"* ]] && [ "$(grep -c . <<<"$errors")" -eq 1 ] && [ -z "$output" ]
}
requests() { grep -c -- "$1" "$LOG"; } # how many requests match
no_violation() { ! grep violation "$LOG"; }
received() { # MODEL: all that is in the snapshot is as the server has it
    local file
    for file in $(cd "$output" && find . -name .cache -prune -o \( -type l -o -type f \) -print); do
        cmp "$output/$file" "${MODELS:-$BATS_FILE_TMPDIR/models}/$1/$file" || return 1
    done
    [ -e "$output/config.json" ]
}
nothing_partial() { [ -z "$(find "$HF_HOME" -name '*.incomplete' -o -name '*.tmp')" ]; }
blob_of() { sha256sum "${MODELS:-$BATS_FILE_TMPDIR/models}/$1" | cut -d' ' -f1; }
wait_until() { # waits for a command to succeed
    for _ in {1..200}; do
        "$@" && return
        sleep 0.05
    done
    return 1
}
