#!/usr/bin/env python3
"""Stands where ssh would: joins standard input and output to Files.Sftp or Files.Scp.

    sftp -D 'sftp_bridge.py'                 speaks SFTP on its standard input and output
    scp -S sftp_bridge.py a sandbox:b        is called as ssh is, with its options
    sshfs -o ssh_command=sftp_bridge.py ...  likewise

The gateway's address and the sandbox are $BRIDGE_GATEWAY and $BRIDGE_SANDBOX.
"""

import contextlib
import os
import queue
import shlex
import sys
import threading

import grpc
import towline_api

CHUNK = 256 << 10
MESSAGES_MAX = 16  # of what has been read and not yet sent


def remote_command(arguments):
    """What the far end shall run: ssh's options and its host left out."""
    takes_value = set("BbcDEeFIiJLlmOopQRSWw")
    rest = list(arguments)
    subsystem = False
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--":
            break
        if option[1] in takes_value:
            if len(option) == 2:
                rest.pop(0)
        else:
            subsystem |= "s" in option
    words = rest[1:]
    # sshfs has -s at the end.
    subsystem |= "-s" in words
    words = [word for word in words if word != "-s"]
    return subsystem, " ".join(words)


def scp_init(api, command):
    """scp -r -p -t TARGET"""
    words = shlex.split(command)
    letters = "".join(w[1:] for w in words[1:] if w.startswith("-") and w != "--")
    at = words.index("--") + 1 if "--" in words else 1 + sum(w.startswith("-") for w in words[1:])
    return api["towline.v1.ScpInit"](
        sandbox=os.environ["BRIDGE_SANDBOX"],
        sink="t" in letters,
        recursive="r" in letters,
        preserve="p" in letters,
        directory="d" in letters,
        paths=[os.fsencode(word) for word in words[at:]],
    )


class Messages:
    """init, then what comes on a descriptor; a thread reads, and no more than a little ahead."""

    def __init__(self, request, init, source):
        self.request, self.source = request, source
        self.queue = queue.Queue(MESSAGES_MAX)
        self.queue.put(request(init=init))
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while data := os.read(self.source, CHUNK):
            self.queue.put(self.request(data=data))
        self.queue.put(None)

    def __iter__(self):
        while (message := self.queue.get()) is not None:
            yield message


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main():
    api = towline_api.load()
    subsystem, command = remote_command(sys.argv[1:])
    is_scp = not subsystem and command.startswith("scp")
    if is_scp:
        init, request = scp_init(api, command), api["towline.v1.ScpRequest"]
    else:
        init = api["towline.v1.SftpInit"](sandbox=os.environ["BRIDGE_SANDBOX"])
        request = api["towline.v1.SftpRequest"]
    code = 0
    with grpc.insecure_channel(os.environ["BRIDGE_GATEWAY"]) as channel:
        call = api.method(channel, "towline.v1.Files/" + ("Scp" if is_scp else "Sftp"))
        try:
            for answer in call(iter(Messages(request, init, 0))):
                if is_scp and answer.HasField("exit"):
                    code = answer.exit.exit_code
                else:
                    write_all(1, answer.data)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            code = 255
        except BrokenPipeError:
            code = 255
    with contextlib.suppress(OSError):
        os.close(1)
    os._exit(code)  # the reading thread may be in the middle of it


main()
