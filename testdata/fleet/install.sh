#!/bin/bash
# Gets the two engines that run the SQL of deploy/ in a test, once, into the
# user's cache folder: ClickHouse as a Python package, Flink as jars.
#
#   testdata/fleet/install.sh chdb     prints the path of a Python that has chdb
#   testdata/fleet/install.sh flink    prints the folder of the jars
#
# Versions are pinned in requirements.txt and pom.xml. Python 3 with venv, and
# Java 17 with Maven, come from "testdata/deps.sh fleet".
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
  chdb) pins=requirements.txt gives=bin/python ;;
  flink) pins=pom.xml gives=libs ;;
  *) echo "install: chdb or flink?" >&2; exit 2 ;;
esac

# Other pins are another folder.
sum=$(sha256sum "$here/$pins")
dir=${XDG_CACHE_HOME:-$HOME/.cache}/shadowtap/$1-${sum:0:12}
mkdir -p "$dir"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir/complete" ]; then
  rm -rf "$dir"
  mkdir "$dir"
  {
    if [ "$1" = chdb ]; then
      python3 -m venv "$dir" &&
        "$dir/bin/python" -m pip install -q --no-input --disable-pip-version-check --only-binary :all: --no-deps --require-hashes -r "$here/$pins"
    else
      mvn -q -B -f "$here/$pins" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$dir/libs"
    fi
  } >"$dir.log" 2>&1 </dev/null || { tail -n 20 "$dir.log" >&2; echo "install: $1 could not be had" >&2; exit 1; }
  touch "$dir/complete"
fi
echo "$dir/$gives"
