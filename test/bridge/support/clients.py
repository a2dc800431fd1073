"""Clients of others against a bridge whose target echoes. Arguments: URL, Origin. Prints what each saw as JSON."""

import asyncio
import hashlib
import json
import os
import struct
import sys

import websocket
import websockets

url, origin = sys.argv[1:3]
block = os.urandom(3 * 1024 * 1024 + 11)


def digest(data):
    return hashlib.sha256(data).hexdigest()


async def asynchronous(subprotocols):
    """The package websockets: offers compression, sends a message in fragments, pings between them."""
    async with websockets.connect(url, origin=origin, subprotocols=subprotocols) as client:

        async def fragments():
            for at in range(0, 1024 * 1024, 64 * 1024):
                yield block[at : at + 64 * 1024]
                await (await client.ping())

        async def send():
            await client.send(fragments())
            for at in range(1024 * 1024, len(block), 500_000):
                await client.send(block[at : at + 500_000])

        sending = asyncio.ensure_future(send())
        got, largest = b"", 0
        while len(got) < len(block):
            message = await client.recv()
            got += message
            largest = max(largest, len(message))
        await sending
        await client.close(1000, "bye")
        return {
            "subprotocol": client.subprotocol,
            "extensions": [str(each) for each in client.extensions],
            "same": digest(got) == digest(block),
            "largest": largest,
            "close": client.close_code,
        }


def synchronous(subprotocols, misbehave):
    """The package websocket-client; returns the code that the bridge closes with."""
    client = websocket.create_connection(url, origin=origin, subprotocols=subprotocols, timeout=10)
    client.send_binary(b"SSH-2.0-")
    got = b""
    while len(got) < 8:
        got += client.recv()
    misbehave(client)
    opcode, data = client.recv_data(control_frame=True)
    while opcode != websocket.ABNF.OPCODE_CLOSE:
        opcode, data = client.recv_data(control_frame=True)
    code = struct.unpack("!H", data[:2])[0]
    client.shutdown()
    return {"echo": got.decode(), "subprotocol": client.getsubprotocol(), "close": code}


def refused(**changes):
    try:
        websocket.create_connection(url, timeout=10, **{"origin": origin, **changes}).shutdown()
        return 101
    except websocket.WebSocketBadStatusException as error:
        return error.status_code


def unmasked(client):
    client.sock.sendall(b"\x82\x05hello")


def half_a_message_then_another(client):
    client.send_frame(websocket.ABNF.create_frame(b"one", websocket.ABNF.OPCODE_BINARY, 0))
    client.send_frame(websocket.ABNF.create_frame(b"two", websocket.ABNF.OPCODE_BINARY, 1))


def fragmented_ping(client):
    client.send_frame(websocket.ABNF.create_frame(b"", websocket.ABNF.OPCODE_PING, 0))


def wrong_close_code(client):
    client.send_close(1005)


results = {
    "asynchronous": [asyncio.run(asynchronous(each)) for each in (None, ["binary"], ["base64", "binary"])],
    "text": synchronous(["binary"], lambda client: client.send("hello")),
    "unmasked": synchronous(None, unmasked),
    "interleaved": synchronous(["base64", "binary"], half_a_message_then_another),
    "fragmented ping": synchronous(None, fragmented_ping),
    "wrong close code": synchronous(None, wrong_close_code),
    "too long": synchronous(None, lambda client: client.send_binary(bytes(1024 * 1024 + 1))),
    "in order": synchronous(None, lambda client: client.send_close(1000)),
    "refused": {
        "another origin": refused(origin="https://evil.example"),
        "its own origin": refused(origin=None),
        "another host": refused(host="evil.example"),
    },
}
print(json.dumps(results))
