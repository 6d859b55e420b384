"""Maildir delivery and reading, for maildir.sh.

  maildir.py deliver MAILDIR WHO COUNT LOG   COUNT messages: written in tmp, synced, linked to new,
                                             removed from tmp; a line in LOG for each
  maildir.py read MAILDIR WHO LOG            moves messages from new to cur until MAILDIR.stop
                                             exists and new is empty; a line in LOG for each moved
  maildir.py verify MAILDIR DELIVERED... -- READ...   all are in cur, once
  maildir.py moved_once READ...              and each by one reader
"""
import hashlib
import os
import sys
import time


def message(name):
    digest = hashlib.md5(name.encode()).hexdigest()
    size = int(digest[:4], 16) % 9000 + (60000 if digest[4] == "0" else 0)  # some are large
    body = (digest + "\n").encode() * (size // 33 + 1)
    return f"Message-ID: <{name}>\nX-Sum: {hashlib.sha256(body).hexdigest()}\n\n".encode() + body


def append(fd, text):
    os.write(fd, text.encode() + b"\n")


def deliver(maildir, who, count, log_path):
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in range(int(count)):
        name = f"{number}.{who}"
        tmp = f"{maildir}/tmp/{name}"
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        data = message(name)
        assert os.write(fd, data) == len(data)
        os.fsync(fd)
        os.close(fd)
        os.link(tmp, f"{maildir}/new/{name}")
        os.unlink(tmp)
        append(log, name)


def read(maildir, who, log_path):
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while True:
        is_last = os.path.exists(maildir + ".stop")
        names = os.listdir(f"{maildir}/new")
        if len(names) != len(set(names)):
            raise AssertionError(f"a name is listed twice: {sorted(names)}")
        for name in names:
            target = f"{maildir}/cur/{name}:2,S"
            try:
                os.rename(f"{maildir}/new/{name}", target)
            except FileNotFoundError:
                continue  # another reader was faster
            with open(target, "rb") as file:
                if file.read() != message(name):
                    raise AssertionError(f"{name}: other bytes")
            append(log, name)
        if is_last and not names:
            return
        if not names:
            time.sleep(0.01)


def verify(maildir, delivered_logs, read_logs):
    def lines(logs):
        return [line.strip() for log in logs for line in open(log)]

    delivered, got = lines(delivered_logs), lines(read_logs)
    wrong = []
    if len(set(delivered)) != len(delivered):
        wrong.append("delivered twice by one process")
    for name in sorted(set(delivered) - set(got)):
        wrong.append(f"{name} was lost")
    for name in sorted(set(got) - set(delivered)):
        wrong.append(f"{name} was read, never delivered")
    names = os.listdir(f"{maildir}/cur")
    if sorted(names) != sorted(name + ":2,S" for name in set(delivered)):
        wrong.append(f"cur has {len(names)} messages, {len(delivered)} were delivered")
    for folder in ("new", "tmp"):
        wrong += [f"{folder}/{name} is left" for name in os.listdir(f"{maildir}/{folder}")]
    for name in names:
        path = f"{maildir}/cur/{name}"
        if os.stat(path).st_nlink != 1:
            wrong.append(f"cur/{name} has {os.stat(path).st_nlink} links")
        with open(path, "rb") as file:
            if file.read() != message(name[:-4]):
                wrong.append(f"cur/{name} has other bytes")
    for text in wrong[:20]:
        print(text)
    print(f"{len(delivered)} delivered, {len(got)} read")
    return 1 if wrong else 0


def moved_once(read_logs):
    got = [line.strip() for log in read_logs for line in open(log)]
    twice = sorted({name for name in got if got.count(name) > 1})
    print(f"{len(twice)} messages were moved more than once: {twice[:5]}")
    return 1 if twice else 0


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "moved_once":
        sys.exit(moved_once(rest))
    if what == "verify":
        at = rest.index("--")
        sys.exit(verify(rest[0], rest[1:at], rest[at + 1:]))
    {"deliver": deliver, "read": read}[what](*rest)
