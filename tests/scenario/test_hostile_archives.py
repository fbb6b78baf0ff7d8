"""What hostile archives do to those who unpack them: in a sandbox, and here."""

import concurrent.futures
import stat

import grpc
import hostile
import pytest
import towline_api
from test_transfer import Files
from towline_cli import Cli

API = towline_api.load()
SERVICE = "openshell.v1.OpenShell"


def message(name, **fields):
    return API[f"openshell.v1.{name}"](**fields)


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


def check(row, target, outside, beside):
    """The good is there, the bad is not, and nothing outside has changed."""
    for name, content in row.files.items():
        assert (target / name).read_bytes() == content, name
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1
    assert sorted(path.name for path in target.parent.iterdir()) == beside
    for path in target.rglob("*"):
        info = path.lstat()
        assert not info.st_mode & 0o7000
        assert stat.S_IFMT(info.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        assert "towline" not in path.name
        if path.is_symlink():
            assert path.resolve().is_relative_to(target.resolve())


def prepare(folder, row):
    """A directory of its own for each, with something beside it that is none of its business."""
    (folder / row.name / "tree").mkdir(parents=True)
    (folder / row.name / "secret").write_text("secret")
    return folder / row.name / "tree"


def check_all(outside, unpack):
    failed = []
    rows = hostile.rows(outside)
    assert len(rows) >= 40
    for row in rows:
        try:
            check(row, unpack(row), outside, ["secret", "tree"])
        except AssertionError as error:
            failed.append(f"{row.name}: {error}")
    assert not failed, "\n".join(failed)


def test_in_a_sandbox(ready, outside):
    files = Files(ready)

    def unpack(row):
        target = prepare(ready.workdir, row)
        try:
            files.upload(f"{row.name}/tree", row.data, is_archive=True)
            assert row.ok, "no error"
        except grpc.RpcError as error:
            assert not row.ok and row.says in error.details(), error.details()
            assert error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert not set(error.details()) & set("\x1b\n\0")
        return target

    check_all(outside, unpack)


class Double(grpc.GenericRpcHandler):
    """A gateway whose sandbox means harm: whatever is downloaded is the archive."""

    archive = b""

    def service(self, details):
        if details.method == "/towline.v1.Files/StatFile":
            handler, call, request = grpc.unary_unary_rpc_method_handler, self.stat, "towline.v1.StatFileRequest"
        elif details.method == f"/{SERVICE}/DownloadFile":
            handler, call, request = grpc.unary_stream_rpc_method_handler, self.download, "openshell.v1.DownloadFileRequest"
        else:
            return None
        return handler(
            call,
            request_deserializer=API[request].FromString,
            response_serializer=lambda m: m.SerializeToString(),
        )

    def stat(self, request, context):
        return API["towline.v1.StatFileResponse"](file={"name": "x", "type": "FILE_TYPE_DIRECTORY"})

    def download(self, request, context):
        yield message("DownloadFileResponse", header={"is_archive": True})
        for at in range(0, len(self.archive), 1000):
            yield message("DownloadFileResponse", chunk=self.archive[at : at + 1000])
        # Its receipt says what the client will find, so that only the archive speaks.
        yield message("DownloadFileResponse", trailer={"bytes": len(self.archive), "entries": self.entries})


@pytest.fixture
def double():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    handler = Double()
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler
    server.stop(None).wait()


def test_at_the_client(double, outside, tmp_path):
    cli = Cli(tmp_path / "home", OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{double.port}")

    def unpack(row):
        target = prepare(cli.here, row)
        double.archive = row.data
        double.entries = row.entries or len(row.files)
        done = cli("sandbox", "download", "-T", "box", "x", target, code=0 if row.ok else 1)
        assert row.says in done.err
        assert "\x1b" not in done.err and "\0" not in done.err
        return target

    check_all(outside, unpack)
