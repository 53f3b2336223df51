#!/usr/bin/env bash
# fetch_boost.sh FOLDER: unpacks the newest Boost headers that Debian's suites offer into FOLDER, for the
# benchmark only. Nothing is installed: a private apt state beside them keeps the system's package lists as they are.
set -euo pipefail
folder=$(realpath -m "$1")
suites="${SUITES:-forky trixie}"
[ -f "$folder/usr/include/boost/unordered/concurrent_flat_map.hpp" ] && exit 0
# shellcheck disable=SC2016  # apt-get expands it
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 -E 'debian/?$') || {
  echo "fetch_boost: no Debian archive among this system's package sources" >&2; exit 1; }
apt="$folder/apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
options=(-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::Etc::sourceparts="$apt/parts"
  -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::preferencesparts="$apt/parts" -o APT::Sandbox::User=root
  -o Acquire::Languages=none)
for suite in $suites; do
  echo "deb [signed-by=$keyring] $site $suite main" >"$apt/sources.list"
  apt-get "${options[@]}" -q update >"$apt/log" 2>&1 || continue
  package=$(apt-cache "${options[@]}" search --names-only '^libboost1\.[0-9]+-dev$' | sort -V | tail -1 | cut -d' ' -f1)
  [ -n "$package" ] || continue
  (cd "$folder" && apt-get "${options[@]}" -q download "$package" >>"$apt/log" 2>&1 && dpkg -x "$package"_*.deb . && rm "$package"_*.deb)
  echo "fetch_boost: $package of $suite in $folder" >&2
  rm -rf "$apt/lists"
  exit 0
done
echo "fetch_boost: no suite of [$suites] could be read; see $apt/log" >&2
exit 1
