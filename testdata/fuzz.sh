#!/bin/bash
# Runs every fuzz target for a while, one after the other.
#
#   testdata/fuzz.sh TIME [PACKAGE]...     TIME as go test -fuzztime takes it
set -euo pipefail
time=$1
shift
failed=() count=0
while read -r package; do
  while read -r target; do
    count=$((count + 1))
    echo "=== $package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 2s "$package" || failed+=("$package $target")
  done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "${@:-./...}")
[ "$count" -gt 0 ] || { echo "fuzz: no target found" >&2; exit 1; }
[ ${#failed[@]} = 0 ] || { printf 'fuzz: failed: %s\n' "${failed[@]}" >&2; exit 1; }
echo "$count targets, nothing found"
