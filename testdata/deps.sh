#!/bin/bash
# Makes sure that the programs which building and testing need are there.
#
#   testdata/deps.sh GROUP...      groups: race generate root fleet bench miffy
#
# Only what is missing is installed, by apt-get and only as root; nothing is
# printed unless it fails. Where that cannot be done the missing programs are
# named and the exit code is 1.
set -euo pipefail

# program=package; a program with a slash is a file, one with a colon a module
# of Python. One line a group.
declare -A need=(
  # The race detector links with the C library.
  [race]='gcc=gcc /usr/include/stdlib.h=libc6-dev'
  # The eBPF object is made by one pinned compiler, so that it never differs.
  [generate]='clang-14=clang-14 llvm-strip-14=llvm-14 /usr/include/bpf/bpf_helpers.h=libbpf-dev /usr/include/linux/bpf.h=linux-libc-dev'
  # The peers of the end-to-end tests: web server, broker, consumer.
  [root]='nginx=nginx kcat=kcat java=openjdk-17-jre-headless mvn=maven'
  # Engines for the SQL of deploy/: a Python package, and jars of which one
  # source file is run.
  [fleet]='python3:venv=python3 python3:ensurepip=python3-venv javac=openjdk-17-jdk-headless mvn=maven'
  # Beside whom the program is measured; GoReplay is built with cgo.
  [bench]='tcpdump=tcpdump nginx=nginx gcc=gcc /usr/include/stdlib.h=libc6-dev /usr/include/pcap.h=libpcap-dev'
  # What cargo needs to build that proxy; cargo itself is not Debian's.
  [miffy]='g++=g++ make=make cmake=cmake pkg-config=pkg-config /usr/include/openssl/ssl.h=libssl-dev /usr/include/sasl/sasl.h=libsasl2-dev'
)

have() {
  case $1 in
    */*) [ -e "$1" ] ;;
    python3:*) python3 -c "import ${1#*:}" 2>/dev/null ;;
    # Debian keeps daemons in sbin, which is not on every PATH.
    *) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
  esac
}

missing=() packages=()
for group in "$@"; do
  [ -n "${need[$group]:-}" ] || { echo "deps: no group named $group" >&2; exit 2; }
  for pair in ${need[$group]}; do
    have "${pair%%=*}" && continue
    missing+=("${pair%%=*}")
    packages+=("${pair#*=}")
  done
done
[ ${#missing[@]} -gt 0 ] || exit 0

give_up() {
  echo "missing: ${missing[*]}; $1. On Debian or Ubuntu: apt-get install -y --no-install-recommends ${packages[*]}" >&2
  exit 1
}
[ "$(id -u)" = 0 ] || give_up 'not root, so nothing was installed'
command -v apt-get >/dev/null 2>&1 || give_up 'no apt-get here'

# Two makes at once must not fight for dpkg's lock.
exec 9>/tmp/.shadowtap-deps.lock
flock 9
work=$(mktemp -d)
policy=
# shellcheck disable=SC2329  # called by the trap
cleanup() {
  rm -rf "$work"
  [ -z "$policy" ] || rm -f "$policy"
}
trap cleanup EXIT

# A web server that gets installed here must not be started by its package.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install() {
  apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 \
    -o Acquire::Retries=3 "${packages[@]}" >"$work/log" 2>&1 </dev/null
}
# The package lists may be fresh, old or not there at all.
install || { apt-get update -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 >"$work/update" 2>&1 && install; } || {
  cat "$work/update" "$work/log" 2>/dev/null | tail -n 30 >&2
  give_up 'apt-get failed'
}
for program in "${missing[@]}"; do
  have "$program" || give_up "$program is still not there after the install"
done
