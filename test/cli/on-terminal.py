"""Runs a command on a terminal of its own: plays the steps given as JSON on stdin, prints what came out as JSON.

A step waits for `expect` (a regular expression) in what was printed since the last step, then types `send`.
"""
import fcntl, json, os, pty, re, select, struct, sys, termios, time

job = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.execvpe(job["argv"][0], job["argv"], job["env"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
deadline = time.monotonic() + job["timeoutMs"] / 1000
steps = list(job["steps"])
output, seen, problem = b"", 0, None
while True:
    if steps:
        found = re.search(steps[0]["expect"].encode(), output[seen:], re.S)
        if found:
            seen += found.end()
            os.write(terminal, steps.pop(0)["send"].encode())
            continue
    left = deadline - time.monotonic()
    if left <= 0:
        problem = "timed out" + (f" waiting for {steps[0]['expect']}" if steps else "")
        os.kill(pid, 9)
        break
    if not select.select([terminal], [], [], left)[0]:
        continue
    try:
        chunk = os.read(terminal, 65536)
    except OSError:  # EIO: the other end is closed.
        break
    if not chunk:
        break
    output += chunk
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
json.dump({"output": output.decode("utf-8", "replace"), "code": status, "problem": problem}, sys.stdout)
