#!/usr/bin/env bash
# A component that is not available stops the projects that require it, with the reason, and no others.
# usage: components.sh SOURCE BUILD CMAKE COMPILER TRUE|FALSE (whether there are CUDA and NCCL)
set -euo pipefail

source=$1 build=$2 cmake=$3 compiler=$4 has_nccl=$5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$cmake" --install "$build" --prefix "$scratch/prefix" >/dev/null
mkdir "$scratch/project"
echo "int main() {}" >"$scratch/project/user.cpp"

without=-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
# configure LINE [ARGUMENT...]: configures a project of that line.
configure() {
  printf 'cmake_minimum_required(VERSION 3.20)\nproject(user LANGUAGES CXX)\n%s\n' "$1" >"$scratch/project/CMakeLists.txt"
  rm -rf "$scratch/build"
  "$cmake" -S "$scratch/project" -B "$scratch/build" "-DCMAKE_CXX_COMPILER=$compiler" \
    "-DCMAKE_PREFIX_PATH=$scratch/prefix" "${@:2}" >"$scratch/log" 2>&1
}
expect() {  # searches the last output, in which CMake wraps lines
  tr -s ' \n' ' ' <"$scratch/log" | grep -qF -- "$1" || { cat "$scratch/log"; echo "missing: $1"; exit 1; }
}

! configure 'find_package(tessera REQUIRED COMPONENTS nccl)' $without || { echo "nccl without CUDA was found"; exit 1; }
expect 'tessera::nccl: the CUDA toolkit, 12.0 or later, was not found: CUDAToolkit_ROOT says where it is'
! configure 'find_package(tessera REQUIRED COMPONENTS opencl)' $without || { echo "opencl was found"; exit 1; }
expect 'tessera::opencl: there is no such component: there are cuda and nccl'
configure 'find_package(tessera REQUIRED OPTIONAL_COMPONENTS cuda)' $without || { cat "$scratch/log"; exit 1; }
expect '-- tessera::cuda: the CUDA toolkit, 12.0 or later, was not found'
! configure "add_subdirectory($source tessera)" -DTESSERA_COMPONENTS=cuda $without || { echo "CUDA was found"; exit 1; }
expect 'tessera::cuda: the CUDA toolkit, 12.0 or later, was not found'

if [[ $has_nccl == TRUE ]]; then  # the targets are visible outside the folder that created them, too
  configure "set(TESSERA_COMPONENTS cuda nccl)
add_subdirectory($source tessera)
add_executable(user user.cpp)
target_link_libraries(user PRIVATE tessera::nccl)" || { cat "$scratch/log"; exit 1; }
fi
