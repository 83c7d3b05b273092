#!/usr/bin/env bash
# Configures, builds and runs one consumer project in a build directory of its own.
# usage: run.sh find_package|add_subdirectory|fetch_content|cuda SOURCE BUILD CMAKE COMPILER [NVCC]
set -euo pipefail

way=$1 source=$2 build=$3 cmake=$4 compiler=$5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

project=$source/tests/consumer/$way program=consumer
arguments=(-DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_COMPILER=$compiler")
case $way in
  find_package | cuda)
    "$cmake" --install "$build" --prefix "$scratch/prefix" >/dev/null
    arguments+=("-DCMAKE_PREFIX_PATH=$scratch/prefix") ;;
  *) arguments+=("-DTESSERA_SOURCE=$source") ;;
esac
if [[ $way == cuda ]]; then  # the project that docs/cuda.md shows
  project=$scratch/project program=trainer
  mkdir "$project"
  sed -n '/^```cmake$/,/^```$/{/^```/!p}' "$source/docs/cuda.md" >"$project/CMakeLists.txt"
  cp "$source/tests/consumer/trainer.cu" "$project"
  arguments+=("-DCMAKE_CUDA_COMPILER=$6")
fi
"$cmake" -S "$project" -B "$scratch/build" "${arguments[@]}"
"$cmake" --build "$scratch/build"
"$scratch/build/$program"
