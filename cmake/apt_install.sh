# SPDX-License-Identifier: Apache-2.0
# To be sourced: what the scripts share.

# apt_install PACKAGE...: installs those packages of Debian or Ubuntu that are missing, with sudo only where we aren't
# root; does nothing, and asks for nothing, where all are there. NAME:arm64 is a package of another architecture. On
# other systems it says what is needed, and goes on.
apt_install() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "no apt on this system: you need what Debian calls $*" >&2
    return 0
  fi
  # a package may be there for several architectures: its own, or `all`, is what counts
  local missing=() package arch
  for package in "$@"; do
    case $package in *:*) arch=${package#*:} ;; *) arch=$(dpkg --print-architecture) ;; esac
    if ! dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$package" 2>/dev/null |
      grep -qxE "($arch|all) installed"; then
      missing+=("$package")
    fi
  done
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi

  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "missing: ${missing[*]}: become root and run: apt-get install ${missing[*]}" >&2
      return 1
    fi
    root=(sudo)
  fi
  echo "installing ${missing[*]}" >&2
  for package in "${missing[@]}"; do
    case $package in *:*) "${root[@]}" dpkg --add-architecture "${package#*:}" ;; esac
  done
  # standard output is for what the script is run for
  "${root[@]}" apt-get update -qq >&2
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2
}

# what the library and the examples need, what the tool needs beside that, and what the tests need
mistral_library_packages=(g++ make cmake libxsimd-dev libtbb-dev)
mistral_packages=("${mistral_library_packages[@]}" nlohmann-json3-dev libcli11-dev)
mistral_test_packages=("${mistral_packages[@]}" doctest-dev libeigen3-dev pkg-config python3 doxygen locales universal-ctags)

# how many compilers may run at once: as many as there are processors, and 2 GB of memory for each
mistral_jobs() {
  local processors gigabytes
  processors=$(nproc)
  gigabytes=$(awk '/^MemAvailable:/ {print int($2 / 2000000)}' /proc/meminfo 2>/dev/null || echo 1)
  if [ "${gigabytes:-1}" -lt "$processors" ]; then processors=$gigabytes; fi
  if [ "$processors" -lt 1 ]; then processors=1; fi
  echo "$processors"
}
