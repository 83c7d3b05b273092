#!/usr/bin/env bash
# Configures the project's tests, without examples, benchmarks and tools, on a machine where optional packages are only
# partly installed: none of them may break the configuration.
# usage: half_installed.sh SOURCE CMAKE COMPILER
set -euo pipefail

source=$1 cmake=$2 compiler=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch"/{bin,doctest,json}

# MPI: as Debian's mpich without libmpich-dev, a compiler that reports folders that do not exist.
cat >"$scratch/bin/mpicxx" <<'MPICXX'
#!/bin/sh
case "$*" in
  -show) echo "g++ -I/nowhere/include/mpich -L/nowhere/lib -lmpichcxx -lmpich" ;;
  *) echo "fatal error: mpi.h: No such file or directory" >&2; exit 1 ;;
esac
MPICXX
cp "$scratch/bin/mpicxx" "$scratch/bin/mpiexec"
cp "$scratch/bin/mpicxx" "$scratch/bin/mpirun"
chmod +x "$scratch"/bin/*
# doctest: a package that ends the configuration of every project that looks for it.
echo 'message(FATAL_ERROR "a dependency is missing")' >"$scratch/doctest/doctestConfig.cmake"
# nlohmann_json: a package without its headers.
echo 'add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
set_target_properties(nlohmann_json::nlohmann_json PROPERTIES INTERFACE_INCLUDE_DIRECTORIES /nowhere/include)' \
  >"$scratch/json/nlohmann_jsonConfig.cmake"

configure() {
  PATH=$scratch/bin:$PATH "$cmake" -S "$source" -B "$scratch/build" "-DCMAKE_CXX_COMPILER=$compiler" \
    -DTESSERA_BUILD_EXAMPLES=OFF -DTESSERA_BUILD_BENCH=OFF -DTESSERA_BUILD_TOOLS=OFF -DTESSERA_WITH_CUDA=OFF \
    "-Ddoctest_DIR=$scratch/doctest" "-Dnlohmann_json_DIR=$scratch/json" "$@" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; echo "an optional package broke the configure"; exit 1; }
}

# Expects a line in the output that matches.
expect() {
  [[ $(grep -cE "^-- tessera: $1" "$scratch/log") == 1 ]] || { cat "$scratch/log"; echo "no line, or more: $1"; exit 1; }
}

configure
expect 'doctest not found, .* does not compile \(.*/DOCTEST.log\): only the structural tests are run'
expect 'MPI not found, .* does not compile \(.*/MPI.log\): nccl_from_mpi is not tested \(Debian: libopenmpi-dev'
expect 'nlohmann_json not found, .* does not compile'
expect 'CUDAToolkit not looked for \(TESSERA_WITH_CUDA\): device code is compiled against the emulation alone'

configure -DTESSERA_WITH_MPI=OFF
expect 'MPI not looked for \(TESSERA_WITH_MPI\): nccl_from_mpi is not tested'

# tools/setup.sh must not accept such an MPI either.
if (PATH=$scratch/bin:$PATH; source "$source/tools/setup.sh"; is_installed libopenmpi-dev); then
  echo "tools/setup.sh takes an mpicxx without headers for an MPI"
  exit 1
fi
