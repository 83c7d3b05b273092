# Sourced by tools/test and tools/demo: the Debian packages that they need, and how to install missing ones.

base_packages=(g++ cmake make python3 doctest-dev libopenblas-dev zlib1g-dev libxxhash-dev nlohmann-json3-dev libcli11-dev libbenchmark-dev)
clang_packages=(clang-16 libclang-rt-16-dev)
# For examples/libtorch, which is only built if it is installed: about 150 packages, because it depends on OpenCV.
libtorch_packages=(libtorch-dev)
# For the tests of nccl_from_mpi, whose ranks MPI starts. They are skipped without it.
mpi_packages=(libopenmpi-dev openmpi-bin)
jobs=$(nproc)

is_installed() {
  # A python3 or cmake from another source works as well, and so does any MPI.
  case $1 in
    g++ | cmake | make | python3) command -v "$1" >/dev/null ;;
    libopenmpi-dev | openmpi-bin) has_mpi ;;
    clang-16) [[ -n $(newest_clang) ]] ;;
    libclang-rt-16-dev) has_clang_runtime ;;
    *) [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]] ;;
  esac
}

# Prints the newest clang++ of version 16 or later, or nothing.
newest_clang() {
  local name major
  for name in clang++-{20,19,18,17,16} clang++; do
    command -v "$name" >/dev/null || continue
    major=$("$name" -dumpversion | cut -d. -f1)
    ((major < 16)) || { echo "$name"; return; }
  done
}

# Whether a program compiles with MPI's headers, and mpirun exists. (mpich alone has an mpicxx without headers.)
has_mpi() {
  command -v mpirun >/dev/null && command -v mpicxx >/dev/null &&
    echo '#include <mpi.h>' | mpicxx -x c++ -fsyntax-only - 2>/dev/null
}

# Whether clang's ThreadSanitizer links.
has_clang_runtime() {
  local clang
  clang=$(newest_clang)
  [[ -n $clang ]] && echo 'int main() {}' | "$clang" -x c++ -fsanitize=thread - -o /dev/null 2>/dev/null
}

# Installs those of the given packages that are missing. If that is impossible, prints one line and exits.
install_missing() {
  local package missing=() as_root=()
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ! command -v apt-get >/dev/null; then
    echo "tessera: please install (names as in Debian 12): ${missing[*]}" >&2
    exit 1
  fi
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "tessera: not root and no sudo; please install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "== installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! "${as_root[@]}" apt-get update -qq ||
    ! "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null; then
    echo "tessera: apt-get could not install: ${missing[*]}" >&2
    exit 1
  fi
}

# Installs PyPI packages into a folder, unless Python finds them there or elsewhere. Without pip or a network it says so.
install_python() {
  local folder=$1
  shift
  PYTHONPATH=$folder python3 -c "$(printf 'import %s\n' "$@")" 2>/dev/null && return
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$folder" "$@" ||
    echo "not installed from PyPI: $*"
}
