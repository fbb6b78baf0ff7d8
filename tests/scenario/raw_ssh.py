"""An SSH client that says what it is told to, in pieces that no other would let one have.

    peer = RawSsh(endpoint.connect())
    peer.hello()                      # the identification, both ways
    peer.key_exchange()               # curve25519-sha256, aes256-gcm@openssh.com
    peer.send(b"\\x05" + string("ssh-userauth"))
    peer.read()                       # the next packet's payload; EOFError at the end
    peer.log_in(session)              # all of the above, and the key
"""

import hashlib
import os
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ssh_endpoint import public_blob

IDENTIFICATION = b"SSH-2.0-raw"

DISCONNECT, IGNORE, UNIMPLEMENTED, SERVICE_REQUEST, SERVICE_ACCEPT = 1, 2, 3, 5, 6
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK = 50, 51, 52, 60
GLOBAL_REQUEST, REQUEST_FAILURE = 80, 82
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE = 90, 91, 92

ALGORITHMS = (
    "curve25519-sha256",
    "ssh-ed25519",
    "aes256-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-256",
    "none",
    "none",
    "",
    "",
)


def string(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(value)) + value


def mpint(value):
    raw = value.lstrip(b"\0")
    return string(b"\0" + raw if raw and raw[0] & 0x80 else raw)


def take_string(data, at):
    (length,) = struct.unpack_from(">I", data, at)
    return data[at + 4 : at + 4 + length], at + 4 + length


def channel_open(kind="session", number=0, window=1 << 20, packet=1 << 15, more=b""):
    head = struct.pack(">III", number, window, packet)
    return bytes([CHANNEL_OPEN]) + string(kind) + head + more


class Cipher:
    def __init__(self, key, iv):
        self.aead, self.iv = AESGCM(key), bytearray(iv)

    def nonce(self):
        now = bytes(self.iv)
        count = (int.from_bytes(self.iv[4:], "big") + 1) % (1 << 64)
        self.iv[4:] = count.to_bytes(8, "big")
        return now


class RawSsh:
    def __init__(self, sock, timeout=10):
        self.sock = sock
        self.sock.settimeout(timeout)
        self.sent_by, self.got_by = None, None  # ciphers
        self.session_id = None
        self.buffer = b""

    def close(self):
        self.sock.close()

    # Bytes.

    def _fill(self, count):
        while len(self.buffer) < count:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more

    def _take(self, count):
        self._fill(count)
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def hello(self, identification=IDENTIFICATION):
        self.sock.sendall(identification + b"\r\n")
        self.identification = identification
        return self.read_hello()

    def read_hello(self):
        line = b""
        while not line.endswith(b"\n"):
            line += self._take(1)
        self.peer = line.rstrip(b"\r\n")
        return self.peer

    # Packets.

    def pack(self, payload):
        """The bytes of a packet on the wire."""
        if self.sent_by is None:
            padding = 8 - (len(payload) + 5) % 8
            padding += 8 if padding < 4 else 0
            return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
        padding = 16 - (len(payload) + 1) % 16
        padding += 16 if padding < 4 else 0
        length = struct.pack(">I", len(payload) + padding + 1)
        clear = bytes([padding]) + payload + os.urandom(padding)
        return length + self.sent_by.aead.encrypt(self.sent_by.nonce(), clear, length)

    def send(self, payload):
        self.sock.sendall(self.pack(payload))

    def read(self):
        head = self._take(4)
        (length,) = struct.unpack(">I", head)
        if self.got_by is None:
            clear = self._take(length)
        else:
            body = self._take(length + 16)
            clear = self.got_by.aead.decrypt(self.got_by.nonce(), body, head)
        return clear[1 : len(clear) - clear[0]]

    def read_until(self, *kinds):
        """The first packet of one of these kinds; others are passed over."""
        while True:
            payload = self.read()
            if payload[0] in kinds:
                return payload

    def read_all(self):
        """The kinds of all packets until the end of the connection."""
        kinds = []
        try:
            while True:
                kinds.append(self.read()[0])
        except (EOFError, ConnectionError):
            return kinds

    # Key exchange.

    def kexinit(self, algorithms=ALGORITHMS):
        lists = b"".join(string(name) for name in algorithms)
        return bytes([KEXINIT]) + os.urandom(16) + lists + b"\0" + bytes(4)

    def exchange_kexinit(self, theirs=None):
        self.ours = self.kexinit()
        self.send(self.ours)
        self.theirs = theirs or self.read_until(KEXINIT)

    def key_exchange(self, theirs=None):
        """Also once more; `theirs` is their KEXINIT, if they have begun."""
        self.exchange_kexinit(theirs)
        secret = x25519.X25519PrivateKey.generate()
        public = secret.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.send(bytes([KEX_ECDH_INIT]) + string(public))
        reply = self.read_until(KEX_ECDH_REPLY)
        host_key, at = take_string(reply, 1)
        their_public, at = take_string(reply, at)
        shared = mpint(secret.exchange(x25519.X25519PublicKey.from_public_bytes(their_public)))
        parts = (self.identification, self.peer, self.ours, self.theirs, host_key, public)
        exchanged = b"".join(string(part) for part in (*parts, their_public)) + shared
        digest = hashlib.sha256(exchanged).digest()
        self.session_id = self.session_id or digest
        self.read_until(NEWKEYS)
        self.send(bytes([NEWKEYS]))
        derive = lambda letter: hashlib.sha256(  # noqa: E731
            shared + digest + letter + self.session_id
        ).digest()
        self.sent_by = Cipher(derive(b"C"), derive(b"A")[:12])
        self.got_by = Cipher(derive(b"D"), derive(b"B")[:12])

    # Logging in.

    def service(self, name="ssh-userauth"):
        self.send(bytes([SERVICE_REQUEST]) + string(name))
        return self.read_until(SERVICE_ACCEPT)

    def auth_request(self, session, signed=True, key=None):
        blob = public_blob(session.key)
        request = (
            bytes([USERAUTH_REQUEST])
            + string(session.username)
            + string("ssh-connection")
            + string("publickey")
            + bytes([signed])
            + string("ssh-ed25519")
            + string(blob)
        )
        if not signed:
            return request
        signature = (key or session.key).sign(string(self.session_id) + request)
        return request + string(string("ssh-ed25519") + string(signature))

    def log_in(self, session, identification=IDENTIFICATION):
        self.hello(identification)
        self.key_exchange()
        self.service()
        self.send(self.auth_request(session))
        assert self.read_until(USERAUTH_SUCCESS, USERAUTH_FAILURE)[0] == USERAUTH_SUCCESS
        return self
