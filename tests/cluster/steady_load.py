"""Work that goes on until it is told to end, and a log of when each step of it was done.

  steady_load.py run DIR TREE LOG   until LOG.stop exists; exit code 1 on any error
  steady_load.py verify DIR TREE    the last whole copy of TREE is equal to it, and so is every line
  steady_load.py stall LOG FROM     the longest time, in ms, in which a worker got nothing done, from
                                    the moment FROM (ms, as the log has them)

Two workers, each step a line `MS WORKER N`: `copy` copies the files of TREE to DIR/copy.N, and removes
DIR/copy.(N-2); `line` appends a line to DIR/lines, with an fsync of each.
"""
import filecmp
import os
import shutil
import sys
import threading
import time


def now_ms():
    return time.time_ns() // 1_000_000


def line(number):
    return b"line %d of the log\n" % number


def files_of(tree):
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, tree)


def run(top, tree, log_path):
    os.makedirs(top)
    log = open(log_path, "ab", buffering=0)
    lock = threading.Lock()
    errors = []

    def stop():
        return bool(errors) or os.path.exists(log_path + ".stop")

    def done(worker, number):
        with lock:
            log.write(b"%d %s %d\n" % (now_ms(), worker.encode(), number))

    def copy():
        number = 0
        while not stop():
            to = f"{top}/copy.{number}"
            for path, name in files_of(tree):
                os.makedirs(os.path.dirname(f"{to}/{name}"), exist_ok=True)
                shutil.copy(path, f"{to}/{name}")
                done("copy", number)
                if stop():
                    return
            open(f"{to}/whole", "w").close()
            if number >= 2:
                shutil.rmtree(f"{top}/copy.{number - 2}")
            number += 1

    def lines():
        fd = os.open(f"{top}/lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        number = 0
        while not stop():
            assert os.write(fd, line(number)) == len(line(number))
            os.fsync(fd)
            done("line", number)
            number += 1
        os.close(fd)

    def guarded(worker):
        try:
            worker()
        except BaseException as error:
            errors.append(f"{worker.__name__}: {error!r}")

    threads = [threading.Thread(target=guarded, args=(w,)) for w in (copy, lines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        print(error)
    return 1 if errors else 0


def verify(top, tree):
    wrong = []
    copies = 0
    for name in os.listdir(top):
        if not os.path.exists(f"{top}/{name}/whole"):
            continue
        copies += 1
        for path, below in files_of(tree):
            if not filecmp.cmp(path, f"{top}/{name}/{below}", shallow=False):
                wrong.append(f"{name}/{below} differs")
    if copies == 0:
        wrong.append("there is no whole copy")
    with open(f"{top}/lines", "rb") as file:
        for number, got in enumerate(file):
            if got != line(number):
                wrong.append(f"line {number} is {got!r}")
                break
    for text in wrong[:20]:
        print(text)
    return 1 if wrong else 0


def stall(log_path, begin):
    longest = 0
    last = {}
    with open(log_path) as log:
        for text in log:
            ms, worker, _ = text.split()
            ms = int(ms)
            if ms >= begin and worker in last:
                longest = max(longest, ms - max(last[worker], begin))
            last[worker] = ms
    print(max([longest] + [now_ms() - max(ms, begin) for ms in last.values()]))


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "stall":
        stall(rest[0], int(rest[1]))
    else:
        sys.exit({"run": run, "verify": verify}[what](*rest))
