"""A private asyncssh server. One argument: JSON with listen, host_keys, authorized_keys, home, users, questions, options."""
import asyncio
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")  # cryptography's deprecations, on import
import asyncssh  # noqa: E402

settings = json.loads(sys.argv[1])


class Server(asyncssh.SSHServer):
    def connection_made(self, conn):
        print("connection from", conn.get_extra_info("peername"), flush=True)

    def connection_lost(self, exc):
        print("connection lost:", exc, flush=True)

    def password_auth_supported(self):
        return bool(settings["users"])

    def validate_password(self, username, password):
        return settings["users"].get(username) == password

    def kbdint_auth_supported(self):
        return bool(settings["questions"])

    def get_kbdint_challenge(self, username, lang, submethods):
        self.round = 0
        return self.challenge()

    def challenge(self):
        questions = settings["questions"][self.round]
        return f"round {self.round + 1}", "answer", "en", [(text, echo) for text, echo, _ in questions]

    def validate_kbdint_response(self, username, responses):
        expected = [answer for _, _, answer in settings["questions"][self.round]]
        if list(responses) != expected:
            return False
        self.round += 1
        return True if self.round == len(settings["questions"]) else self.challenge()


async def pump(reader, writer):
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except (OSError, asyncssh.Error):
        pass  # One side has gone; the command's status says the rest.


async def feed(process, child):
    await pump(process.stdin, child.stdin)
    child.stdin.close()


async def run_command(process):
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(process.command or "true", stdin=pipe, stdout=pipe, stderr=pipe)
    feeding = asyncio.ensure_future(feed(process, child))
    await asyncio.gather(pump(child.stdout, process.stdout), pump(child.stderr, process.stderr))
    process.exit(await child.wait())
    feeding.cancel()


async def main():
    os.chdir(settings["home"])
    listener = await asyncssh.create_server(
        Server,
        settings["host"],
        0,
        server_host_keys=settings["host_keys"],
        authorized_client_keys=settings["authorized_keys"],
        process_factory=run_command,
        encoding=None,
        sftp_factory=True,
        **settings["options"],
    )
    print("asyncssh", asyncssh.__version__, flush=True)
    print("listening on port", listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
