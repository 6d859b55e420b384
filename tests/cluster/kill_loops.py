"""Loops of one kind of operation, each of which is several steps in Magma, for kill_loops.sh.

  kill_loops.py run KIND DIR LOG SEED   in the empty DIR, until LOG.stop exists; exit code 1 on any
                                        error of a system call and on any wrong result
  kill_loops.py verify KIND DIR LOG SEED
                                        DIR is as after the operations that LOG says are done, and
                                        the one that was begun has its old or its new state
  kill_loops.py count LOG               how many operations are done

The operations follow from the seed, so the log is two numbers: those begun and those done. A loop
that was killed amid an operation, mount and all, can thus be verified.

Kinds:
  rename    moves across three directories: onto a free name, onto another file, an exchange, a
            directory with files in it
  link      names made and removed across directories; the number of links
  spill     writes that carry files of 10 KB past the limit of small files
  truncate  of files of several chunks, both ways, and writes at their borders
  unlink    of open files, which go on being written and read
"""
import ctypes
import errno
import hashlib
import os
import random
import stat
import struct
import sys
import time

RENAME_EXCHANGE = 2
MB = 1 << 20
CHUNK = 64 * MB
libc = ctypes.CDLL(None, use_errno=True)


class Wrong(Exception):
    pass


def need(condition, text):
    if not condition:
        raise Wrong(text)


def exchange(a, b):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), a)


def content(tag, size):
    line = hashlib.md5(str(tag).encode()).hexdigest().encode() + b"\n"
    return (line * (size // len(line) + 1))[:size]


def put(path, data, flags=os.O_EXCL):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    need(os.write(fd, data) == len(data), f"{path}: short write")
    os.close(fd)


def get(path):
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def is_absent(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False


def listed(path):
    names = os.listdir(path)
    need(len(names) == len(set(names)), f"{path}: a name is listed twice: {sorted(names)}")
    return set(names)


class Loop:
    final = False  # read all there is

    def is_amid(self, op):
        return False

    def quick(self, op):
        if self.rng.randrange(40) == 0:
            self.check()


class Rename(Loop):
    """model: path -> tag. Files a..f of 30 bytes to 90 KB, directories with one file."""

    TOPS = ("x", "y", "z")

    def __init__(self, rng):
        self.rng = rng
        self.model = {}
        self.dirs = {}
        for number in range(12):
            self.model[f"{self.TOPS[number % 3]}/f{number}"] = number
        for number in range(3):
            self.dirs[f"{self.TOPS[number]}/d{number}"] = number

    @staticmethod
    def size(tag):
        return (30, 3000, 17000, 90000)[tag % 4]

    def make(self):
        for top in self.TOPS:
            os.mkdir(top)
        for path, tag in self.model.items():
            put(path, content(tag, self.size(tag)))
        for path, tag in self.dirs.items():
            os.mkdir(path)
            put(f"{path}/file", content(f"dir {tag}", 100))

    def free(self, top, sort):
        for number in range(100):
            path = f"{top}/{sort}{number}"
            if path not in self.model and path not in self.dirs:
                return path

    def choose(self):
        rng = self.rng
        what = rng.choice(("move", "move", "replace", "exchange", "dir", "dir exchange", "new"))
        files = sorted(self.model)
        if what == "new" or len(files) < 6:
            return ("new", self.free(rng.choice(self.TOPS), "f"), rng.randrange(10**6))
        if what == "move":
            a = rng.choice(files)
            return ("move", a, self.free(rng.choice([t for t in self.TOPS if t != a[0]]), "f"))
        if what in ("replace", "exchange"):
            a = rng.choice(files)
            others = [b for b in files if b[0] != a[0]]
            if not others or what == "replace" and len(files) < 9:
                return ("move", a, self.free(rng.choice([t for t in self.TOPS if t != a[0]]), "f"))
            return (what, a, rng.choice(others))
        a = rng.choice(sorted(self.dirs))
        if what == "dir":
            return ("move", a, self.free(rng.choice([t for t in self.TOPS if t != a[0]]), "d"))
        others = [b for b in files if b[0] != a[0]]  # a directory and a file change places
        return ("exchange", a, rng.choice(others)) if others else ("move", a, self.free(a[0], "d"))

    def apply(self, op):
        what, a, b = op
        if what == "new":
            self.model[a] = b
            return
        table = self.dirs if a in self.dirs else self.model
        tag = table.pop(a)
        if what == "exchange":
            other = self.dirs if b in self.dirs else self.model
            other_tag = other.pop(b)
            other[a] = other_tag
        elif b in self.model:
            del self.model[b]
        table[b] = tag

    def do(self, op):
        what, a, b = op
        if what == "new":
            put(a, content(b, self.size(b)))
        elif what == "exchange":
            inos = os.lstat(a).st_ino, os.lstat(b).st_ino
            exchange(a, b)
            need((os.lstat(b).st_ino, os.lstat(a).st_ino) == inos, f"{op}: not exchanged")
        else:
            ino = os.lstat(a).st_ino
            os.rename(a, b)
            need(is_absent(a), f"{op}: the old name is there")
            need(os.lstat(b).st_ino == ino, f"{op}: another file")

    def check(self, op=None):
        want = set(self.model) | set(self.dirs)
        got = {f"{top}/{name}" for top in self.TOPS for name in listed(top)}
        partly = op[1] if op and op[0] == "new" else None  # made, not yet written
        need(got == want, f"missing {sorted(want - got)}, too much {sorted(got - want)}")
        for path, tag in self.model.items():
            data, wanted = get(path), content(tag, self.size(tag))
            if path == partly:
                need(wanted.startswith(data), f"{path}: other bytes")
            else:
                need(data == wanted, f"{path}: {len(data)} bytes, not those of {tag}")
            need(os.stat(path).st_nlink == 1, f"{path}: {os.stat(path).st_nlink} links")
        for path, tag in self.dirs.items():
            need(listed(path) == {"file"}, f"{path}: {os.listdir(path)}")
            need(get(f"{path}/file") == content(f"dir {tag}", 100), f"{path}/file: other bytes")
        for top in self.TOPS:
            links = 2 + sum(path[0] == top for path in self.dirs)
            need(os.stat(top).st_nlink == links, f"{top}: {os.stat(top).st_nlink} links")


class Link(Loop):
    """model: path -> number of the file."""

    TOPS = ("p", "q", "r")

    def __init__(self, rng):
        self.rng = rng
        self.model = {f"p/n{number}": number for number in range(6)}
        self.next = 6

    def make(self):
        for top in self.TOPS:
            os.mkdir(top)
        for path, number in self.model.items():
            put(path, content(number, 200 + number % 2 * 40000))

    def choose(self):
        rng, paths = self.rng, sorted(self.model)
        what = rng.choice(("link", "link", "unlink", "replace"))
        if len(paths) < 8:
            what = "link"
        if len(paths) > 40:
            what = "unlink"
        a = rng.choice(paths)
        if what == "unlink":
            if sum(number == self.model[a] for number in self.model.values()) == 1:
                return ("link", a, self.free(rng.choice(self.TOPS)))
            return ("unlink", a, None)
        if what == "replace":  # rename onto a name of another file, or of the same (nothing then)
            b = rng.choice([path for path in paths if path != a])
            if sum(number == self.model[b] for number in self.model.values()) > 1:
                return ("replace", a, b)
        return ("link", a, self.free(rng.choice([t for t in self.TOPS if t != a[0]])))

    def free(self, top):
        return next(p for p in (f"{top}/n{i}" for i in range(1000)) if p not in self.model)

    def apply(self, op):
        what, a, b = op
        if what == "link":
            self.model[b] = self.model[a]
        elif what == "unlink":
            del self.model[a]
        elif self.model[a] != self.model[b]:
            self.model[b] = self.model.pop(a)

    def do(self, op):
        what, a, b = op
        if what == "link":
            os.link(a, b)
            need(os.lstat(a).st_ino == os.lstat(b).st_ino, f"{op}: another file")
        elif what == "unlink":
            os.unlink(a)
            need(is_absent(a), f"{op}: it is there")
        else:
            os.rename(a, b)

    def check(self, op=None):
        got = {f"{top}/{name}" for top in self.TOPS for name in listed(top)}
        want = set(self.model)
        need(got == want, f"missing {sorted(want - got)}, too much {sorted(got - want)}")
        inos = {}
        for path, number in self.model.items():
            info = os.lstat(path)
            links = sum(other == number for other in self.model.values())
            need(info.st_nlink == links, f"{path}: {info.st_nlink} links, not {links}")
            need(inos.setdefault(number, info.st_ino) == info.st_ino, f"{path}: another file")
            need(get(path) == content(number, 200 + number % 2 * 40000), f"{path}: other bytes")


class Spill(Loop):
    """model: path -> (tag, size). 10 KB are made, then carried to 100 KB by one write."""

    def __init__(self, rng):
        self.rng = rng
        self.model = {}
        self.next = 0

    def make(self):
        os.mkdir("s")

    def choose(self):
        small = sorted(path for path, (_, size) in self.model.items() if size < 100000)
        if len(self.model) > 25:
            return ("unlink", self.rng.choice(sorted(self.model)), 0)
        if small and self.rng.randrange(2):
            return ("grow", self.rng.choice(small), 0)
        self.next += 1
        return ("create", f"s/{self.next}", self.rng.choice((10000, 0, 16384, 65536, 100000)))

    def apply(self, op):
        what, path, size = op
        if what == "create":
            self.model[path] = (path, size)
        elif what == "grow":
            self.model[path] = (path, 100000)
        else:
            del self.model[path]

    def do(self, op):
        what, path, size = op
        if what == "create":
            put(path, content(path, size))
        elif what == "unlink":
            os.unlink(path)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            data = content(path, 100000)[self.model[path][1]:]
            need(os.write(fd, data) == len(data), f"{path}: short write")
            os.close(fd)

    def check(self, op=None):
        got = {f"s/{name}" for name in listed("s")}
        want = set(self.model)
        need(got == want, f"missing {sorted(want - got)}, too much {sorted(got - want)}")
        for path, (tag, size) in self.model.items():
            data = get(path)
            # The write on the way when the mount died: a program's write may be cut short by that.
            if op and path == op[1]:
                need(content(tag, size).startswith(data), f"{path}: other bytes")
            else:
                need(data == content(tag, size), f"{path}: {len(data)} bytes, not {size} of {tag}")

    def quick(self, op):
        if op[0] == "grow":
            need(get(op[1]) == content(op[1], 100000), f"{op[1]}: other bytes after the write")
        if self.rng.randrange(40) == 0:
            self.check()


class Truncate(Loop):
    """model: file -> [size, {offset: tag}]: blocks of 5000 bytes near the chunk borders."""

    BLOCK = 5000
    # None overlaps another; some cross a border of chunks, of small files, of pages.
    PLACES = (0, 14000, 64 * 1024 - 2500, 128 * 1024, 30 * MB, CHUNK - 5000, CHUNK,
              CHUNK + 10 * MB, 2 * CHUNK - 2500, 2 * CHUNK + 7000, 2 * CHUNK + 40 * MB)
    SIZES = (0, 3, 5000, 14003, 16384, 16385, 64 * 1024, 64 * 1024 + 1, 200000, 30 * MB + 2000,
             CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 2500, 2 * CHUNK - 1, 2 * CHUNK,
             2 * CHUNK + 9000, 2 * CHUNK + 50 * MB)

    def __init__(self, rng):
        self.rng = rng
        self.model = {f"t/{number}": [0, {}] for number in range(4)}
        self.generation = 0
        self.amid = None  # path, offset and bytes of a write of which only these were sent

    def make(self):
        os.mkdir("t")
        for path in self.model:
            put(path, b"")

    def choose(self):
        path = self.rng.choice(sorted(self.model))
        if self.rng.randrange(2):
            self.generation += 1
            return ("write", path, self.rng.choice(self.PLACES), self.generation)
        return ("truncate", path, self.rng.choice(self.SIZES), self.rng.randrange(3))

    def apply(self, op):
        what, path, place, how = op
        old_size, blocks = self.model[path]
        if what == "write":
            blocks = {**blocks, place: (how, self.BLOCK)}
            self.model[path] = [max(old_size, place + self.BLOCK), blocks]
            return
        kept = {}
        for offset, (tag, length) in blocks.items():
            if offset < place:
                kept[offset] = (tag, min(length, place - offset))
        self.model[path] = [place, kept]

    def do(self, op):
        what, path, place, how = op
        if what == "write":
            fd = os.open(path, os.O_WRONLY)
            need(os.pwrite(fd, content(how, self.BLOCK), place) == self.BLOCK, "short write")
            os.close(fd)
        elif how == 0:
            os.truncate(path, place)
        elif how == 1:
            fd = os.open(path, os.O_RDWR)
            os.ftruncate(fd, place)
            os.close(fd)
        else:
            fd = os.open(path, os.O_RDWR | (os.O_TRUNC if place == 0 else 0))
            os.ftruncate(fd, place)
            os.close(fd)

    def block(self, path, offset):
        size, blocks = self.model[path]
        wanted = bytearray(self.BLOCK)
        if offset in blocks:
            tag, length = blocks[offset]
            wanted[:length] = content(tag, self.BLOCK)[:length]
        if self.amid and self.amid[:2] == (path, offset):
            wanted[:len(self.amid[2])] = self.amid[2]
        return bytes(wanted[:max(0, size - offset)])

    def check_file(self, path, whole):
        size = self.model[path][0]
        need(os.stat(path).st_size == size, f"{path}: size {os.stat(path).st_size}, not {size}")
        with open(path, "rb", buffering=0) as file:
            for offset in self.PLACES:
                data = os.pread(file.fileno(), self.BLOCK, offset)
                need(data == self.block(path, offset), f"{path}: other bytes at {offset}")
            if not whole:
                return
            covered = sorted((offset, offset + length)
                             for offset, (_, length) in self.model[path][1].items())
            at = 0
            for begin, end in covered + [(size, size)]:
                while at < begin:  # what nobody wrote is zeros
                    data = os.pread(file.fileno(), min(MB, begin - at), at)
                    need(data and not data.strip(b"\0"), f"{path}: not zeros from {at}")
                    at += len(data)
                at = end

    def is_amid(self, op):
        """The kernel sends what a write has before the first border of pages by itself, if that page
        is not in its cache; then the mount may be killed. (Chunks end at such a border, too.)"""
        what, path, place, how = op
        first = -place % 4096
        if what != "write" or not 0 < first < self.BLOCK:
            return False
        before = self.model[path]
        size, blocks = before
        tag, length = blocks.get(place, (how, 0))
        block = (tag, length) if length >= first else (how, first)
        self.model[path] = [max(size, place + first), {**blocks, place: block}]
        self.amid = (path, place, content(how, self.BLOCK)[:first])
        try:
            self.check(op)
            return True
        except Wrong:
            self.model[path] = before
            self.amid = None
            return False

    def check(self, op=None):
        need({f"t/{name}" for name in listed("t")} == set(self.model), "other names")
        for path in self.model:
            self.check_file(path, op is not None or self.final)

    def quick(self, op):
        self.check_file(op[1], False)


class Unlink(Loop):
    """Files that are open and have no name: removed, or replaced by another."""

    def __init__(self, rng):
        self.rng = rng
        self.next = 0
        self.open = {}  # path -> [fd, content]
        self.named = {}

    def make(self):
        os.mkdir("u")
        os.mkdir("v")

    def choose(self):
        rng = self.rng
        if len(self.open) < 6:
            self.next += 1
            return ("create", f"{rng.choice('uv')}/{self.next}",
                    rng.choice((100, 15000, 50000, 100000)))
        if len(self.named) > 8:
            return ("remove", rng.choice(sorted(self.named)), 0)
        what = rng.choice(("unlink", "replace", "write", "close", "read", "truncate"))
        with_name = sorted(set(self.open) & set(self.named))
        without = sorted(set(self.open) - set(self.named))
        if what in ("unlink", "replace") and with_name:
            return (what, rng.choice(with_name), 0)
        if what in ("write", "close", "read", "truncate") and without:
            return (what, rng.choice(without), rng.choice((10, 20000, 70000)))
        self.next += 1
        return ("create", f"{rng.choice('uv')}/{self.next}", 30000)

    # The model's bytes: (tag, size) each; a write appends.
    def apply(self, op):
        what, path, size = op
        if what == "create":
            self.named[path] = self.open[path] = content(path, size)
        elif what == "unlink":
            del self.named[path]
        elif what == "remove":
            del self.named[path]
        elif what == "replace":
            self.named[path] = b"new " + path.encode()
            self.named["u/gone"] = self.named.pop(path)
        elif what == "write":
            self.open[path] += content(f"{path} more", size)
        elif what == "truncate":
            self.open[path] = self.open[path][:size // 2]
        elif what == "close":
            del self.open[path]

    fds = {}

    def do(self, op):
        what, path, size = op
        if what == "create":
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            self.fds[path] = fd
            data = content(path, size)
            need(os.write(fd, data) == len(data), "short write")
        elif what in ("unlink", "remove"):
            os.unlink(path)
            if what == "unlink":
                info = os.fstat(self.fds[path])
                need(info.st_nlink == 0, f"{op}: {info.st_nlink} links")
        elif what == "replace":  # another file takes its name, and another directory that one's
            other = "uv"[path[0] == "u"] + "/other"
            put(other, b"new " + path.encode())
            os.rename(other, path)
            os.rename(path, "u/gone")
        elif what == "write":
            data = content(f"{path} more", size)
            need(os.pwrite(self.fds[path], data, len(self.open[path])) == len(data), "short write")
        elif what == "truncate":
            if size // 2 < len(self.open[path]):
                os.ftruncate(self.fds[path], size // 2)
        elif what == "close":
            os.close(self.fds.pop(path))
        elif what == "read":
            self.check_open(path)

    def is_amid(self, op):
        """Between the calls of an operation of several."""
        if op[0] != "replace":
            return False
        got = {f"{top}/{name}" for top in "uv" for name in listed(top)}
        old = set(self.named)
        other = "uv"[op[1][0] == "u"] + "/other"
        return got in (old | {other}, old)

    def check_open(self, path):
        data = os.pread(self.fds[path], 1 << 20, 0)
        need(data == self.open[path], f"{path}, open: {len(data)} other bytes")

    def check(self, op=None):
        got = {f"{top}/{name}" for top in "uv" for name in listed(top)}
        want = set(self.named)
        need(got == want, f"missing {sorted(want - got)}, too much {sorted(got - want)}")
        for path, data in self.named.items():
            if op and path == op[1]:  # made, perhaps not yet written
                continue
            if path in self.open:
                data = self.open[path]
            need(get(path) == data, f"{path}: other bytes")

    def quick(self, op):
        if op[1] in self.fds:
            self.check_open(op[1])


KINDS = {"rename": Rename, "link": Link, "spill": Spill, "truncate": Truncate, "unlink": Unlink}


def begin(kind, seed):
    rng = random.Random(f"{kind} {seed}")
    model = KINDS[kind](rng)
    checks = random.Random(seed)  # another source: checking must not change the operations
    return model, checks


def run(kind, top, log_path, seed):
    model, checks = begin(kind, seed)
    os.chdir(top)
    log = os.open(log_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    model.make()
    done = 0
    chooser = model.rng
    slowest = 0.0
    while done % 8 or not os.path.exists(log_path + ".stop"):
        op = model.choose()
        os.pwrite(log, struct.pack("<Q", done + 1), 0)
        begun = time.monotonic()
        try:
            model.do(op)
            model.apply(op)
            model.rng = checks
            model.quick(op)
            model.rng = chooser
        except (OSError, Wrong) as error:
            print(f"{kind}: operation {done} {op}: {error!r}", flush=True)
            return 1
        slowest = max(slowest, time.monotonic() - begun)
        done += 1
        os.pwrite(log, struct.pack("<Q", done), 8)
    model.final = True
    try:
        model.check()
    except (OSError, Wrong) as error:
        print(f"{kind}: in the end: {error!r}", flush=True)
        return 1
    print(f"done {done} of {kind}, slowest {slowest:.1f} s")
    return 0


def verify(kind, top, log_path, seed):
    with open(log_path, "rb") as log:
        begun, done = struct.unpack("<QQ", log.read(16))
    model, _ = begin(kind, seed)
    os.chdir(top)
    for _ in range(done):
        model.apply(model.choose())
    model.final = True
    errors = []
    try:
        model.check()
        print(f"as after {done} operations")
        return 0
    except (OSError, Wrong) as error:
        errors.append(error)
    if begun > done:
        op = model.choose()
        try:
            if not model.is_amid(op):
                model.apply(op)
                model.check(op)
            print(f"as after {done} operations and, whole or begun, {op}")
            return 0
        except (OSError, Wrong) as error:
            errors.append(error)
    for error in errors:
        print(f"{kind}: {done} done, {begun} begun: {error!r}")
    return 1


def count(log_path):
    try:
        with open(log_path, "rb") as log:
            print(struct.unpack("<QQ", log.read(16))[1])
    except (OSError, struct.error):
        print(0)
    return 0


if __name__ == "__main__":
    sys.exit({"run": run, "verify": verify, "count": count}[sys.argv[1]](*sys.argv[2:]))
