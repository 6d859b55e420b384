#!/bin/bash
# SQLite on the mount, one database in DELETE and one in WAL mode, two sqlite3 processes writing each,
# while the volcano is killed -9 and restarted under them: no transaction fails, integrity_check is
# ok, every transaction reported committed is there and none by halves. Then writers, mount and
# volcano are killed together: the same after a new mount and SQLite's own recovery.
source "$(dirname "$0")/lib.sh"
begin
command -v sqlite3 >/dev/null || skip_all "needs sqlite3"
command -v stdbuf >/dev/null || skip_all "needs stdbuf"
kills=4 ends=1
[ -z "${MAGMA_LONG:-}" ] || kills=60 ends=10
modes="delete wal"
writers="1 2"

database() { echo "$mnt/$1.db"; }
make_database() {
  sqlite3 "$(database "$1")" "PRAGMA journal_mode=$1; PRAGMA synchronous=FULL;
    CREATE TABLE account(id INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
    CREATE TABLE entry(writer INTEGER, number INTEGER, part INTEGER, filler BLOB,
      PRIMARY KEY(writer, number, part));
    CREATE INDEX by_filler ON entry(filler);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
      INSERT INTO account SELECT i, 1000 FROM n;"
}
# transactions WRITER FROM: SQL without end. Money moves between accounts: the sum stays. Every
# eighth is rolled back, every sixteenth empties a part of the table.
transactions() {
  local writer=$1 n=$2
  echo ".timeout 60000"
  echo "PRAGMA synchronous=FULL;"
  echo ".bail on"
  while :; do
    n=$((n + 1))
    echo "BEGIN IMMEDIATE;
      UPDATE account SET amount = amount - $((n % 90)) WHERE id = $((n * 7 % 50 + 1));
      INSERT INTO entry VALUES($writer, $n, 1, randomblob($((n * 131 % 9000))));
      INSERT INTO entry VALUES($writer, $n, 2, zeroblob($((n % 5 * 1000))));
      UPDATE account SET amount = amount + $((n % 90)) WHERE id = $((n * 11 % 50 + 1));"
    if [ $((n % 8)) -eq 0 ]; then
      echo "ROLLBACK; SELECT 'rolled back $n';"
    elif [ $((n % 16)) -eq 1 ]; then
      echo "UPDATE entry SET filler = NULL WHERE writer = $writer AND number < $((n - 20));
        COMMIT; SELECT 'committed $n';"
    else
      echo "COMMIT; SELECT 'committed $n';"
    fi
  done
}
# start_writers NUMBER: of the round; its transactions begin at NUMBER million.
start_writers() {
  local mode writer
  running=()
  for mode in $modes; do
    for writer in $writers; do
      transactions "$writer" $(($1 * 1000000)) 2>/dev/null |
        stdbuf -oL sqlite3 -batch "$(database "$mode")" \
          >>"$work/$mode.$writer.log" 2>>"$work/$mode.$writer.errors" &
      running+=($!)  # sqlite3: stdbuf becomes it
    done
  done
  helpers+=("${running[@]}")
}
committed() { grep -c '^committed' "$work/$1.$2.log" 2>/dev/null; }
look() {
  local mode writer
  counts=()
  for mode in $modes; do
    for writer in $writers; do counts+=("$(($(committed "$mode" "$writer") + 0))"); done
  done
}
# Each database has so many commits more than in before (each of its writers may wait for the other).
all_grown() {
  look
  [ $((counts[0] + counts[1])) -ge $((before[0] + before[1] + $1)) ] &&
    [ $((counts[2] + counts[3])) -ge $((before[2] + before[3] + $1)) ]
}
get_on() {
  wait_until 60 all_grown "$1" || {
    head -n 3 "$work"/*.errors
    die "a database stands still $2: ${before[*]} then ${counts[*]} commits"
  }
  before=("${counts[@]}")
}
all_ended() {
  local pid
  for pid in "${running[@]}"; do process_ended "$pid" || return 1; done
}
a_writer_is_waiting() {
  local pid
  for pid in "${running[@]}"; do
    grep -qsE 'request_wait_answer|fuse' "/proc/$pid/wchan" && return 0
  done
  return 1
}
query() { sqlite3 -batch -cmd '.timeout 30000' "$(database "$1")" "$2"; }
verify() {
  local mode writer
  for mode in $modes; do
    same "$mode: integrity_check $1" "$(query "$mode" 'PRAGMA integrity_check' 2>&1)" ok
    same "$mode: the sum of all accounts $1" \
      "$(query "$mode" 'SELECT sum(amount) FROM account' 2>&1)" 50000
    same "$mode: no transaction by halves $1" "$(query "$mode" 'SELECT writer, number FROM entry
      GROUP BY writer, number HAVING count(*) <> 2 LIMIT 5' 2>&1)" ""
    for writer in $writers; do
      query "$mode" "SELECT DISTINCT number FROM entry WHERE writer = $writer" 2>&1 |
        LC_ALL=C sort >"$work/there"
      sed -n 's/^committed //p' "$work/$mode.$writer.log" | LC_ALL=C sort >"$work/told"
      same "$mode, writer $writer: $(wc -l <"$work/told") committed transactions are there $1" \
        "$(LC_ALL=C comm -13 "$work/there" "$work/told" | head -n 5)" ""
      sed -n 's/^rolled back //p' "$work/$mode.$writer.log" | LC_ALL=C sort >"$work/undone"
      same "$mode, writer $writer: and none that was rolled back $1" \
        "$(LC_ALL=C comm -12 "$work/there" "$work/undone" | head -n 5)" ""
    done
  done
}

start_volcano
mount_magma
for mode in $modes; do
  same "a database in $mode mode" "$(make_database "$mode" 2>&1)" "$mode"
done
start_writers 0
before=(0 0 0 0) struck=0
for ((i = 1; i <= kills; i++)); do
  get_on $((RANDOM % 30 + 10)) "before kill $i"
  kill_volcano
  wait_until 5 a_writer_is_waiting && struck=$((struck + 1))
  start_volcano
done
get_on 5 "after the last start"
same "all $kills kills struck a writer at work" $struck $kills
# A transaction on the way is rolled back by who opens the database next.
kill -TERM "${running[@]}"
expect "the writers end" wait_until 30 all_ended
same "no writer saw an error" "$(cat "$work"/*.errors | head -n 5)" ""
verify "after $kills kills"

for ((round = 1; round <= ends; round++)); do
  start_writers $round
  get_on $((RANDOM % 30 + 10)) "before end $round"
  kill -9 "${running[@]}" $(mounters "$mnt") "$volcano_pid"
  wait_until 20 all_ended || die "the writers do not end"
  umount -l "$mnt"
  wait_until 5 no_mounters "$mnt"
  kill_volcano
  fsck_clean "after writers, mount and volcano were killed"
  start_volcano
  mount_magma
  # The locks of a mount that was killed are held until its session expires. Until then SQLite takes
  # the writers for alive and believes their shared memory (-shm), of which the last is lost: it
  # would not look into the WAL, where all is.
  expect "the locks of the dead mount are given up" wait_until 20 grep -q session_expired "$log"
  verify "after end $round"
done
unmount_magma
stop_volcano
fsck_clean
