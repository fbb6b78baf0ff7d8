# For the suites of others that are run against rpc/: the test server. Sourced after lib.sh.

# start_testserver BIN [ARGUMENT...]: sets ${host} and ${port}.
start_testserver() {
	local program=$1/towline-rpc-testserver address
	shift
	[ -x "$program" ] || die "there is no $program: run ./dev build first"
	server_log=$logs/$(basename "$0").server.log
	exec {server_out}< <(exec "$program" --listen 127.0.0.1:0 "$@" 2>"$server_log")
	server=$!
	trap 'kill -KILL "$server" 2>/dev/null || true' EXIT
	read -r -t 20 -u "$server_out" address || { cat "$server_log" >&2; die "the test server did not start"; }
	host=${address%:*}
	port=${address##*:}
}

# Ends it as an operator would: it has to go by itself, and cleanly.
stop_testserver() {
	local code=0
	kill -TERM "$server" || die "the test server has died: see $server_log"
	timeout 20 tail --pid="$server" -f /dev/null || die "the test server did not end on SIGTERM"
	wait "$server" || code=$?
	trap - EXIT
	[ "$code" -eq 0 ] || { tail -n 40 "$server_log" >&2; die "the test server ended with code $code"; }
}
