# For the suites of others: starts the gRPC test service, and stops it with the shell. Sourced.
#
# start_server sets host and port. stop_server fails if the server has anything to complain about,
# which under sanitizers includes a leak.

start_server() {
	local preset=${TOWLINE_PRESET:-asan} address
	"$scripts/dev-build" --preset "$preset" towline-rpc-testserver
	coproc server { exec "$(bin_of "$preset")/towline-rpc-testserver" --listen 127.0.0.1:0; }
	server_pid=$!
	trap 'kill "$server_pid" 2>/dev/null' EXIT
	read -r -t 20 address <&"${server[0]}" || die "the test server did not start"
	host=${address%:*} port=${address##*:}
}

stop_server() {
	kill -TERM "$server_pid"
	trap - EXIT
	wait "$server_pid" || die "the test server ended with $?"
}

# need_go TOOL: skips the stage when ./dev setup could not install it.
need_go() {
	[ -x "$build/go/$1" ] && return
	echo "$1 is not installed: it takes Go 1.24 or later, then ./dev setup"
	exit "$SKIPPED"
}
