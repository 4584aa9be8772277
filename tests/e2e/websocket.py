"""A WebSocket client of nothing but Python's standard library: a foreign judge of the server's frames.

usage: websocket.py PORT < steps, one JSON list a line:
  ["open", NAME, PATH, {"subprotocol": S, "deflate": true, "origin": O}]   prints the status, or the agreed words
  ["text", NAME, MESSAGE], ["binary", NAME, HEX], ["fragments", NAME, [TEXT, ...]], ["ping", NAME, TEXT]
  ["close", NAME, CODE], ["hear", NAME]                                     hear prints the next frame
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import zlib

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Client:
    def __init__(self, path, options):
        self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=20)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16))
        lines = ["GET %s HTTP/1.1" % path, "Host: 127.0.0.1", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key.decode()]
        if "subprotocol" in options:
            lines.append("Sec-WebSocket-Protocol: " + options["subprotocol"])
        if "origin" in options:
            lines.append("Origin: " + options["origin"])
        if "deflate" in options:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        self.socket.sendall("\r\n".join(lines + ["", ""]).encode())
        self.status = self.file.readline().split()[1].decode()
        self.headers = {}
        while line := self.file.readline().strip().decode():
            name, value = line.split(": ", 1)
            self.headers[name.lower()] = value
        if self.status == "101":
            proof = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            assert self.headers["sec-websocket-accept"] == proof
        self.deflate = "permessage-deflate" in self.headers.get("sec-websocket-extensions", "")

    def opened(self):
        words = [self.status]
        words += [self.headers["sec-websocket-protocol"]] if "sec-websocket-protocol" in self.headers else []
        return " ".join(words + (["deflate"] if self.deflate else []))

    def send(self, opcode, payload, last=True):
        first = opcode
        if self.deflate and opcode in (TEXT, BINARY) and last:
            packer = zlib.compressobj(wbits=-15)
            payload = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            first |= 0x40
        size, mask = len(payload), os.urandom(4)
        short = size if size < 126 else 126 if size < 65536 else 127
        head = bytes([first | (0x80 if last else 0), 0x80 | short])
        head += b"" if short < 126 else struct.pack("!H" if short == 126 else "!Q", size)
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def hear(self):
        head = self.file.read(2)
        if not head:
            return "end"
        first, size = head
        assert size < 128, "a server doesn't mask"
        if size >= 126:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        payload = self.file.read(size)
        assert first & 0x80, "whole frames are sent"
        if first & 0x40:
            assert self.deflate
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")
        opcode = first & 0x0F
        if opcode == CLOSE:
            return "close %d %s" % (int.from_bytes(payload[:2], "big"), payload[2:].decode())
        if opcode == TEXT:
            return "text " + payload.decode()
        return {BINARY: "binary ", PING: "ping ", PONG: "pong "}[opcode] + payload.hex()


PORT = int(sys.argv[1])
clients = {}
for line in sys.stdin:
    step, name, *more = json.loads(line)
    if step == "open":
        clients[name] = Client(more[0], more[1])
        print(name, clients[name].opened(), flush=True)
        continue
    client = clients[name]
    if step == "text":
        client.send(TEXT, more[0].encode())
    elif step == "binary":
        client.send(BINARY, bytes.fromhex(more[0]))
    elif step == "fragments":
        for index, piece in enumerate(more[0]):
            last = index == len(more[0]) - 1
            client.send(MORE if index else TEXT, piece.encode(), last)
    elif step == "ping":
        client.send(PING, more[0].encode())
    elif step == "close":
        client.send(CLOSE, struct.pack("!H", more[0]))
    elif step == "hear":
        print(name, client.hear(), flush=True)
