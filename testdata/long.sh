#!/bin/bash
# Runs every package with property tests with many more cases than usual, and
# tells the tests so by SHADOWTAP_LONG=1, which lengthens simulations.
#
#   testdata/long.sh CASES
set -euo pipefail
export SHADOWTAP_LONG=1
# Only a test that links pgregory.net/rapid knows the flag; segmenttest does.
mapfile -t packages < <(go list -f '{{range .TestImports}}{{$.ImportPath}} {{println .}}{{end}}{{range .XTestImports}}{{$.ImportPath}} {{println .}}{{end}}' ./... |
  awk '$2 == "pgregory.net/rapid" || $2 ~ /\/reassembly\/segmenttest$/ {print $1}' | sort -u)
[ ${#packages[@]} -gt 0 ] || { echo "long: no package with property tests" >&2; exit 1; }
exec go run ./testdata/gotest -race -count=1 -timeout 120m "${packages[@]}" -args -rapid.checks="$1"
