#!/usr/bin/env bash
# Counting a large table: how long `plan` takes with a sample and with every row, how much memory, how far the sample is
# off, and what the tokenizer alone takes over the same texts.
#
#   benches/counting.sh [ROWS]           1,000,000 rows without a number
#
# From the environment:
#   PROGRAM   the program; without it the release build of this tree, which is made first
#   WORDS     words in a text at most (60)
#   KEEP      a folder to work in, kept afterwards; without it one that is removed
set -euo pipefail

rows=${1:-1000000}
words=${WORDS:-60}
if [[ ! -x /usr/bin/time ]]; then
    echo "this needs GNU time (apt-get install time)" >&2
    exit 2
fi
tree=$(cd "$(dirname "$0")/.." && pwd)
if [[ -z ${PROGRAM:-} ]]; then
    cargo build --release --locked --manifest-path "$tree/Cargo.toml"
    target=${CARGO_TARGET_DIR:-$tree/target}
    PROGRAM=$target/release/overnight
fi
program=$(realpath "$PROGRAM")
folder=${KEEP:-$(mktemp -d)}
mkdir -p "$folder"
cd "$folder"
if [[ -e overnight.db ]]; then
    echo "$folder has a project in it already" >&2
    exit 2
fi
finish() { [[ -n ${KEEP:-} ]] || rm -rf "$folder"; }
trap finish EXIT
unset OVERNIGHT_PROJECT

measured() { # NAME COMMAND…: runs it under `time`, and says how long it took and its peak memory
    local name=$1 took cpu peak
    shift
    /usr/bin/time -v -o time.txt "$@" >"$name.out" 2>"$name.log"
    took=$(sed -n 's/.*Elapsed (wall clock) time (h:mm:ss or m:ss): //p' time.txt)
    cpu=$(awk -F': ' '/User time|System time/ { sum += $2 } END { printf "%.1f", sum }' time.txt)
    peak=$(sed -n 's/.*Maximum resident set size (kbytes): //p' time.txt)
    printf '%-12s took %s  (%s s of cores)  peak memory %d MiB\n' "$name" "$took" "$cpu" "$((peak / 1024))"
}
number() { grep -oE "\"$2\": ?[0-9.]+" "$1" | awk 'NR == 1' | grep -oE '[0-9.]+$'; }

# A third Korean; no two texts alike, and of very different lengths.
awk -v rows="$rows" -v most="$words" 'BEGIN {
    srand(20261123)
    english = split("the delivery was late but kind staff replaced everything within hours although packaging looked damaged surprisingly good value for money would order again unless prices rise further quality remains acceptable", en, " ")
    korean = split("배송이 늦었지만 상품은 훌륭했어요 포장이 꼼꼼하고 가격도 적당합니다 다시 주문할 의향이 있습니다 색상이 사진과 조금 달라서 아쉬웠지만 친절하게 교환해 주셨습니다", ko, " ")
    print "id,review"
    for (n = 1; n <= rows; n++) {
        length_ = 3 + int(rand() * rand() * most)
        line = n
        for (w = 0; w < length_; w++)
            line = line " " (n % 3 ? en[1 + int(rand() * english)] : ko[1 + int(rand() * korean)])
        printf "r%d,\"%s.\"\n", n, line
    }
}' >reviews.csv
printf '%s rows, %.1f MB\n' "$rows" "$(awk -v bytes="$(stat -c %s reviews.csv)" 'BEGIN { print bytes / 1e6 }')"

"$program" init -q --model gpt-4o-mini --choices positive,negative,mixed \
    --prompt 'Is this review positive, negative or mixed? {{ review }}' 2>init.log
measured add "$program" add -q reviews.csv --key id
measured plan "$program" plan --json
measured plan-exact "$program" plan --exact --json
some=$(number plan.out input)
all=$(number plan-exact.out input)
printf 'input tokens: %s from a sample, %s counted: %s%% off\n' "$some" "$all" \
    "$(awk -v a="$some" -v b="$all" 'BEGIN { printf "%.2f", 100 * (a - b) / b }')"
cargo bench -q --locked --manifest-path "$tree/Cargo.toml" --bench bare -- count "$PWD/reviews.csv"
