"""Writes files and logs what was acknowledged; verifies the log against the files.

  acknowledged_writer.py write DIR LOG    until LOG.stop exists; exit code 1 on any error
  acknowledged_writer.py verify DIR LOG

Three writers. Each line of LOG is an operation whose system call had returned:
  append N    line N was appended to DIR/append
  create N    DIR/files/N was made with content(N)
  rename N    it was then renamed to DIR/files/rN
  remove N    DIR/files/N was made and removed
  write N     block N of DIR/blocks was written with content(N), padded
"""
import os
import sys
import threading

BLOCK = 5000  # not a divisor of any limit of ours
BLOCKS = 400  # 2 MB: past the small file limit


def content(number):
    line = b"%d magma " % number
    return line * (1 + number * 37 % 3000 // len(line))


def block(number, generation):
    return (b"%d.%d " % (number, generation) * BLOCK)[:BLOCK]


class Log:
    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def add(self, text):
        with self.lock:
            self.file.write(text.encode() + b"\n")


def write_files(top, log, stop):
    number = 0
    while not stop():
        path = f"{top}/files/{number}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        data = content(number)
        assert os.write(fd, data) == len(data)
        os.close(fd)
        if number % 5 == 4:
            os.unlink(path)
            log.add(f"remove {number}")
        elif number % 5 == 3:
            os.rename(path, f"{top}/files/r{number}")
            log.add(f"rename {number}")
        else:
            log.add(f"create {number}")
        number += 1


def write_appends(top, log, stop):
    fd = os.open(f"{top}/append", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    number = 0
    while not stop():
        line = b"line %d\n" % number
        assert os.write(fd, line) == len(line)
        log.add(f"append {number}")
        number += 1
    os.close(fd)


def write_blocks(top, log, stop):
    fd = os.open(f"{top}/blocks", os.O_RDWR | os.O_CREAT, 0o644)
    step = 0
    while not stop():
        number = step * 7 % BLOCKS  # 7 and 400 have no common factor: all of them in turn
        assert os.pwrite(fd, block(number, step), number * BLOCK) == BLOCK
        log.add(f"write {step}")
        step += 1
    os.close(fd)


def write(top, log_path):
    os.makedirs(f"{top}/files")
    log = Log(log_path)
    errors = []

    def stop():
        return bool(errors) or os.path.exists(log_path + ".stop")

    def guarded(writer):
        try:
            writer(top, log, stop)
        except BaseException as error:
            errors.append(f"{writer.__name__}: {error!r}")

    threads = [
        threading.Thread(target=guarded, args=(w,))
        for w in (write_files, write_appends, write_blocks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        print(error)
    print("done", log.file.tell(), "bytes of log")
    return 1 if errors else 0


def verify(top, log_path):
    wrong = []
    last = {"append": -1, "write": -1, "files": -1}
    files = {}
    with open(log_path) as log:
        for line in log:
            what, number = line.split()
            number = int(number)
            last["files" if what in ("create", "rename", "remove") else what] = number
            if what == "create":
                files[str(number)] = number
            elif what == "rename":
                files[f"r{number}"] = number
    if min(last.values()) < 0:
        wrong.append(f"a writer did nothing: {last}")
    lines = open(f"{top}/append", "rb").read()
    if lines != b"".join(b"line %d\n" % n for n in range(last["append"] + 1)):
        wrong.append(f"append: {len(lines)} bytes are not lines 0 to {last['append']}")
    names = os.listdir(f"{top}/files")
    if len(names) != len(set(names)):
        wrong.append("files: a name is listed twice")
    for name in sorted(set(files) - set(names)):
        wrong.append(f"files: {name} is missing")
    for name in sorted(set(names) - set(files)):
        wrong.append(f"files: {name} is too much")
    for name in set(files) & set(names):
        if open(f"{top}/files/{name}", "rb").read() != content(files[name]):
            wrong.append(f"files: {name} has other bytes")
    newest = {}
    for step in range(last["write"] + 1):
        newest[step * 7 % BLOCKS] = step
    with open(f"{top}/blocks", "rb") as file:
        for number, step in newest.items():
            file.seek(number * BLOCK)
            if file.read(BLOCK) != block(number, step):
                wrong.append(f"blocks: block {number} is not that of step {step}")
    for text in wrong[:20]:
        print(text)
    print(f"{len(wrong)} wrong; last {last}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit({"write": write, "verify": verify}[sys.argv[1]](sys.argv[2], sys.argv[3]))
