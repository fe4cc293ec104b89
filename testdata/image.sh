#!/bin/bash
# Writes an image that holds one static program, without a container engine and
# without a registry. The same program gives the same bytes.
#
#   testdata/image.sh NAME:TAG PROGRAM OUT.tar
set -euo pipefail
name=$1 program=$2 out=$(realpath -m "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$1" -cf "$2" "${@:3}"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }

mkdir -p "$work/root/etc" "$work/root/run/shadowtap" "$work/image"
install -m 0755 "$program" "$work/root/shadowtap"
# Certificates of this machine, for https candidates and brokers with TLS.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
  install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
fi
printf 'root:x:0:0:root:/:/\n' >"$work/root/etc/passwd"
pack "$work/root" "$work/image/layer.tar" .

cat >"$work/config.json" <<JSON
{"architecture":"$(go env GOARCH)","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/shadowtap"],"Cmd":["run"]},"rootfs":{"type":"layers","diff_ids":["sha256:$(digest "$work/image/layer.tar")"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"shadowtap"}]}
JSON
config=$(digest "$work/config.json").json
mv "$work/config.json" "$work/image/$config"
printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$config" "$name" >"$work/image/manifest.json"
pack "$work/image" "$out" manifest.json "$config" layer.tar
echo "$out: $name"
