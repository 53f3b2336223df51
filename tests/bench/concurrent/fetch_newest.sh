#!/usr/bin/env bash
# fetch_newest.sh FOLDER: unpacks the newest Boost headers and the newest Go that Debian's suites offer into FOLDER,
# for the benchmark only. Nothing is installed: a private apt state beside them keeps the system's package lists as they are.
set -euo pipefail
folder=$(realpath -m "$1")
suites="${SUITES:-forky trixie}"
done_mark="$folder/fetched"
[ -f "$done_mark" ] && exit 0
# shellcheck disable=SC2016  # apt-get expands it
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 -E 'debian/?$') || {
  echo "fetch_newest: no Debian archive among this system's package sources" >&2; exit 1; }
apt="$folder/apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
options=(-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::Etc::sourceparts="$apt/parts"
  -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::preferencesparts="$apt/parts" -o APT::Sandbox::User=root
  -o Acquire::Languages=none)
newest() { apt-cache "${options[@]}" search --names-only "$1" | cut -d' ' -f1 | sort -V | tail -1; }
for suite in $suites; do
  echo "deb [signed-by=$keyring] $site $suite main" >"$apt/sources.list"
  apt-get "${options[@]}" -q update >"$apt/log" 2>&1 || continue
  boost=$(newest '^libboost1\.[0-9]+-dev$')
  go=$(newest '^golang-1\.[0-9]+-go$')
  if [ -z "$boost" ] || [ -z "$go" ]; then continue; fi
  (cd "$folder" && apt-get "${options[@]}" -q download "$boost" "$go" "${go%-go}-src" >>"$apt/log" 2>&1 &&
    for package in ./*.deb; do dpkg -x "$package" . && rm "$package"; done)
  echo "fetch_newest: $boost and $go of $suite in $folder" >&2
  rm -rf "$apt/lists"
  touch "$done_mark"
  exit 0
done
echo "fetch_newest: no suite of [$suites] could be read; see $apt/log" >&2
exit 1
