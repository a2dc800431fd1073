"""A private paramiko server. One argument: JSON with host, host_keys, authorized_keys, home, user, users, questions, security."""
import base64
import json
import os
import socket
import subprocess
import sys
import threading
import warnings

warnings.simplefilter("ignore")  # cryptography's deprecations, on import
import paramiko  # noqa: E402
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface  # noqa: E402

settings = json.loads(sys.argv[1])


def authorized_blobs():
    with open(settings["authorized_keys"]) as lines:
        return [base64.b64decode(line.split()[1]) for line in lines if line.strip()]


class Files(SFTPServerInterface):
    """The real file system; relative paths start in the home folder. Faults are paramiko's own."""

    def canonicalize(self, path):
        return os.path.normpath(os.path.join(settings["home"], path))

    def real(self, path):
        return os.path.join(settings["home"], path)

    def attempt(self, action, *arguments):
        try:
            action(*arguments)
            return paramiko.SFTP_OK
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)

    def list_folder(self, path):
        try:
            path = self.real(path)
            names = os.listdir(path)
            return [SFTPAttributes.from_stat(os.lstat(os.path.join(path, name)), name) for name in names]
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)

    def attributes(self, how, path):
        try:
            return SFTPAttributes.from_stat(how(self.real(path)))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)

    def stat(self, path):
        return self.attributes(os.stat, path)

    def lstat(self, path):
        return self.attributes(os.lstat, path)

    def open(self, path, flags, attr):
        path = self.real(path)
        mode = attr.st_mode if attr.st_mode is not None else 0o666
        try:
            number = os.open(path, flags | getattr(os, "O_BINARY", 0), mode)
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)
        if flags & os.O_WRONLY:
            access = "ab" if flags & os.O_APPEND else "wb"
        elif flags & os.O_RDWR:
            access = "a+b" if flags & os.O_APPEND else "r+b"
        else:
            access = "rb"
        handle = Handle(flags)
        handle.filename = path
        handle.readfile = handle.writefile = os.fdopen(number, access)
        return handle

    def remove(self, path):
        return self.attempt(os.remove, self.real(path))

    def rename(self, oldpath, newpath):
        if os.path.lexists(self.real(newpath)):
            return paramiko.SFTP_FAILURE
        return self.attempt(os.rename, self.real(oldpath), self.real(newpath))

    def posix_rename(self, oldpath, newpath):
        return self.attempt(os.replace, self.real(oldpath), self.real(newpath))

    def mkdir(self, path, attr):
        return self.attempt(os.mkdir, self.real(path))

    def rmdir(self, path):
        return self.attempt(os.rmdir, self.real(path))

    def chattr(self, path, attr):
        return self.attempt(SFTPServer.set_file_attr, self.real(path), attr)

    def symlink(self, target_path, path):
        return self.attempt(os.symlink, target_path, self.real(path))

    def readlink(self, path):
        try:
            return os.readlink(self.real(path))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)


class Handle(SFTPHandle):
    def stat(self):
        return SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    def chattr(self, attr):
        try:
            SFTPServer.set_file_attr(self.filename, attr)
            return paramiko.SFTP_OK
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)


class Server(paramiko.ServerInterface):
    round = 0

    def get_allowed_auths(self, username):
        methods = ["publickey"]
        if settings["users"]:
            methods.append("password")
        if settings["questions"]:
            methods.append("keyboard-interactive")
        return ",".join(methods)

    def check_auth_publickey(self, username, key):
        known = username == settings["user"] and key.asbytes() in authorized_blobs()
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_auth_password(self, username, password):
        right = settings["users"].get(username) == password
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def challenge(self):
        query = paramiko.InteractiveQuery(f"round {self.round + 1}", "answer")
        for text, echo, _ in settings["questions"][self.round]:
            query.add_prompt(text, echo)
        return query

    def check_auth_interactive(self, username, submethods):
        if not settings["questions"]:
            return paramiko.AUTH_FAILED
        self.round = 0
        return self.challenge()

    def check_auth_interactive_response(self, responses):
        if list(responses) != [answer for _, _, answer in settings["questions"][self.round]]:
            return paramiko.AUTH_FAILED
        self.round += 1
        return paramiko.AUTH_SUCCESSFUL if self.round == len(settings["questions"]) else self.challenge()

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=self.execute, args=(channel, command), daemon=True).start()
        return True

    def execute(self, channel, command):
        done = subprocess.run(command, shell=True, cwd=settings["home"], capture_output=True, stdin=subprocess.DEVNULL)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


def serve(connection):
    transport = paramiko.Transport(connection)
    options = transport.get_security_options()
    for name, values in settings["security"].items():
        setattr(options, name, tuple(values))
    for file in settings["host_keys"]:
        transport.add_server_key(paramiko.PKey.from_path(file) if hasattr(paramiko.PKey, "from_path") else load(file))
    transport.set_subsystem_handler("sftp", SFTPServer, Files)
    try:
        transport.start_server(server=Server())
        transport.join()
    except (paramiko.SSHException, EOFError, OSError) as error:
        print("connection lost:", error, flush=True)
    finally:
        transport.close()


def load(file):
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(file)
        except paramiko.SSHException:
            continue
    raise SystemExit(f"{file} holds no key that paramiko knows")


listener = socket.create_server((settings["host"], 0), backlog=64)
print("paramiko", paramiko.__version__, flush=True)
print("listening on port", listener.getsockname()[1], flush=True)
while True:
    accepted, address = listener.accept()
    print("connection from", address, flush=True)
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
