"""towline.v1.Files: what is there, and what can be done with it."""

import os
import pwd

import grpc
import pytest
import towline_api
from conftest import fails

API = towline_api.load()
NAME = "towline.v1.{}".format
FILE, DIRECTORY, SYMLINK, OTHER = 1, 2, 3, 4


class Operations:
    """Calls on a sandbox: ops.StatFile(path="a").file"""

    def __init__(self, ready):
        self.ready = ready
        self.channel = ready.gateway.channel()

    def __getattr__(self, method):
        call = API.method(self.channel, NAME("Files/" + method))
        request = API[NAME(method + "Request")]

        def run(timeout=60, sandbox=self.ready.name, **fields):
            return call(request(sandbox=sandbox, **fields), timeout=timeout)

        return run


@pytest.fixture
def ops(ready):
    return Operations(ready)


def test_stat_a_file(ops, ready):
    path = ready.workdir / "a.txt"
    path.write_bytes(b"12345")
    path.chmod(0o4751)
    os.utime(path, ns=(1, 1_600_000_000_000_000_007))
    file = ops.StatFile(path="a.txt").file
    assert (file.name, file.path, file.type) == ("a.txt", "a.txt", FILE)
    assert (file.size_bytes, file.mode) == (5, 0o4751)
    assert (file.uid, file.gid) == (os.getuid(), os.getgid())
    assert file.owner == pwd.getpwuid(os.getuid()).pw_name
    assert (file.modified_time.seconds, file.modified_time.nanos) == (1_600_000_000, 7)
    before = file.etag
    path.write_bytes(b"54321")
    assert ops.StatFile(path=str(path)).file.etag != before != ""


def test_the_etag_is_that_of_a_download(ops, ready):
    (ready.workdir / "a").write_bytes(b"x")
    download = API.method(ops.channel, "openshell.v1.OpenShell/DownloadFile")
    request = API["openshell.v1.DownloadFileRequest"](sandbox=ready.name, remote_path="a")
    header = next(download(request, timeout=10)).header
    assert header.etag == ops.StatFile(path="a").file.etag


def test_stat_other_kinds(ops, ready):
    """None of them is opened, so none can keep us waiting."""
    (ready.workdir / "dir").mkdir()
    os.mkfifo(ready.workdir / "pipe")
    (ready.workdir / "gone").symlink_to("nowhere")
    (ready.workdir / "link").symlink_to("dir")
    assert ops.StatFile(path="dir/").file.type == DIRECTORY
    assert ops.StatFile(path="pipe").file.type == OTHER
    assert ops.StatFile(path="/dev/null").file.type == OTHER
    assert ops.StatFile(path="link").file.type == DIRECTORY
    link = ops.StatFile(path="link", no_follow=True).file
    assert (link.type, link.symlink_target) == (SYMLINK, "dir")
    assert ops.StatFile(path="gone", no_follow=True).file.symlink_target == "nowhere"
    with fails(grpc.StatusCode.NOT_FOUND, "gone"):
        ops.StatFile(path="gone")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "path: empty"):
        ops.StatFile()
    with fails(grpc.StatusCode.NOT_FOUND, "no-such"):
        ops.StatFile(sandbox="no-such", path="a")
