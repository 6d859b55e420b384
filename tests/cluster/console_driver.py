"""A person at a volcano's console, for console.sh: python3 console_driver.py HOST COMMAND ...

  run LINE...             the lines one after the other, each once the prompt is there; prints what
                          was answered, without telnet's bytes and prompts
  batch                   standard input as it is, then the end; prints all that comes
  login KEY LINE...       logs in first
  raw TEXT                sends TEXT (\\r \\n as in Python), prints what comes until the end
  many NUMBER             so many connections at once; prints how many got a prompt, how many were
                          told no, how many neither, and whether a prompt is there for one more
                          after they are gone
  slow PATH SIZE PID      cat of a file that is read slowly at first: the process's memory (KiB) grows
                          by how much; then all is read: prints `memory GROWTH` and `sha256 DIGEST`
  interrupt PATH          cat of a large file broken off by ^C; prints what pwd says after
  refused                 prints what somebody who is turned away is told
"""
import hashlib
import re
import socket
import sys
import time

PORT = 12002
PATIENCE = 30
PROMPT = re.compile(rb"\r\nMAGMA \[[^]]*\]:[^\r\n]*> $")


def connect(host, receive_bytes=None):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(PATIENCE)
    sock.connect((host, PORT))
    return sock


def read_to_end(sock):
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def read_to(sock, pattern):
    """All up to the pattern at the end of what has come, or the peer's end."""
    data = b""
    while not pattern.search(data[-1000:]):
        piece = sock.recv(65536)
        if not piece:
            return data, True
        data += piece
    return data, False


def plain(data):
    data = re.sub(rb"\xff[\xfb-\xfe].", b"", data)
    data = PROMPT.sub(b"", data)
    return data.replace(b"\r\n", b"\n")


def talk(sock, lines):
    for line in lines:
        sock.sendall(line.encode() + b"\r\n")
        data, ended = read_to(sock, PROMPT)
        sys.stdout.buffer.write(plain(data))
        if ended:
            return


def run(host, lines):
    sock = connect(host)
    read_to(sock, PROMPT)
    talk(sock, lines)


def login(host, key, lines):
    sock = connect(host)
    read_to(sock, PROMPT)
    sock.sendall(b"login\r\n")
    hidden, _ = read_to(sock, re.compile(rb"Network key: $"))
    if b"\xff\xfb\x01" not in hidden:
        print("the key would be shown")
    talk(sock, [key] + lines)


def batch(host):
    sock = connect(host)
    sock.sendall(sys.stdin.buffer.read())
    sock.shutdown(socket.SHUT_WR)
    sys.stdout.buffer.write(plain(read_to_end(sock)))


def raw(host, text):
    sock = connect(host)
    read_to(sock, PROMPT)
    sock.sendall(text.encode().decode("unicode_escape").encode("latin-1"))
    sys.stdout.buffer.write(read_to_end(sock))


def many(host, number):
    socks = []
    for _ in range(number):
        socks.append(connect(host))
    served = told = neither = 0
    for sock in socks:
        data = b""
        try:
            while not PROMPT.search(data) and b"too many" not in data:
                piece = sock.recv(4096)
                if not piece:
                    break
                data += piece
        except ConnectionResetError:
            pass
        if PROMPT.search(data):
            served += 1
        elif b"too many" in data:
            told += 1
        else:
            neither += 1
    for sock in socks:
        sock.close()
    again = "no"
    end = time.monotonic() + PATIENCE
    while again == "no" and time.monotonic() < end:
        sock = connect(host)
        data, ended = read_to(sock, PROMPT)
        again = "no" if ended else "yes"
    print(f"served {served} told {told} neither {neither} again {again}")


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise SystemExit("no VmRSS")


def slow(host, path, size, pid):
    size = int(size)
    sock = connect(host, 16384)
    read_to(sock, PROMPT)
    before = resident_kib(pid)
    sock.sendall(f"cat {path}\r\n".encode())
    digest = hashlib.sha256()
    got = b""
    for _ in range(20):  # a reader far slower than the volcano
        got += sock.recv(4096)
        time.sleep(0.05)
    growth = resident_kib(pid) - before
    length = 0
    while length < size:
        # A doubled byte may be cut in two: the rest of it is read first.
        while (len(got) - len(got.rstrip(b"\xff"))) % 2 == 1:
            got += sock.recv(1)
        content = got.replace(b"\xff\xff", b"\xff")[: size - length]
        digest.update(content)
        length += len(content)
        got = sock.recv(1 << 20) if length < size else b""
    print(f"memory {growth}")
    print(f"sha256 {digest.hexdigest()}")


def interrupt(host, path):
    sock = connect(host, 16384)
    read_to(sock, PROMPT)
    sock.sendall(f"cat {path}\r\n".encode())
    sock.recv(4096)
    sock.sendall(b"\x03")
    read_to(sock, re.compile(rb"\^C\r\n\r\nMAGMA [^\r\n]*> $"))
    talk(sock, ["pwd"])


def refused(host):
    sys.stdout.buffer.write(read_to_end(connect(host)))


def main():
    host, command, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    if command == "run":
        run(host, rest)
    elif command == "login":
        login(host, rest[0], rest[1:])
    elif command == "batch":
        batch(host)
    elif command == "raw":
        raw(host, rest[0])
    elif command == "many":
        many(host, int(rest[0]))
    elif command == "slow":
        slow(host, *rest)
    elif command == "interrupt":
        interrupt(host, rest[0])
    elif command == "refused":
        refused(host)
    else:
        raise SystemExit(__doc__)


main()
