# What the scripts of ./dev share; sourced by each of them.
set -euo pipefail

root=${TOWLINE_ROOT:-$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")}
export TOWLINE_ROOT=$root
build=$root/build
scripts=$root/scripts
logs=$build/logs
venv=$build/venv
jobs=$(nproc)

# Of one unit test. Those that are drawn at random take longer with --long.
unit_seconds=$([ -n "${TOWLINE_LONG-}" ] && echo 3600 || echo 120)

SKIPPED=77 # exit code of a test stage that cannot run here; its last line says why

say() {
	echo "$(basename "$0"): $*" >&2
}

die() {
	say "$@"
	exit 1
}

# The first comment of a script is its help. usage_error [MESSAGE]
usage() {
	sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

usage_error() {
	say "$@"
	usage >&2
	exit 2
}

# as_root COMMAND...
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "'$*' needs root: run it as root, or install sudo"
	fi
}

# once STAMP INPUT...: whether STAMP was left by done_once with the same inputs (files).
once() {
	[ -f "$build/stamps/$1" ] && [ "$(cat "$build/stamps/$1")" = "$(cat "${@:2}" | sha256sum)" ]
}

done_once() {
	mkdir -p "$build/stamps"
	cat "${@:2}" | sha256sum >"$build/stamps/$1"
}

# bin_of PRESET: where that build's programs are.
bin_of() {
	case $1 in
	release) echo "$build/bin" ;;
	*) echo "$build/$1/bin" ;;
	esac
}

mkdir -p "$logs" 2>/dev/null && [ -w "$build" ] ||
	die "cannot write to $build: if it was made with sudo, run 'sudo chown -R $(id -un) $build'"
