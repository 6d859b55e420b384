"""Two mounts of one network, several processes on each, all in the same few directories and files.

two_mounts.py fight SECONDS DIR DIR2      every call on them at random; prints calls and the longest
two_mounts.py agree SECONDS DIR DIR2      what one changes the other sees as soon as the call returns
two_mounts.py race SECONDS DIR DIR2       all rename the same at once; one succeeds, the others see
                                          that it is gone

All fail (exit code 1) with a line that says what was seen.
"""
import errno
import multiprocessing
import os
import random
import sys
import time

PROCESSES = 2  # on each mount
LONGEST_S = 2.5  # a token ends after 5 s: who waits for that has met two that wait for each other
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR,
            errno.EBUSY, errno.ENODATA, errno.ESTALE, errno.EINVAL}


def write(path, flags, text):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as file:
        return file.read()


CALLS = [
    ("create", lambda a, b, r: write(a, os.O_CREAT, b"")),
    ("write", lambda a, b, r: write(a, 0, b"x" * r.randrange(1, 9000))),
    ("append", lambda a, b, r: write(a, os.O_APPEND, b"y" * 100)),
    ("truncate", lambda a, b, r: os.truncate(a, r.randrange(5000))),
    ("read", lambda a, b, r: read(a)),
    ("stat", lambda a, b, r: os.stat(a)),
    ("list", lambda a, b, r: [e.stat() for e in os.scandir(os.path.dirname(a))]),
    ("unlink", lambda a, b, r: os.unlink(a)),
    ("rename", lambda a, b, r: os.rename(a, b)),
    ("link", lambda a, b, r: os.link(a, b)),
    ("chmod", lambda a, b, r: os.chmod(a, r.choice((0o600, 0o644)))),
    ("utime", lambda a, b, r: os.utime(a)),
    ("mkdir", lambda a, b, r: os.mkdir(a + ".d")),
    ("rmdir", lambda a, b, r: os.rmdir(a + ".d")),
    ("inside", lambda a, b, r: write(a + ".d/f", os.O_CREAT, b"z")),
    ("empty", lambda a, b, r: os.unlink(a + ".d/f")),
    ("move a directory", lambda a, b, r: os.rename(a + ".d", b + ".d")),
]


def fight(root, number, seconds, told):
    rng = random.Random(number)
    longest, calls, end = (0.0, ""), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        a, b = (f"{root}/{rng.choice('abc')}/{rng.randrange(6)}" for _ in range(2))
        name, call = rng.choice(CALLS)
        began = time.monotonic()
        try:
            call(a, b, rng)
        except OSError as error:
            if error.errno not in EXPECTED:
                told.put((number, calls, longest, f"{name} {a}: {error}"))
                return
        longest = max(longest, (time.monotonic() - began, name))
        calls += 1
    told.put((number, calls, longest, None))


def tree(root):
    found = {}
    for where, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(where, name)
            at = os.lstat(path)
            found[os.path.relpath(path, root)] = (at.st_ino, at.st_mode, at.st_nlink, at.st_size)
    return found


def run_fight(seconds, roots):
    for name in "abc":
        os.mkdir(f"{roots[0]}/{name}")
    told = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=fight, args=(root, i, seconds, told))
               for i, root in enumerate(roots * PROCESSES)]
    for worker in workers:
        worker.start()
    results = [told.get() for _ in workers]
    for worker in workers:
        worker.join()
    bad = [what for _, _, _, what in results if what]
    longest = max(result[2] for result in results)
    print(f"{sum(result[1] for result in results)} calls, the longest {longest[0]:.3f} s "
          f"({longest[1]})")
    if longest[0] > LONGEST_S:
        bad.append(f"{longest[1]} took {longest[0]:.3f} s")
    here, there = tree(roots[0]), tree(roots[1])
    for path in sorted(here.keys() | there.keys()):
        if here.get(path) != there.get(path):
            bad.append(f"{path}: {here.get(path)} here, {there.get(path)} there")
    return bad


def walked(one, other):
    """What is wrong after names that one mount has walked half of were changed through another."""
    names = [f"{one}/w/{i}" for i in range(40)]
    os.mkdir(f"{one}/w")
    for name in names:
        write(name, os.O_CREAT, b"x")
    for i in range(20):
        os.stat(f"{other}/w/{i}")
    time.sleep(0.01)  # the rest may be known there now, without having been asked for
    for i in range(20, 25):
        os.chmod(names[i], 0o600)
    for i in range(25, 30):
        os.unlink(names[i])
    for i in range(30, 35):
        os.rename(names[i], names[i] + "r")
    for i in range(35, 40):
        os.link(names[i], names[i] + "l")
    bad = []
    for i in range(20, 40):
        there = f"{other}/w/{i}"
        if os.path.exists(there) != (i < 25 or i >= 35):
            bad.append(f"{i} {'not ' if os.path.exists(there) else ''}removed")
        if i < 25 and os.stat(there).st_mode & 0o777 != 0o600:
            bad.append(f"{i} has the old mode")
        if 30 <= i < 35 and not os.path.exists(there + "r"):
            bad.append(f"{i} not under its new name")
        if i >= 35 and os.stat(there).st_nlink != 2:
            bad.append(f"{i} has the old link count")
    for name in os.listdir(f"{other}/w"):
        os.unlink(f"{other}/w/{name}")
    os.rmdir(f"{other}/w")
    return bad


def run_agree(seconds, roots):
    rng, bad, rounds, end = random.Random(1), [], 0, time.monotonic() + seconds

    def check(what, is_so):
        if not is_so:
            bad.append(f"{what}, round {rounds}")

    # Listed before each change: what the kernel keeps of that must not be told after it.
    def listed(name):
        return [name in os.listdir(root) for root in roots]

    while time.monotonic() < end and not bad:
        one, other = rng.sample(list(roots), 2)
        if rounds % 8 == 0:
            bad += walked(one, other)
        name = f"file{rounds}"
        here, there = f"{one}/{name}", f"{other}/{name}"
        check("listed before it was made", listed(name) == [False, False])
        write(here, os.O_CREAT, b"old")
        check("made, and not listed", listed(name) == [True, True])
        check("made, and not there", os.path.exists(there))
        with open(there, "rb") as reader:
            check("old bytes", os.pread(reader.fileno(), 10, 0) == b"old")
            write(here, 0, b"new")
            check("overwritten, and old bytes read through an open file",
                  os.pread(reader.fileno(), 10, 0) == b"new")
            write(here, os.O_APPEND, b"longer")
            check("appended, and the old size", os.stat(there).st_size == 9)
            check("appended, and not read", os.pread(reader.fileno(), 10, 0) == b"newlonger")
            os.truncate(here, 3)
            check("cut, and the old size", os.fstat(reader.fileno()).st_size == 3)
        os.chmod(here, 0o600)
        check("the old mode", os.stat(there).st_mode & 0o777 == 0o600)
        os.link(here, here + "l")
        check("the old link count", os.stat(there).st_nlink == 2)
        os.unlink(here + "l")
        check("the old link count after unlink", os.stat(there).st_nlink == 1)
        os.rename(here, here + "r")
        check("renamed, and the old name there", not os.path.exists(there))
        check("renamed, and the new name not there", os.path.exists(there + "r"))
        check("renamed, and the old name listed", listed(name) == [False, False])
        check("renamed, and the new name not listed", listed(name + "r") == [True, True])
        os.mkdir(here + "d")
        os.rename(here + "r", here + "d/x")
        check("moved, and the old name there", not os.path.exists(there + "r"))
        check("moved, and the old name listed", listed(name + "r") == [False, False])
        check("moved, and not listed", os.listdir(there + "d") == ["x"])
        os.unlink(here + "d/x")
        check("unlinked, and there", not os.path.exists(there + "d/x"))
        os.rmdir(here + "d")
        check("removed, and there", not os.path.exists(there + "d"))
        check("removed, and listed", listed(name + "d") == [False, False])
        rounds += 1
    print(f"{rounds} rounds")
    return bad


KINDS = ("file", "file of two names", "symlink", "directory", "file that replaces another")


def make(kind, source, target):
    """What is to be renamed."""
    if kind == "directory":
        os.mkdir(source)
        return
    if kind == "symlink":
        os.symlink("nowhere", source)
        return
    write(source, os.O_CREAT, b"x")
    if kind == "file of two names":
        os.link(source, source + ".other")
    if kind == "file that replaces another":
        os.link(source, source + ".other")
        write(target, os.O_CREAT, b"y")


def racer(root, jobs, told, start):
    """Renames what it is told to when all others do; tells whether it was the one."""
    for job in iter(jobs.get, None):
        source, target = (os.path.join(root, name) for name in job)
        os.lstat(source)
        os.path.lexists(target)
        start.wait()
        time.sleep(random.random() * 0.001)
        try:
            os.rename(source, target)
            told.put("renamed")
        except OSError as error:
            told.put(errno.errorcode[error.errno])


def run_race(seconds, roots):
    for name in "ab":
        os.mkdir(f"{roots[0]}/{name}")
    start = multiprocessing.Barrier(len(roots) * PROCESSES)
    told, jobs, workers, bad = multiprocessing.Queue(), [], [], []
    for root in roots * PROCESSES:
        jobs.append(multiprocessing.Queue())
        workers.append(multiprocessing.Process(target=racer,
                                               args=(root, jobs[-1], told, start)))
        workers[-1].start()
    rounds, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        kind = KINDS[rounds % len(KINDS)]
        source, target = f"a/{rounds}", f"{'ab'[rounds // len(KINDS) % 2]}/{rounds}.to"
        make(kind, *(os.path.join(roots[rounds % 2], name) for name in (source, target)))
        for queue in jobs:
            queue.put((source, target))
        got = sorted(told.get() for _ in workers)
        if got != ["ENOENT"] * (len(workers) - 1) + ["renamed"]:
            bad.append(f"{kind} {source} to {target}: {got}")
        rounds += 1
    for queue, worker in zip(jobs, workers):
        queue.put(None)
        worker.join()
    print(f"{rounds} rounds, {len(bad)} bad")
    return bad


def main():
    what, seconds, roots = sys.argv[1], float(sys.argv[2]), sys.argv[3:5]
    bad = {"fight": run_fight, "agree": run_agree, "race": run_race}[what](seconds, roots)
    for line in bad[:10]:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
