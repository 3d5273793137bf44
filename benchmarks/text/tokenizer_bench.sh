#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tokenizer_bench.sh MODEL [ROUNDS] [JSON]: our encoder beside spm_encode on the same 10 MB, one core each, in turn.
# The text is code and prose that Debian ships, half of each, encoded line by line by both. Times are processor time (user
# and system), which other programs on the machine disturb less. Start-up counts for neither: spm_encode's time is what it
# takes less what it takes for an empty input, ours is encoding alone. spm_encode's reading of lines and its formatting of
# the ids count against it in the first comparison; in the second it makes no output ("proto"), and only its reading does.
# The ids must agree. JSON is a tokenizer.json of the same vocabulary: our encoder by it is a third in the turns, and its ids
# must agree too where it is of the form that prepends; else it is said in how many lines they don't. With a JSON, the script
# does without spm_encode where there is none. $CXX compiles, $CXXFLAGS are its flags, $WORK keeps the files, $CORE is the core.
set -euo pipefail
model=${1:?usage: tokenizer_bench.sh MODEL [ROUNDS] [JSON]}
rounds=${2:-5}
json=${3:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
peer=spm_encode
if ! command -v $peer >/dev/null; then
  [ -n "$json" ] || { echo "FAILED: spm_encode (Debian package sentencepiece) is missing"; exit 1; }
  peer=
fi
pin=()
! command -v taskset >/dev/null || pin=(taskset -c "${CORE:-0}")

# head closes the pipe early, which is no failure here
half=5000000
code() { find /usr/include -type f \( -name '*.h' -o -name '*.hpp' \) -print0 | LC_ALL=C sort -z | xargs -0 cat 2>/dev/null; }
prose() {
  find /usr/share/perl /usr/share/doc /usr/lib/python3 -type f \( -name '*.pod' -o -name '*.txt' -o -name 'README*' -o -name 'copyright' \) -print0 2>/dev/null |
    LC_ALL=C sort -z | xargs -0 cat 2>/dev/null
}
{ (code || true) | head -c $half; (prose || true) | head -c $half; } >"$work/text" || true
tr -d '\000' <"$work/text" >"$work/text.clean" && mv "$work/text.clean" "$work/text"
bytes=$(stat -c %s "$work/text")
[ "$bytes" -gt 1000000 ] || { echo "FAILED: found only $bytes bytes of text on this machine"; exit 1; }
: >"$work/empty"

${CXX:-g++} -std=c++20 ${CXXFLAGS:--O2} -I"$root/include" "$root/benchmarks/text/tokenizer_time.cpp" -o "$work/tokenizer_time"

seconds() { # processor seconds of a command
  local TIMEFORMAT='%3U %3S' used
  used=$({ time "$@" >/dev/null 2>&1; } 2>&1)
  awk '{ printf "%.3f\n", $1 + $2 }' <<<"$used"
}
spm() { "${pin[@]}" spm_encode --model="$model" --output_format="$1" --output="$3" <"$2"; }

for ((i = 0; i < rounds; i++)); do
  "${pin[@]}" "$work/tokenizer_time" "$model" "$work/text" "$work/ours.ids" >>"$work/ours.s.$$"
  [ -z "$json" ] || "${pin[@]}" "$work/tokenizer_time" "$json" "$work/text" "$work/json.ids" >>"$work/json.s.$$"
  for format in ${peer:+id proto}; do
    start=$(seconds spm $format "$work/empty" "$work/none.ids")
    whole=$(seconds spm $format "$work/text" "$work/spm.$format")
    echo "$whole $start" | awk '{ printf "%.6f\n", $1 - $2 }' >>"$work/spm.$format.s.$$"
  done
done
[ -z "$peer" ] || cmp "$work/ours.ids" "$work/spm.id" || { echo "FAILED: the ids differ"; exit 1; }

differ=0
[ -z "$json" ] || differ=$(paste -d '\n' "$work/ours.ids" "$work/json.ids" | awk 'NR % 2 { a = $0; next } a != $0 { n++ } END { print n + 0 }')
if [ "$differ" -gt 0 ] && grep -q '"Prepend"' "$json"; then echo "FAILED: the ids by $json differ in $differ lines"; exit 1; fi

rate() { # MB/s: median (minimum ... maximum)
  awk -v bytes="$bytes" '{ printf "%.3f\n", bytes / $1 / 1e6 }' "$1" | sort -n |
    awk '{ v[NR] = $1 } END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; printf "%.2f MB/s (%.2f ... %.2f)", m, v[1], v[NR] }'
}
ratio() { # of the rounds' times: median (minimum ... maximum)
  paste "$1" "$2" | awk '{ printf "%.4f\n", $2 / $1 }' | sort -n |
    awk -v f="%.${3:-1}f" '{ v[NR] = $1 } END { m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2; printf f " (" f " ... " f ")", m, v[1], v[NR] }'
}
echo "text: $bytes bytes, $(wc -l <"$work/text") lines, $(wc -w <"$work/ours.ids") ids${peer:+, the same from both}"
echo "ours:                      $(rate "$work/ours.s.$$")"
[ -z "$json" ] || echo "ours, by tokenizer.json:   $(rate "$work/json.s.$$"), $(ratio "$work/json.s.$$" "$work/ours.s.$$" 2) times as fast as by the model; other ids in $differ lines"
[ -n "$peer" ] || { echo "spm_encode is missing: not compared"; rm -f "$work"/*.s.$$; exit 0; }
echo "spm_encode, ids written:   $(rate "$work/spm.id.s.$$"); we are $(ratio "$work/ours.s.$$" "$work/spm.id.s.$$") times as fast"
echo "spm_encode, none written:  $(rate "$work/spm.proto.s.$$"); we are $(ratio "$work/ours.s.$$" "$work/spm.proto.s.$$") times as fast"
rm -f "$work"/*.s.$$
