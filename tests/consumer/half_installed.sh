#!/usr/bin/env bash
# Configures the project, tests alone, where optional packages are installed by half: none of them may break it.
# usage: half_installed.sh SOURCE CMAKE COMPILER
set -euo pipefail

source=$1 cmake=$2 compiler=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch"/{bin,doctest,json}

# MPI: what Debian's mpich leaves without libmpich-dev, a compiler that names folders which are not there.
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
# doctest: a package that ends the configure of whoever asks for it.
echo 'message(FATAL_ERROR "a dependency is missing")' >"$scratch/doctest/doctestConfig.cmake"
# nlohmann_json: one whose headers are gone.
echo 'add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
set_target_properties(nlohmann_json::nlohmann_json PROPERTIES INTERFACE_INCLUDE_DIRECTORIES /nowhere/include)' \
  >"$scratch/json/nlohmann_jsonConfig.cmake"

configure() {
  PATH=$scratch/bin:$PATH "$cmake" -S "$source" -B "$scratch/build" "-DCMAKE_CXX_COMPILER=$compiler" \
    -DTESSERA_BUILD_EXAMPLES=OFF -DTESSERA_BUILD_BENCH=OFF -DTESSERA_BUILD_TOOLS=OFF -DTESSERA_WITH_CUDA=OFF \
    "-Ddoctest_DIR=$scratch/doctest" "-Dnlohmann_json_DIR=$scratch/json" "$@" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; echo "an optional package broke the configure"; exit 1; }
}

# One line of the output matches.
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

# Nor does tools/setup.sh take such an MPI for one.
if (PATH=$scratch/bin:$PATH; source "$source/tools/setup.sh"; is_installed libopenmpi-dev); then
  echo "tools/setup.sh takes an mpicxx without headers for an MPI"
  exit 1
fi
