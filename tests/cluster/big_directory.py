"""One directory with many entries, for big_directory.sh.

  big_directory.py create DIR COUNT       files 0, 1, ...; prints how many a second
  big_directory.py remove_amid DIR        reads it and removes every second name on the way: each
                                          name that stays must be told exactly once
"""
import os
import sys
import time


def create(top, count):
    begun = time.monotonic()
    for number in range(count):
        os.close(os.open(f"{top}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    print(f"{count / (time.monotonic() - begun):.0f} files made a second")


def remove_amid(top):
    seen, removed = {}, 0
    with os.scandir(top) as entries:
        for entry in entries:
            seen[entry.name] = seen.get(entry.name, 0) + 1
            # One already told and, every other time, one that may be still to come.
            victim = int(entry.name) ^ (len(seen) % 2)
            if victim % 2:
                try:
                    os.unlink(f"{top}/{victim}")
                    removed += 1
                except FileNotFoundError:
                    pass
    left = os.listdir(top)
    wrong = [name for name in left if seen.get(name) != 1]
    wrong += [name for name, count in seen.items() if count > 1]
    print(f"{removed} removed on the way, {len(left)} left")
    if wrong:
        print(f"{len(wrong)} not told exactly once: {sorted(wrong)[:10]}")
    return 1 if wrong or not removed else 0


if __name__ == "__main__":
    if sys.argv[1] == "create":
        create(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(remove_amid(sys.argv[2]))
