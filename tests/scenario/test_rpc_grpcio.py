"""rpc/ seen by gRPC's Python library: calls of every kind against the test server.

TOWLINE_BIN names the folder of the programs (default: build/bin).
"""

import contextlib
import os
import pathlib
import queue
import select
import signal
import subprocess
import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TOWLINE_BIN", ROOT / "build" / "bin"))
SERVER = BIN / "towline-rpc-testserver"
SERVICE = "grpc.testing.TestService"
MIB = 1 << 20
TIMEOUT = 20  # seconds; nothing here takes one


@contextlib.contextmanager
def running_server(*arguments):
    """Its address and process; it has to end by itself, with nothing to complain about."""
    process = subprocess.Popen(
        [SERVER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
        assert ready, "the server does not start"
        yield process.stdout.readline().strip(), process.pid
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["tcp", "unix"])
def address(request, tmp_path_factory):
    if request.param == "tcp":
        listen = "127.0.0.1:0"
    else:
        listen = f"unix:{tmp_path_factory.mktemp('rpc')}/socket"
    with running_server("--listen", listen) as (bound, _):
        yield bound
    if request.param == "unix":
        assert not os.path.exists(listen.removeprefix("unix:"))


@pytest.fixture
def channel(address):
    options = [("grpc.max_receive_message_length", 8 * MIB), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as made:
        yield made


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    """The messages of grpc.testing by their short names."""
    out = tmp_path_factory.mktemp("proto") / "set"
    subprocess.run(
        ["protoc", f"-I{ROOT}/proto", "--include_imports", f"--descriptor_set_out={out}",
         "grpc/testing/messages.proto", "grpc/testing/empty.proto"], check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)

    class Messages:
        def __getattr__(self, name):
            found = pool.FindMessageTypeByName(f"grpc.testing.{name}")
            return message_factory.GetMessageClass(found)

    return Messages()


def method(channel, kind, name, response):
    return getattr(channel, kind)(
        f"/{SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString)


@pytest.fixture
def unary(channel, messages):
    return method(channel, "unary_unary", "UnaryCall", messages.SimpleResponse)


@pytest.fixture
def duplex(channel, messages):
    return method(channel, "stream_stream", "FullDuplexCall", messages.StreamingOutputCallResponse)


def output_request(messages, *sizes, interval_us=0):
    return messages.StreamingOutputCallRequest(
        response_parameters=[{"size": size, "interval_us": interval_us} for size in sizes])


def test_empty(channel, messages):
    call = method(channel, "unary_unary", "EmptyCall", messages.Empty)
    assert call(messages.Empty(), timeout=TIMEOUT) == messages.Empty()


@pytest.mark.parametrize("size", [0, 1, 16384, 65535, 65536, MIB, 3 * MIB])
def test_unary_of_any_size_both_ways(unary, messages, size):
    request = messages.SimpleRequest(response_size=size, payload={"body": bytes(size)})
    assert unary(request, timeout=TIMEOUT).payload.body == bytes(size)


def test_a_request_over_the_limit_is_refused_and_the_connection_lives(unary, messages):
    with pytest.raises(grpc.RpcError) as raised:
        unary(messages.SimpleRequest(payload={"body": bytes(5 * MIB)}), timeout=TIMEOUT)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(4 * MIB) in raised.value.details()
    assert len(unary(messages.SimpleRequest(response_size=7), timeout=TIMEOUT).payload.body) == 7


def test_stream_to_the_server(channel, messages):
    call = method(
        channel, "stream_unary", "StreamingInputCall", messages.StreamingInputCallResponse)
    sizes = [1, MIB, 0, 27182, MIB, 8] * 4
    requests = (messages.StreamingInputCallRequest(payload={"body": bytes(n)}) for n in sizes)
    assert call(requests, timeout=TIMEOUT).aggregated_payload_size == sum(sizes)


def test_stream_from_the_server(channel, messages):
    call = method(
        channel, "unary_stream", "StreamingOutputCall", messages.StreamingOutputCallResponse)
    sizes = [31415, 9, MIB, 0, 58979, MIB] * 4
    replies = call(output_request(messages, *sizes), timeout=TIMEOUT)
    assert [len(reply.payload.body) for reply in replies] == sizes


def test_ping_pong(duplex, messages):
    requests = queue.SimpleQueue()
    replies = duplex(iter(requests.get, None), timeout=TIMEOUT)
    for size in [31415, 9, 2653, MIB, 58979]:
        requests.put(output_request(messages, size))
        assert len(next(replies).payload.body) == size
    requests.put(None)
    assert list(replies) == []
    assert replies.code() == grpc.StatusCode.OK


def test_half_duplex_answers_after_the_last_request(channel, messages):
    call = method(
        channel, "stream_stream", "HalfDuplexCall", messages.StreamingOutputCallResponse)
    replies = call(iter([output_request(messages, n) for n in (1, 2, 3)]), timeout=TIMEOUT)
    assert [len(reply.payload.body) for reply in replies] == [1, 2, 3]


def test_an_empty_stream_ends_well(duplex):
    replies = duplex(iter([]), timeout=TIMEOUT)
    assert list(replies) == []
    assert replies.code() == grpc.StatusCode.OK


def test_deadline(duplex, messages):
    began = time.monotonic()
    replies = duplex(iter([output_request(messages, 1, interval_us=10_000_000)]), timeout=0.3)
    with pytest.raises(grpc.RpcError) as raised:
        next(replies)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.2 < time.monotonic() - began < 3


def test_cancel_after_the_first_response(duplex, messages):
    requests = queue.SimpleQueue()
    replies = duplex(iter(requests.get, None), timeout=TIMEOUT)
    requests.put(output_request(messages, 31415))
    next(replies)
    replies.cancel()
    with pytest.raises(grpc.RpcError):
        next(replies)
    assert replies.code() == grpc.StatusCode.CANCELLED
    requests.put(None)


def test_cancelled_calls_leave_the_connection_alive(channel, unary, messages):
    call = method(
        channel, "unary_stream", "StreamingOutputCall", messages.StreamingOutputCallResponse)
    for _ in range(50):
        replies = call(output_request(messages, *[MIB] * 20), timeout=TIMEOUT)
        next(replies)
        replies.cancel()
    assert unary(messages.SimpleRequest(), timeout=TIMEOUT) == messages.SimpleResponse(payload={})


def test_a_reader_that_stops_does_not_stop_the_others(channel, unary, messages):
    call = method(
        channel, "unary_stream", "StreamingOutputCall", messages.StreamingOutputCallResponse)
    stalled = call(output_request(messages, *[MIB] * 200), timeout=TIMEOUT)
    next(stalled)
    for _ in range(20):
        reply = unary(messages.SimpleRequest(response_size=MIB), timeout=TIMEOUT)
        assert len(reply.payload.body) == MIB
    stalled.cancel()


def test_metadata_both_ways(unary, messages):
    trailing = bytes(range(256))
    reply, call = unary.with_call(
        messages.SimpleRequest(), timeout=TIMEOUT,
        metadata=[("x-grpc-test-echo-initial", "a value, with a comma"),
                  ("x-grpc-test-echo-trailing-bin", trailing),
                  ("x-grpc-test-echo-trailing-bin", b"")])
    assert ("x-grpc-test-echo-initial", "a value, with a comma") in call.initial_metadata()
    echoed = [v for k, v in call.trailing_metadata() if k == "x-grpc-test-echo-trailing-bin"]
    assert echoed == [trailing, b""]


def test_too_much_metadata_is_refused_and_the_connection_lives(unary, messages):
    metadata = [("x-many", str(n)) for n in range(100)]
    with pytest.raises(grpc.RpcError) as raised:
        unary(messages.SimpleRequest(), timeout=TIMEOUT, metadata=metadata)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    unary(messages.SimpleRequest(), timeout=TIMEOUT)


@pytest.mark.parametrize("message", [
    "plain", "", "100% of it", "\t\ntest with whitespace\r\nand Unicode BMP \u263a\U0001f608\t\n"])
def test_status_comes_as_it_was_asked_for(unary, messages, message):
    request = messages.SimpleRequest(response_status={"code": 10, "message": message})
    with pytest.raises(grpc.RpcError) as raised:
        unary(request, timeout=TIMEOUT)
    assert raised.value.code() == grpc.StatusCode.ABORTED
    assert raised.value.details() == message


def test_status_of_a_stream(duplex, messages):
    request = output_request(messages, 5)
    request.response_status.code = 2
    request.response_status.message = "asked for"
    replies = duplex(iter([request]), timeout=TIMEOUT)
    assert len(next(replies).payload.body) == 5
    with pytest.raises(grpc.RpcError) as raised:
        next(replies)
    assert raised.value.code() == grpc.StatusCode.UNKNOWN
    assert raised.value.details() == "asked for"


@pytest.mark.parametrize("path", [
    f"/{SERVICE}/UnimplementedCall", f"/{SERVICE}/", "/no.such.Service/Method", "/x"])
def test_unknown_methods(channel, path):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(path)(b"", timeout=TIMEOUT)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("body", [b"\xff", b"\x1a\x05abc", b"\x1a\x0b\x12\xff\xff\xff\xff\x0f"])
def test_garbage_is_an_invalid_argument(channel, body):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{SERVICE}/UnaryCall")(body, timeout=TIMEOUT)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_compressed_messages_are_unimplemented(unary, messages):
    request = messages.SimpleRequest(payload={"body": bytes(10000)})
    with pytest.raises(grpc.RpcError) as raised:
        unary(request, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_many_calls_at_once(unary, messages):
    futures = [unary.future(messages.SimpleRequest(response_size=n * 100), timeout=TIMEOUT)
               for n in range(500)]
    assert [len(future.result().payload.body) for future in futures] == \
        [n * 100 for n in range(500)]


def test_two_loops_serve_many_connections(messages):
    with running_server("--listen", "127.0.0.1:0", "--loops", "2") as (bound, _):
        def work():
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(bound, options) as own:
                call = method(own, "unary_unary", "UnaryCall", messages.SimpleResponse)
                for size in (0, MIB, 5):
                    reply = call(messages.SimpleRequest(response_size=size), timeout=TIMEOUT)
                    sizes.append(len(reply.payload.body))

        sizes = []
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(sizes) == sorted([0, MIB, 5] * 8)


def test_tls(tmp_path, messages):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    trusted = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
    arguments = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    with running_server("--listen", "127.0.0.1:0", *arguments) as (bound, _):
        with grpc.secure_channel(bound, trusted) as own:
            call = method(own, "unary_unary", "UnaryCall", messages.SimpleResponse)
            request = messages.SimpleRequest(response_size=MIB, payload={"body": bytes(MIB)})
            assert len(call(request, timeout=TIMEOUT).payload.body) == MIB


def test_no_descriptor_is_left_behind(messages):
    with running_server("--listen", "127.0.0.1:0") as (bound, pid):
        folder = pathlib.Path(f"/proc/{pid}/fd")
        before = len(list(folder.iterdir()))
        for _ in range(20):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(bound, options) as own:
                method(own, "unary_unary", "EmptyCall", messages.Empty)(
                    messages.Empty(), timeout=TIMEOUT)
        end = time.monotonic() + 5
        while len(list(folder.iterdir())) > before and time.monotonic() < end:
            time.sleep(0.05)
        assert len(list(folder.iterdir())) == before
