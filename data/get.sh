#!/bin/sh
# Download text or token shards into data/. Files that are already there are kept; an interrupted download continues
# where it stopped.
#
#   data/get.sh tinyshakespeare      1.1 MB of text, for a quick try
#   data/get.sh tinystories          2.2 GB of text: short stories in simple words, written by GPT-4
#   data/get.sh fineweb-edu [N]      N shards (1) of 100 million GPT-2 tokens, 200 MB each: educational web pages
#   data/get.sh glue                 20 MB of tasks for dev/eval: CoLA, MRPC, QNLI, RTE, SST-2, STS-B, WNLI of GLUE
#
# With MIRROR=http://host/folder in the environment, every file comes from that folder.

set -u
program=$(basename "$0")
usage="data/get.sh tinyshakespeare | tinystories | fineweb-edu [N shards] | glue"
cd "$(dirname "$0")/.." || exit 1

die() {
    echo "$program: $*" >&2
    exit 1
}

die_usage() {
    echo "$program: $* ($usage)" >&2
    exit 2
}

size() {
    wc -c < "$1" | tr -d ' '
}

# transfer URL FILE: download, continuing FILE if it exists. On failure, $why says what is wrong and what to do. Both
# programs compare the number of bytes with the Content-Length that the server announced.
transfer() {
    if command -v curl > /dev/null; then
        show=-s
        [ -t 2 ] && show=-#
        http=$(curl $show -fL --connect-timeout 30 --retry 2 -C - -o "$2" -w '%{http_code}' "$1")
        code=$?
        if [ $code -eq 33 ]; then # this server cannot send the rest of a file
            rm -f "$2"
            http=$(curl $show -fL --connect-timeout 30 --retry 2 -o "$2" -w '%{http_code}' "$1")
            code=$?
        fi
        case $code in
        0) return 0 ;;
        22) [ "$http" = 416 ] && return 0 # there are no more bytes to send
            why="the server answers HTTP $http; check whether the file has moved" ;;
        5 | 6 | 7 | 28) why="no connection; check that this machine is online" ;;
        23) why="cannot write $2; check that the disk is not full" ;;
        *) why="the download was interrupted (curl error $code); run this again to continue" ;;
        esac
    elif command -v wget > /dev/null; then
        show=-q
        if [ -t 2 ] && wget --help 2>&1 | grep -q -e --show-progress; then show="-q --show-progress"; fi
        # shellcheck disable=SC2086 # $show may be two options
        wget $show -T 30 -t 3 -c -O "$2" "$1"
        code=$?
        case $code in
        0) return 0 ;;
        3) why="cannot write $2; check that the disk is not full" ;;
        8) why="the server refuses to send it; check whether the file has moved" ;;
        *) why="not connected, or interrupted (wget error $code); check the connection and run this again" ;;
        esac
    else
        die "curl: not installed, and wget is not either; install one of them"
    fi
    return 1
}

# whole FILE NAME SIZE: is FILE the complete NAME? SIZE is its size in bytes, or 0 if it is not known in advance. The
# header of a token shard (256 words: magic, version, number of tokens, …) says how many tokens of two bytes follow.
whole() {
    case $2 in
    *_tokenizer.bin)
        # shellcheck disable=SC2046 # split into words on purpose
        set -- "$1" $(od -An -N4 -t d4 "$1")
        [ "${2:-}" = 20240328 ] ;;
    *.bin)
        # shellcheck disable=SC2046
        set -- "$1" $(od -An -N12 -t d4 "$1")
        [ "${2:-}" = 20240520 ] && [ "${3:-}" = 1 ] && [ "$(size "$1")" -eq $((1024 + 2 * ${4:-0})) ] ;;
    *)
        [ -s "$1" ] && { [ "$3" -eq 0 ] || [ "$(size "$1")" -eq "$3" ]; } ;;
    esac
}

# fetch URL NAME [SIZE]: download data/NAME, which is then either the complete file or absent.
fetch() {
    url=${MIRROR:+$MIRROR/$2}
    url=${url:-$1}
    part=data/$2.part
    if [ -f "data/$2" ]; then
        whole "data/$2" "$2" "${3:-0}" || die "data/$2: incomplete; remove it and run this again"
        echo "data/$2: already here"
        return
    fi
    transfer "$url" "$part" || { [ -s "$part" ] || rm -f "$part"; die "$url: $why"; }
    if ! whole "$part" "$2" "${3:-0}"; then
        rm -f "$part"
        die "$url: what arrived is not the complete file; it was removed, so run this again"
    fi
    mv "$part" "data/$2" || exit 1
    echo "data/$2: $(size "data/$2") bytes"
}

# next NAME OPTIONS FILES: say what to type after a text has been downloaded.
next() {
    echo
    echo "Next:"
    echo "  make tools"
    echo "  data/tokenize --out data/$1 $2"
    echo "  ./train_optibert --train data/$1_train.bin"
}

[ $# -ge 1 ] || die_usage "nothing to download; choose one"
[ $# -eq 1 ] || [ "$1" = fineweb-edu ] || die_usage "$2: only fineweb-edu takes a number; leave it out"
[ $# -le 2 ] || die_usage "$3: one argument too many; leave it out"
face=https://huggingface.co/datasets

case $1 in
tinyshakespeare)
    fetch https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt \
        tinyshakespeare.txt 1115394
    next tinyshakespeare data/tinyshakespeare.txt
    ;;
tinystories)
    for name in TinyStoriesV2-GPT4-train.txt TinyStoriesV2-GPT4-valid.txt; do
        fetch "$face/roneneldan/TinyStories/resolve/main/$name" "$name"
    done
    # validation is the last 1% of the two files together
    next tinystories "--separator '<|endoftext|>' --val-fraction 0.01 \\
      data/TinyStoriesV2-GPT4-train.txt data/TinyStoriesV2-GPT4-valid.txt"
    ;;
fineweb-edu)
    shards=${2:-1}
    case $shards in
    *[!0-9]* | '' | 0* | ?????*) die_usage "$shards: not a number of shards from 1 to 1000" ;;
    esac
    [ "$shards" -le 1000 ] || die_usage "$shards: not a number of shards from 1 to 1000"
    fetch $face/chrisdryden/llmcDatasets/resolve/main/gpt2_tokenizer.bin gpt2_tokenizer.bin
    i=0
    while [ "$i" -le "$shards" ]; do
        name=$(printf 'edu_fineweb_%s_%06d.bin' "$([ "$i" -eq 0 ] && echo val || echo train)" "$i")
        fetch "$face/karpathy/fineweb-edu-100B-gpt2-token-shards/resolve/main/$name" "$name"
        i=$((i + 1))
    done
    echo
    echo "Next:"
    echo "  ./train_optibert --train data/edu_fineweb_train_*.bin --val data/edu_fineweb_val_000000.bin \\"
    echo "      --vocab data/gpt2_tokenizer.bin"
    ;;
glue)
    command -v unzip > /dev/null || die "unzip: not installed; install it and run this again"
    for name in CoLA QNLIv2 RTE SST-2 STS-B WNLI; do
        fetch "https://dl.fbaipublicfiles.com/glue/data/$name.zip" "$name.zip"
        unzip -qo "data/$name.zip" -d data/glue || die "data/$name.zip: damaged; remove it and run this again"
    done
    mkdir -p data/glue/MRPC
    for split in train test; do
        fetch "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_$split.txt" "mrpc_$split.txt"
        cp "data/mrpc_$split.txt" "data/glue/MRPC/$split.tsv" || exit 1
    done
    echo
    echo "Next:"
    echo "  dev/eval data/glue/RTE data/glue/MRPC data/glue/STS-B --finetune"
    echo "  dev/eval data/glue/CoLA --columns 4,2 --finetune"
    ;;
-h | --help)
    echo "$usage"
    ;;
*)
    die_usage "$1: no data of this name; choose one of these"
    ;;
esac
