#!/bin/sh
# Fetch text or token shards into data/. What is there already stays; what is there in part goes on where it stopped.
#
#   data/get.sh tinyshakespeare      1.1 MB of text: a toy
#   data/get.sh tinystories          2.2 GB of text: short stories in simple words, made by GPT-4
#   data/get.sh fineweb-edu [N]      N (1) shards of 100 million GPT-2 tokens, 200 MB each: educational web pages
#
# MIRROR=http://host/folder fetches every file from there, by its name alone.

set -u
program=$(basename "$0")
usage="data/get.sh tinyshakespeare | tinystories | fineweb-edu [N shards]"
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

# transfer URL FILE: download, continuing FILE if it is there. Sets $why when it fails. Both programs compare what
# came with the Content-Length that was announced.
transfer() {
    if command -v curl > /dev/null; then
        show=-s
        [ -t 2 ] && show=-#
        http=$(curl $show -fL --connect-timeout 30 --retry 2 -C - -o "$2" -w '%{http_code}' "$1")
        code=$?
        if [ $code -eq 33 ]; then # the server cannot continue a file
            rm -f "$2"
            http=$(curl $show -fL --connect-timeout 30 --retry 2 -o "$2" -w '%{http_code}' "$1")
            code=$?
        fi
        case $code in
        0) return 0 ;;
        22) [ "$http" = 416 ] && return 0 # nothing is missing
            why="the server says HTTP $http: see whether the file has moved" ;;
        5 | 6 | 7 | 28) why="no connection: is this machine online?" ;;
        23) why="cannot write $2: is the disk full?" ;;
        *) why="the transfer broke off (curl's error $code): run this again to go on" ;;
        esac
    elif command -v wget > /dev/null; then
        show=-q
        if [ -t 2 ] && wget --help 2>&1 | grep -q -e --show-progress; then show="-q --show-progress"; fi
        # shellcheck disable=SC2086 # $show is one option or two
        wget $show -T 30 -t 3 -c -O "$2" "$1"
        code=$?
        case $code in
        0) return 0 ;;
        3) why="cannot write $2: is the disk full?" ;;
        8) why="the server refuses it: see whether the file has moved" ;;
        *) why="no connection, or it broke off (wget's error $code): is this machine online? run this again to go on" ;;
        esac
    else
        die "neither curl nor wget is here: install one of them"
    fi
    return 1
}

# whole FILE NAME SIZE: is FILE all of NAME? SIZE is what is known beforehand, or 0. A token shard says in its header
# (magic, version, tokens of two bytes behind 256 words) how long it has to be.
whole() {
    case $2 in
    *_tokenizer.bin)
        # shellcheck disable=SC2046 # the words are wanted
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

# fetch URL NAME [SIZE]: make data/NAME, which is the whole file or does not exist.
fetch() {
    url=${MIRROR:+$MIRROR/$2}
    url=${url:-$1}
    part=data/$2.part
    if [ -f "data/$2" ]; then
        whole "data/$2" "$2" "${3:-0}" || die "data/$2: this is not the whole file: remove it and run this again"
        echo "data/$2: already here"
        return
    fi
    transfer "$url" "$part" || { [ -s "$part" ] || rm -f "$part"; die "$url: $why"; }
    if ! whole "$part" "$2" "${3:-0}"; then
        rm -f "$part"
        die "$url: what came is not the whole file, and was removed: run this again"
    fi
    mv "$part" "data/$2" || exit 1
    echo "data/$2: $(size "data/$2") bytes"
}

# next NAME OPTIONS FILES: what to type when text was fetched.
next() {
    echo
    echo "Next:"
    echo "  make tools"
    echo "  data/tokenize --out data/$1 $2"
    echo "  ./train_optibert --train data/$1_train.bin --val data/$1_val.bin --vocab data/$1.vocab"
}

[ $# -ge 1 ] || die_usage "say what to fetch"
[ $# -eq 1 ] || [ "$1" = fineweb-edu ] || die_usage "$2: only fineweb-edu takes a number"
[ $# -le 2 ] || die_usage "$3: too many arguments"
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
    # its validation text is the tail of the two, about 1%
    next tinystories "--separator '<|endoftext|>' --val-fraction 0.01 \\
      data/TinyStoriesV2-GPT4-train.txt data/TinyStoriesV2-GPT4-valid.txt"
    ;;
fineweb-edu)
    shards=${2:-1}
    case $shards in
    *[!0-9]* | '' | 0* | ?????*) die_usage "$shards: give a number of shards from 1 to 1000" ;;
    esac
    [ "$shards" -le 1000 ] || die_usage "$shards: give a number of shards from 1 to 1000"
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
-h | --help)
    echo "$usage"
    ;;
*)
    die_usage "$1: no such data"
    ;;
esac
