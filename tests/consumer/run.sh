#!/usr/bin/env bash
# Configures, builds and runs one consumer in a directory of its own.
# usage: run.sh find_package|add_subdirectory|fetch_content SOURCE BUILD CMAKE COMPILER
set -euo pipefail

way=$1 source=$2 build=$3 cmake=$4 compiler=$5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

arguments=(-DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_COMPILER=$compiler")
if [[ $way == find_package ]]; then
  "$cmake" --install "$build" --prefix "$scratch/prefix" >/dev/null
  arguments+=("-DCMAKE_PREFIX_PATH=$scratch/prefix")
else
  arguments+=("-DTESSERA_SOURCE=$source")
fi
"$cmake" -S "$source/tests/consumer/$way" -B "$scratch/build" "${arguments[@]}"
"$cmake" --build "$scratch/build"
"$scratch/build/consumer"
