#!/bin/busybox sh
# work.sh FILE: write numbered records for ever, 16 to a batch, each batch with fsync, and say so after it:
#
#   WEFT {"fact":"written","upto":160}              every record up to 160 was acknowledged by the disk
#   WEFT {"fact":"verified","upto":160,"bad":0}     what was found on the disk: at boot, each 256 batches, and
#                                                   when somebody makes the file /run/verify (`verify` does)
#   WEFT {"fact":"write-failed","after":160,"error":"…"}     tried again each second
#
# The file is a ring of 1024 records of 4096 bytes. A record is one cell of 32 bytes, 128 times over: its number
# and a check on it; the last byte is an @, by which awk tells records apart. Verifying drops the page cache,
# so it reads the disk and not our memory. Only the batch after the last whole one, which was being written
# when the guest was killed, may be torn; every other record must be what was last acknowledged in its place. A
# record without its @ shifts the count of those behind it, so `bad` is exact only when it is small or zero.
. /weft/fact.sh
file=$1
slots=1024
batch=16

verify() {
  echo 3 >/proc/sys/vm/drop_caches
  found=$(awk -v slots=$slots -v batch=$batch '
    function record(n,  s, i) {
      s = sprintf("%020d:%010d\n", n, (n * 7919 + 13) % 9999999967)
      for (i = 0; i < 7; i++) s = s s
      return substr(s, 1, 4095)
    }
    BEGIN { RS = "@" }
    NR <= slots {
      text = substr($0, 1, 20)
      # With its zeros awk would take it for octal.
      sub(/^0+/, "", text)
      n = text + 0
      number[NR] = ($0 == record(n)) ? n : -1
    }
    END {
      whole = 0
      for (first = 1; first <= slots; first += batch) {
        n = number[first]
        good = n > 0
        for (i = 0; i < batch && good; i++) good = number[first + i] == n + i
        if (good && n + batch - 1 > whole) whole = n + batch - 1
      }
      bad = 0
      for (i = 1; i <= slots; i++) {
        ahead = (i - 1 - whole % slots + slots) % slots
        if (ahead < batch) continue
        n = whole - slots + 1 + ahead
        if (number[i] != (n > 0 ? n : 0)) bad++
      }
      printf "%d %d\n", whole, bad
    }' "$file")
  upto=${found% *}
  fact verified '"upto":'"$upto"',"bad":'"${found#* }"
}

make() { # FIRST COUNT: records to standard output; number 0 for all when FIRST is 0
  awk -v first="$1" -v count="$2" 'BEGIN {
    for (i = 0; i < count; i++) {
      n = first == 0 ? 0 : first + i
      s = sprintf("%020d:%010d\n", n, (n * 7919 + 13) % 9999999967)
      for (j = 0; j < 7; j++) s = s s
      printf "%s@", substr(s, 1, 4095)
    }
  }'
}

upto=0
if [ "$(stat -c %s "$file" 2>/dev/null)" = $((slots * 4096)) ]; then
  verify
else
  until make 0 $slots | dd of="$file" bs=64k iflag=fullblock conv=fsync 2>/run/work.dd; do
    fact write-failed '"after":0,"error":"'"$(tail -n 1 /run/work.dd | tr -d '"\\')"'"'
    sleep 1
  done
  # The file's blocks are marked as taken (disk.sh says why); from here on it is overwritten in place.
  sync
fi

turn=0
while :; do
  if make $((upto + 1)) $batch |
    dd of="$file" bs=64k count=1 iflag=fullblock seek=$((upto % slots / batch)) conv=notrunc,fsync 2>/run/work.dd; then
    upto=$((upto + batch))
    fact written '"upto":'$upto
  else
    fact write-failed '"after":'"$upto"',"error":"'"$(tail -n 1 /run/work.dd | tr -d '"\\')"'"'
    sleep 1
  fi
  turn=$((turn + 1))
  if [ -e /run/verify ] || [ $turn = 256 ]; then
    rm -f /run/verify
    turn=0
    verify
  fi
done
