#!/usr/bin/env bash
# A big table through batches against a simulated provider on which much goes wrong: is every row answered, is nothing
# charged twice, and what does it take? Prints times, peak memory and sizes; exits with 1 where a promise is broken.
#
#   benches/batches.sh [ROWS]            100,000 rows without a number
#
# From the environment:
#   PROGRAM      the program; without it the release build of this tree, which is made first
#   BATCH_SIZE   requests in one batch                        (a fiftieth of the rows)
#   ENQUEUED     tokens that the provider lets wait           (ten batches' worth, by the provider's own count)
#   DELAY        how long a batch takes                       (2s)
#   POLL         the longest pause between two looks          (1s)
#   FAULTS       what goes wrong, as for `simulate --faults`
#   RUNS         how often `run` is called at most while some rows fail (5)
#   KEEP         a folder to work in, kept afterwards; without it one that is removed
set -euo pipefail

rows=${1:-100000}
batch_size=${BATCH_SIZE:-$((rows / 50))}
((batch_size > 0)) || batch_size=1
# About 30 tokens a row, as the simulator counts them.
enqueued=${ENQUEUED:-$((batch_size * 30 * 10))}
delay=${DELAY:-2s}
poll=${POLL:-1s}
runs=${RUNS:-5}
faults=${FAULTS:-upload_500=first:1,upload_lost=first:1,create_500=first:1,create_429=first:1,create_lost=first:2,\
batch_expired=first:2,batch_broken=first:1,batch_stuck=first:1,result_emptyid=every:5,result_counts=every:7,\
line_429=0.005,line_500=0.002,line_missing=0.001,line_garbled=0.001,line_doubled=0.002,line_unknown=0.001,\
line_both=0.001,poll_500=0.01,poll_429=first:2,content_404=first:1,content_500=first:1,content_cut=first:2}

if [[ ! -x /usr/bin/time ]]; then
    echo "this needs GNU time (apt-get install time)" >&2
    exit 2
fi
if [[ -z ${PROGRAM:-} ]]; then
    tree=$(cd "$(dirname "$0")/.." && pwd)
    cargo build --release --locked --manifest-path "$tree/Cargo.toml"
    PROGRAM=$tree/target/release/overnight
fi
program=$(realpath "$PROGRAM")

folder=${KEEP:-$(mktemp -d)}
mkdir -p "$folder"
cd "$folder"
if [[ -e overnight.db ]]; then
    echo "$folder has a project in it already" >&2
    exit 2
fi
simulator=
finish() {
    [[ -z $simulator ]] || kill "$simulator" 2>/dev/null || true
    [[ -n ${KEEP:-} ]] || rm -rf "$folder"
}
trap finish EXIT
unset OVERNIGHT_PROJECT OVERNIGHT_SIMULATE
# The simulator is here; nothing on the way to it is to be measured.
export NO_PROXY=127.0.0.1

measured() { # NAME COMMAND…: runs it under `time`, and says how long it took and its peak memory
    local name=$1 code=0
    shift
    /usr/bin/time -v -o time.txt "$@" >"$name.out" 2>"$name.log" || code=$?
    local took peak
    took=$(sed -n 's/.*Elapsed (wall clock) time (h:mm:ss or m:ss): //p' time.txt)
    peak=$(sed -n 's/.*Maximum resident set size (kbytes): //p' time.txt)
    printf '%-12s exit %d  took %s  peak memory %d MiB\n' "$name" "$code" "$took" "$((peak / 1024))"
    return "$code"
}
# The first number of this name: the totals stand first in both reports.
number() { grep -oE "\"$2\": ?[0-9]+" "$1" | awk 'NR == 1' | grep -oE '[0-9]+$'; }

awk -v rows="$rows" 'BEGIN {
    print "id,review"
    for (n = 1; n <= rows; n++)
        if (n % 2) printf "r%d,\"Order %d came late, but the box was fine\"\n", n, n
        else printf "r%d,\"%d번 주문, 배송이 빨라요\"\n", n, n
}' >reviews.csv

"$program" simulate --quiet --port 0 --batch-delay "$delay" --enqueued-tokens "$enqueued" --faults "$faults" >url &
simulator=$!
for _ in {1..100}; do
    [[ -s url ]] && break
    sleep 0.1
done
url=$(<url)

printf '%s rows, %s to a batch, %s tokens may wait, a batch takes %s\n' "$rows" "$batch_size" "$enqueued" "$delay"
measured init "$program" init --model simulated/small --base-url "$url" --choices positive,negative,mixed \
    --prompt 'Is this review positive, negative or mixed? {{ review }}'
measured add "$program" add reviews.csv --key id
measured plan "$program" plan --examples 0

code=3
for ((run = 1; run <= runs && code == 3; run++)); do
    # What has failed for good is asked for again, as a person would; any other code than 3 ends this.
    ((run == 1)) || "$program" retry --failed >"retry-$run.log" 2>&1
    code=0
    measured "run-$run" "$program" run --route batch --oversized wait --batch-size "$batch_size" --poll "$poll" || code=$?
done
if ((code != 0 && code != 3)); then
    tail -n 5 "run-$((run - 1)).log" >&2
    exit 1
fi
measured again "$program" run --route batch --poll "$poll" || true
measured status "$program" status --json
measured export "$program" export answers.csv --details
curl -fsS "${url%/v1}/ledger" >ledger.json

answered=$(number status.out answered)
batches=$(grep -c '"provider_id"' status.out || true)
charged=$(number ledger.json charged_requests)
again=$(number ledger.json charged_again)
created=$(number ledger.json batches_created)
exported=$(grep -cE ',answered,simulated/small,' answers.csv || true)
printf '%s answered, %s of them exported; %s attempts, %s batches (%s at the provider)\n' \
    "$answered" "$exported" "$(number status.out attempts)" "$batches" "$created"
printf '%s charged, of these %s after an answer; %s charged for results that never came\n' \
    "$charged" "$again" "$((charged - answered - again))"
printf 'overnight.db has %s bytes, reviews.csv %s\n' "$(stat -c %s overnight.db)" "$(stat -c %s reviews.csv)"
grep -oE '"faults":\{[^}]*\}' ledger.json | awk 'NR == 1'

broken=0
expect() { # WHAT IS WANTED
    if [[ $2 != "$3" ]]; then
        echo "BROKEN: $1 is $2, not $3"
        broken=1
    fi
}
expect "the number of answered requests" "$answered" "$rows"
expect "the number of exported answers" "$exported" "$rows"
expect "the number of charges after an answer" "$again" 0
grep -q '^nothing to do' again.log || expect "the second run" "$(head -n 1 again.log)" "nothing to do"
exit "$broken"
