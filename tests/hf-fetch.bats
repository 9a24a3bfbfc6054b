#!/usr/bin/env bats
# hf-fetch against a stand-in Hub on loopback (tests/hub/standin.py).

load hub/prelude

setup_file() {
    make_models "$BATS_FILE_TMPDIR/models"
}

setup() {
    clean_environment
}

teardown() {
    stop_hub
}

# ---- what is fetched

@test "prints the snapshot directory on standard output and nothing else" {
    start_hub
    fetch acme/tiny
    succeeds
    [ -z "$errors" ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == "$CACHE"/models--acme--tiny/snapshots/????????????????????????????????????????* ]]
    received acme/tiny
}

@test "fetches configuration, tokenizer and safetensors weights by default, not other formats of the same weights" {
    start_hub
    fetch acme/tiny
    succeeds
    run ls "$output"
    [ "$output" = "config.json
generation_config.json
model-00001-of-00002.safetensors
model-00002-of-00002.safetensors
model.safetensors.index.json
tokenizer.model
tokenizer_config.json" ]
}

@test "fetches .bin weights when there are no safetensors, without training state" {
    start_hub
    fetch acme/old
    succeeds
    [ -e "$output/pytorch_model.bin" ]
    [ ! -e "$output/training_args.bin" ]
}

@test "a repository without weights is an error that names --include" {
    start_hub
    fetch acme/empty
    fails_with 1 "acme/empty: none of its 1 files is .safetensors or .bin"
    [[ $errors == *--include* ]]
}

@test "--include replaces the default choice and --exclude takes away from it" {
    start_hub
    fetch --include 'original/*' --include '*.json' --exclude '*index*' acme/tiny
    succeeds
    [ -e "$output/original/consolidated.00.pth" ]
    [ -e "$output/config.json" ]
    [ ! -e "$output/model.safetensors.index.json" ]
    [ ! -e "$output/tokenizer.model" ]
}

@test "--all fetches every file, also in directories and without content" {
    start_hub
    fetch --all acme/tiny
    succeeds
    diff -r "$output" "$BATS_FILE_TMPDIR/models/acme/tiny"
    fetch --all acme/old
    succeeds
    diff -r "$output" "$BATS_FILE_TMPDIR/models/acme/old"
}

@test "a list of several pages is followed to its end" {
    start_hub --page 2
    fetch --all acme/tiny
    succeeds
    diff -r "$output" "$BATS_FILE_TMPDIR/models/acme/tiny"
    [ "$(requests cursor=)" -ge 5 ]
}

@test "--dry-run lists sizes, states and names and writes nothing" {
    start_hub
    fetch --dry-run acme/two
    succeeds
    [ "$output" = "$(printf '3\tmissing\tconfig.json\n20000000\tmissing\tmodel.safetensors')" ]
    [ ! -e "$HF_HOME" ]
}

@test "file names that lead out of the directory are refused" {
    oid=$(printf 'blob 4\0evil' | sha1sum | cut -d' ' -f1)
    for name in ../../evil /etc/evil a/../../evil 'a\u0007b' ''; do
        start_hub --entry "{\"type\":\"file\",\"path\":\"$name\",\"size\":4,\"oid\":\"$oid\"}"
        fetch --all acme/tiny
        fails_with 1 "not safe as a path"
        stop_hub
    done
    [ -z "$(find "$BATS_TEST_TMPDIR" -name '*evil*')" ]
}

@test "digests and commits from the server that are no digests are refused" {
    start_hub --entry '{"type":"file","path":"x.txt","size":4,"oid":"../../../evil"}'
    fetch --all acme/tiny
    fails_with 1 "as the digest of x.txt"
}

# ---- where it is put

@test "the cache is that of huggingface_hub: refs, blobs named by ETag, relative links" {
    start_hub
    fetch --all acme/tiny
    succeeds
    snapshot=$output repo=$CACHE/models--acme--tiny
    [ "$(cat "$repo/refs/main")" = "$(basename "$snapshot")" ]
    [ "$(wc -c <"$repo/refs/main")" -eq 40 ]
    sha=$(blob_of acme/tiny/pytorch_model.bin)
    [ "$(readlink "$snapshot/pytorch_model.bin")" = "../../blobs/$sha" ]
    sha=$(cd "$BATS_FILE_TMPDIR" && git hash-object models/acme/tiny/config.json)
    [ "$(readlink "$snapshot/config.json")" = "../../blobs/$sha" ]
    [[ $(readlink "$snapshot/original/consolidated.00.pth") == ../../../blobs/* ]]
    [ -e "$CACHE/.locks/models--acme--tiny/$sha.lock" ]
    nothing_partial
}

@test "what is there already is not downloaded again" {
    start_hub
    fetch acme/tiny
    succeeds
    first=$output before=$(requests resolve)
    fetch acme/tiny
    succeeds
    [ "$output" = "$first" ]
    [ "$(requests resolve)" -eq "$before" ]
}

@test "a blob that another revision has brought is only linked" {
    start_hub
    fetch acme/two
    succeeds
    rm -rf "$CACHE/models--acme--two/snapshots"
    before=$(requests resolve)
    fetch acme/two
    succeeds
    received acme/two
    [ "$(requests resolve)" -eq "$before" ]
}

@test "a blob of the wrong size is downloaded again" {
    start_hub
    fetch acme/two
    succeeds
    truncate -s 1000 "$CACHE/models--acme--two/blobs/$(blob_of acme/two/model.safetensors)"
    fetch acme/two
    succeeds
    [[ $errors == *"does not have the 20000000 bytes"* ]]
    received acme/two
}

@test "--revision takes tags, references with slashes, and commits" {
    start_hub
    fetch --revision v1 acme/tiny
    succeeds
    commit=$(basename "$output")
    fetch --revision refs/pr/1 acme/tiny
    succeeds
    fetch --revision "$commit" acme/tiny
    succeeds
    [ "$(cd "$CACHE/models--acme--tiny/refs" && find . -type f | sort | xargs)" = "./refs/pr/1 ./v1" ]
}

@test "--cache-dir and HF_HUB_CACHE move the cache; the first is stronger" {
    start_hub
    HF_HUB_CACHE=$BATS_TEST_TMPDIR/two fetch acme/old
    [[ $output == "$BATS_TEST_TMPDIR/two/models--acme--old/"* ]]
    HF_HUB_CACHE=$BATS_TEST_TMPDIR/two fetch --cache-dir "$BATS_TEST_TMPDIR/three" acme/old
    [[ $output == "$BATS_TEST_TMPDIR/three/models--acme--old/"* ]]
    [ ! -e "$HF_HOME" ]
}

@test "--local-dir puts plain files there and fetches them only once" {
    start_hub
    cd "$BATS_TEST_TMPDIR"
    fetch --all --local-dir plain acme/tiny
    succeeds
    [ "$output" = plain ]
    diff -r -x .cache plain "$BATS_FILE_TMPDIR/models/acme/tiny"
    [ -z "$(find plain -type l)" ]
    [ ! -e "$HF_HOME" ]
    [ "$(sed -n 2p plain/.cache/huggingface/download/pytorch_model.bin.metadata)" = "$(blob_of acme/tiny/pytorch_model.bin)" ]
    before=$(requests resolve)
    fetch --all --local-dir plain acme/tiny
    succeeds
    [ "$(requests resolve)" -eq "$before" ]
}

@test "--local-dir recognises files that came there in another way, and replaces those that differ" {
    start_hub
    cp -r "$BATS_FILE_TMPDIR/models/acme/tiny" "$BATS_TEST_TMPDIR/plain"
    random "$BATS_TEST_TMPDIR/plain/model-00002-of-00002.safetensors" 200000
    fetch --local-dir "$BATS_TEST_TMPDIR/plain" acme/tiny
    succeeds
    received acme/tiny
    [ "$(requests '/resolve/')" -eq 1 ]
}

@test "two files with the same content are stored once and both are there" {
    export MODELS=$BATS_TEST_TMPDIR/models
    make_models "$MODELS"
    cp "$MODELS/acme/tiny/model-00001-of-00002.safetensors" "$MODELS/acme/tiny/model-00002-of-00002.safetensors"
    start_hub
    fetch acme/tiny
    succeeds
    received acme/tiny
    [ "$(requests 'cdn.*00-of\|cdn.*safetensors')" -eq 1 ]
    fetch --local-dir "$BATS_TEST_TMPDIR/plain" acme/tiny
    succeeds
    received acme/tiny
}

# ---- without the network

@test "HF_HUB_OFFLINE=1 finds what is in the cache and asks nobody" {
    start_hub
    fetch acme/tiny
    succeeds
    first=$output
    stop_hub
    HF_HUB_OFFLINE=1 fetch acme/tiny
    succeeds
    [ "$output" = "$first" ]
}

@test "HF_HUB_OFFLINE=1 says what the cache does not have" {
    export HF_HUB_OFFLINE=1
    fetch acme/tiny
    fails_with 1 "acme/tiny: revision main is not in the cache $CACHE"
    unset HF_HUB_OFFLINE
    start_hub
    fetch acme/tiny
    rm "$output/model-00002-of-00002.safetensors"
    HF_HUB_OFFLINE=yes fetch acme/tiny
    fails_with 1 "model-00002-of-00002.safetensors is not there"
}

@test "no server at all is one line that names it" {
    fetch --endpoint http://127.0.0.1:9 acme/tiny
    fails_with 1 "hf-fetch: acme/tiny: cannot ask the Hub: http://127.0.0.1:9:"
}

# ---- tokens

@test "the token comes from --token, HF_TOKEN, HF_TOKEN_PATH or HF_HOME/token, in this order" {
    start_hub --private acme/tiny
    fetch acme/tiny
    fails_with 1 "no such model, or it is private"
    fetch --token "$TOKEN" acme/tiny
    succeeds
    HF_TOKEN=" $TOKEN" fetch acme/tiny
    succeeds
    echo "$TOKEN" >"$BATS_TEST_TMPDIR/elsewhere"
    HF_TOKEN_PATH=$BATS_TEST_TMPDIR/elsewhere fetch acme/tiny
    succeeds
    echo "$TOKEN" >"$HF_HOME/token"
    fetch acme/tiny
    succeeds
    HF_TOKEN=hf_wrong fetch acme/tiny
    fails_with 1 "no such model, or it is private"
    HF_TOKEN=hf_wrong fetch --token "$TOKEN" acme/tiny
    succeeds
}

@test "the token goes to the endpoint and never to another host" {
    start_hub
    HF_TOKEN=$TOKEN fetch acme/two
    succeeds
    [ "$(requests '"host": "127.0.0.1.*"auth": true')" -ge 3 ]
    [ "$(requests '"host": "localhost.*"auth": false')" -ge 3 ]
    no_violation
}

@test "another port of the same host is another host for the token" {
    start_hub --cdn-port
    HF_TOKEN=$TOKEN fetch acme/two
    succeeds
    [ "$(requests cdn)" -ge 3 ]
    no_violation
}

@test "the token is in no message and in no file, even if the server repeats it" {
    start_hub --gated acme/tiny --gated-message "You sent $TOKEN"
    HF_TOKEN=${TOKEN}x fetch acme/tiny
    fails_with 1 GatedRepo
    stop_hub
    start_hub --gated acme/tiny --gated-message "You sent hf_wrongOne"
    HF_TOKEN=hf_wrongOne fetch acme/tiny
    fails_with 1 "You sent ***********"
    HF_TOKEN=$TOKEN fetch acme/tiny
    succeeds
    ! grep -r "$TOKEN" "$HF_HOME"
}

@test "the token on the command line is gone from ps while files are being received" {
    start_hub --fault slow:model.safetensors:400000:0
    "$BUILD/hf-fetch" -q --token "$TOKEN" acme/two >/dev/null 3>&- &
    pid=$!
    wait_until grep -q config.json "$LOG"
    run tr '\0' ' ' <"/proc/$pid/cmdline"
    kill "$pid"
    [[ $output == *acme/two* ]]
    [[ $output != *"$TOKEN"* ]]
}

@test "a token that cannot be one is refused without being shown" {
    HF_TOKEN=$'hf_a\nX-Evil: b' fetch --endpoint http://127.0.0.1:9 acme/tiny
    fails_with 1 "the token from HF_TOKEN has characters"
    [[ $errors != *Evil* ]]
}

@test "a public model never asks for a token, also on a terminal" {
    start_hub
    run "$PYTHON" "$HUB_TESTS/terminal.py" "Token for" "" "$BUILD/hf-fetch" acme/old
    succeeds
    [[ $output != *"Token for"* ]]
}

@test "on a terminal a token is asked for when the server wants one, and not shown" {
    start_hub --gated acme/tiny
    run "$PYTHON" "$HUB_TESTS/terminal.py" "Token for" "$TOKEN" "$BUILD/hf-fetch" acme/tiny
    echo "$output"
    succeeds
    [[ $output == *"access to this model is restricted"* ]]
    [[ $output == *"Token for $HF_ENDPOINT (not shown; Enter for none): "* ]]
    [[ $output == *snapshots* ]]
    [[ $output != *"$TOKEN"* ]]
}

# ---- refusals

@test "a gated model is explained with the page to ask at" {
    start_hub --gated acme/tiny
    fetch acme/tiny
    fails_with 1 "access to this model is restricted (401 GatedRepo: Access to model acme/tiny is restricted"
    [[ $errors == *"ask for access at $HF_ENDPOINT/acme/tiny"* ]]
    HF_TOKEN=hf_other fetch acme/tiny
    fails_with 1 "(403 GatedRepo"
}

@test "an unknown model, revision or file is explained" {
    start_hub
    HF_TOKEN=$TOKEN fetch acme/nothing
    fails_with 1 "there is no such model, or it is private (404 RepoNotFound"
    fetch --revision v9 acme/tiny
    fails_with 1 "revision v9: there is no such revision (404 RevisionNotFound: Invalid rev id: v9)"
    stop_hub
    start_hub --entry '{"type":"file","path":"gone.txt","size":4,"oid":"0123456789012345678901234567890123456789"}'
    fetch --all acme/tiny
    fails_with 1 "gone.txt: there is no such file in this revision (404 EntryNotFound"
}

@test "wrong command lines end with status 2 and a hint" {
    for arguments in "" "a b" "a/b/c" "../x" "-x/y" "a/b --jobs 0" "a/b --jobs 65" "a/b --revision ../x" \
        "a/b --all --include x" "a/b --endpoint ftp://x" "a/b --nonsense"; do
        run "$BUILD/hf-fetch" $arguments
        [ "$status" -eq 2 ]
        [[ $output == "hf-fetch: "*"--help)" ]]
    done
    HF_HUB_ETAG_TIMEOUT=soon run "$BUILD/hf-fetch" a/b
    [ "$status" -eq 2 ]
}

@test "a certificate that nobody vouches for is refused, and CURL_CA_BUNDLE can vouch" {
    cd "$BATS_TEST_TMPDIR"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null
    start_hub --tls cert.pem key.pem
    export HF_ENDPOINT=https://127.0.0.1:$PORT HF_TOKEN=$TOKEN
    fetch acme/tiny
    fails_with 1 certificate
    [ ! -s "$LOG" ]
    CURL_CA_BUNDLE=cert.pem fetch acme/tiny
    succeeds
    received acme/tiny
    no_violation
}

# ---- trouble on the way

@test "a large file comes in several ranges at once" {
    start_hub
    fetch acme/two
    succeeds
    received acme/two
    [ "$(requests 'cdn.*"range": "bytes=.*"status": 206')" -eq 3 ]
}

@test "a dropped connection goes on with Range where it stopped" {
    start_hub --fault drop:model.safetensors:1000000:2 --fault drop:model-00001*:100000:1
    fetch -j 1 acme/two
    succeeds
    received acme/two
    [ "$(requests 'bytes=1000000-8388607')" -ge 1 ]
    fetch acme/tiny
    succeeds
    received acme/tiny
    [ "$(requests 'model-00001.*bytes=100000-299999')" -ge 1 ]
}

@test "a server that ignores Range is used with one connection and without" {
    start_hub --fault norange:model.safetensors::0
    fetch acme/two
    succeeds
    received acme/two
    nothing_partial
}

@test "a server that ignores Range when a partial file is resumed does not spoil it" {
    start_hub --fault drop:model-00001*:100000:1 --fault norange:model-00001*::0
    fetch acme/tiny
    succeeds
    received acme/tiny
}

@test "busy servers are tried again" {
    start_hub --fault 503:api --fault 500:api --fault 429:model.safetensors:0:2 --fault 502:config.json
    fetch acme/two
    succeeds
    received acme/two
}

@test "Retry-After is respected" {
    start_hub --fault 429:api:2
    begin=$(date +%s%N)
    fetch acme/old
    succeeds
    [ $((($(date +%s%N) - begin) / 1000000)) -ge 2000 ]
}

@test "a server that stays busy is given up with one line, and --retries says when" {
    start_hub --fault 503:pytorch_model.bin::0
    fetch --retries 1 acme/old
    fails_with 1 "pytorch_model.bin: given up after 2 tries"
    [ "$(requests 'cdn.*"status": 503')" -eq 2 ]
    stop_hub
    start_hub --fault 503:api::0
    fetch --retries 0 acme/old
    fails_with 1 "status 503"
}

@test "an answer that stops coming is dropped after HF_HUB_DOWNLOAD_TIMEOUT" {
    start_hub --fault stall:model.safetensors:500000:1
    HF_HUB_DOWNLOAD_TIMEOUT=1 fetch -j 1 acme/two
    succeeds
    received acme/two
    [ "$(requests 'bytes=500000-')" -ge 1 ]
}

@test "a signed address that has expired is asked for again" {
    start_hub --fault drop:model.safetensors:1000000:1 --fault 403:model.safetensors::1
    fetch -j 1 acme/two
    succeeds
    received acme/two
}

@test "wrong content is thrown away and fetched once more" {
    start_hub --fault corrupt:model.safetensors:9000000:2
    fetch -j 1 acme/two
    succeeds
    received acme/two
    [[ $errors == *"thrown away, fetching it once more"* ]]
    stop_hub
    start_hub --fault corrupt:tokenizer_config.json:1:1
    fetch acme/tiny
    succeeds
    received acme/tiny
}

@test "content that is wrong twice is an error and never gets its name" {
    start_hub --fault corrupt:model.safetensors:100:0 --fault corrupt:model.safetensors:100:0
    fetch -q acme/two
    fails_with 1 "model.safetensors: its content has the SHA-256"
    [[ $errors == *"twice; thrown away"* ]]
    [ -z "$(find "$HF_HOME" -name "$(blob_of acme/two/model.safetensors)*" ! -name '*.lock')" ]
    [ ! -e "$CACHE/models--acme--two/refs" ]
}

@test "a wrong size is fetched once more, then an error with both sizes" {
    start_hub --fault short:pytorch_model.bin:100:1
    fetch acme/old
    succeeds
    received acme/old
    [[ $errors == *"sends 4900 bytes instead of 5000"* ]]
    rm -rf "$HF_HOME"
    stop_hub
    start_hub --fault long:model.safetensors:7:0
    fetch -q acme/two
    fails_with 1 "the server sends 20000007 bytes instead of 20000000, twice"
}

@test "416 is thrown away and fetched once more, then an error" {
    start_hub --fault 416:model.safetensors::1
    fetch -j 1 acme/two
    succeeds
    received acme/two
    rm -rf "$HF_HOME"
    stop_hub
    start_hub --fault 416:model.safetensors::0
    fetch -q acme/two
    fails_with 1 "no such range (416), twice"
}

# ---- interruption and company

# Starts a slow download in the background, as from a shell, and waits until it has received something.
start_slow() {
    start_hub --fault slow:model.safetensors:3000000:3
    env --default-signal=INT "$BUILD/hf-fetch" acme/two >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/errors" 3>&- &
    pid=$!
    wait_until grep -q 'config.json' "$LOG"
    sleep 0.8
}

# Whether the next run asks for the rest of the ranges only.
resumes() {
    local before
    before=$(wc -l <"$LOG")
    fetch acme/two
    succeeds
    received acme/two
    nothing_partial
    tail -n +$((before + 1)) "$LOG" >"$BATS_TEST_TMPDIR/rest"
    grep 'cdn.*"bytes=[1-9]' "$BATS_TEST_TMPDIR/rest" | grep -v 'bytes=8388608-\|bytes=16777216-'
}

@test "SIGINT leaves a state that the next run goes on with" {
    start_slow
    kill -INT "$pid"
    wait "$pid" && status=0 || status=$?
    [ "$status" -eq 130 ]
    grep -q '^hf-fetch: acme/two: interrupted; the same command goes on' "$BATS_TEST_TMPDIR/errors"
    [ -n "$(find "$HF_HOME" -name '*.incomplete')" ]
    resumes
}

@test "kill -9 leaves a state that the next run goes on with" {
    start_slow
    kill -9 "$pid"
    wait "$pid" || true
    resumes
}

@test "a damaged partial file does no harm" {
    start_slow
    kill -9 "$pid"
    wait "$pid" || true
    partial=$(find "$HF_HOME" -name '*.incomplete')
    random "$BATS_TEST_TMPDIR/noise" 3000000
    dd if="$BATS_TEST_TMPDIR/noise" of="$partial" conv=notrunc status=none
    fetch acme/two
    succeeds
    received acme/two
    rm -rf "$CACHE"/models--acme--two/{blobs,snapshots}
    mkdir -p "$CACHE/models--acme--two/blobs"
    cp "$BATS_TEST_TMPDIR/noise" "$partial"
    fetch acme/two
    succeeds
    received acme/two
}

@test "what huggingface_hub has left incomplete is taken over, up to its first hole" {
    start_hub
    blobs=$CACHE/models--acme--two/blobs sha=$(blob_of acme/two/model.safetensors)
    mkdir -p "$blobs"
    head -c 10000000 "$BATS_FILE_TMPDIR/models/acme/two/model.safetensors" >"$blobs/$sha.incomplete"
    fetch acme/two
    succeeds
    received acme/two
    [ "$(requests 'bytes=10000000-16777215')" -ge 1 ]
    [ "$(requests 'bytes=0-')" -eq 0 ]
    [ -z "$errors" ]
    nothing_partial
    rm -rf "$CACHE"
    mkdir -p "$blobs"
    head -c 4194304 "$BATS_FILE_TMPDIR/models/acme/two/model.safetensors" >"$blobs/$sha.incomplete"
    truncate -s 15000000 "$blobs/$sha.incomplete"
    fetch acme/two
    succeeds
    received acme/two
    [ -z "$errors" ]
}

@test "two hf-fetch on the same model share the work and do not disturb each other" {
    start_slow
    fetch acme/two
    succeeds
    received acme/two
    wait "$pid"
    [ "$(cat "$BATS_TEST_TMPDIR/out")" = "$output" ]
    [ "$(requests 'cdn')" -le 6 ]
    nothing_partial
}

@test "the second of two hf-fetch goes on when the first is killed" {
    start_slow
    (sleep 1; kill -9 "$pid") 3>&- &
    fetch acme/two
    succeeds
    received acme/two
}

@test "room on the disk is checked before the first byte" {
    start_hub --entry "{\"type\":\"file\",\"path\":\"huge.txt\",\"size\":4611686018427387904,\"oid\":\"0123456789012345678901234567890123456789\"}"
    fetch --all acme/tiny
    fails_with 1 "but 4611686018.4"
    [ "$(grep -c resolve "$LOG")" -eq 0 ]
}

@test "an output that cannot be written is an error" {
    start_hub
    run bash -c '"$1" acme/old >/dev/full' - "$BUILD/hf-fetch"
    [ "$status" -eq 1 ]
    [ "$output" = "hf-fetch: cannot write to standard output" ]
}

# ---- progress, memory

@test "--progress shows one line with rate and remaining time; HF_HUB_DISABLE_PROGRESS_BARS hides it" {
    start_hub --fault slow:model.safetensors:4000000:3
    fetch --progress acme/two
    succeeds
    [[ $errors == *"hf-fetch: downloading "*"GiB/s, "*" s left"* ]]
    [ "$(tr -cd '\n' <<<"$errors" | wc -c)" -eq 1 ]
    rm -rf "$HF_HOME"
    HF_HUB_DISABLE_PROGRESS_BARS=1 fetch --progress acme/old
    succeeds
    [ -z "$errors" ]
}

@test "memory does not grow with the size of the file" {
    export MODELS=$BATS_TEST_TMPDIR/models
    random "$MODELS/acme/large/model.safetensors" 200000000
    echo '{}' >"$MODELS/acme/large/config.json"
    start_hub
    if grep -q __asan_init "$BUILD/hf-fetch"; then skip "the address sanitizer needs memory of its own"; fi
    if [ ! -x /usr/bin/time ]; then skip "GNU time is not installed"; fi
    /usr/bin/time -f %M -o "$BATS_TEST_TMPDIR/rss" "$BUILD/hf-fetch" acme/large
    echo "peak memory: $(cat "$BATS_TEST_TMPDIR/rss") KiB"
    [ "$(cat "$BATS_TEST_TMPDIR/rss")" -lt 40000 ]
}

# ---- the stand-in is a Hub

@test "the stand-in is accepted by npm's @huggingface/hub, and each finds what the other has cached" {
    command -v node >/dev/null && command -v npm >/dev/null || skip "node and npm are not installed"
    client=${CKPT_FILTERS_NPM_CACHE:-${TMPDIR:-/tmp}/ckpt-filters-npm-$(id -u)}
    mkdir -p "$client"
    if [ ! -d "$client/node_modules/@huggingface/hub" ]; then
        timeout 60 npm install --prefix "$client" --no-audit --no-fund --ignore-scripts @huggingface/hub \
            >"$BATS_TEST_TMPDIR/npm" 2>&1 || skip "npm cannot install @huggingface/hub: $(tail -1 "$BATS_TEST_TMPDIR/npm")"
    fi
    cp "$HUB_TESTS/client.mjs" "$client/"
    start_hub --page 5
    run node "$client/client.mjs" "$HF_ENDPOINT" acme/tiny model-00001-of-00002.safetensors "$CACHE"
    echo "$output"
    succeeds
    [ "$(grep -c '^file ' <<<"$output")" -eq 11 ]
    [[ $output == *"sha256 $(blob_of acme/tiny/model-00001-of-00002.safetensors)"* ]]
    snapshot=$(sed -n 's/^snapshot //p' <<<"$output")
    before=$(requests resolve)
    fetch --all acme/tiny
    succeeds
    [ "$output" = "$snapshot" ]
    [ "$(requests resolve)" -eq "$before" ]

    fetch --all --cache-dir "$BATS_TEST_TMPDIR/other" acme/tiny
    succeeds
    before=$(requests resolve)
    run node "$client/client.mjs" "$HF_ENDPOINT" acme/tiny config.json "$BATS_TEST_TMPDIR/other"
    echo "$output"
    succeeds
    [[ $output == *"scanned acme/tiny "*" 0" ]]
    [ "$(requests resolve)" -le $((before + 2)) ]
}
