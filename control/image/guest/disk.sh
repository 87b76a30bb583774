#!/bin/busybox sh
# disk.sh DEVICE [WORK]: make sure of one disk, from within. An empty one (nothing but zeros at its start) gets
# a file system; one that holds something else is left alone. Each boot reads what the earlier ones wrote, then
# writes its own, syncs, drops the page cache and reads it back:
#
#   WEFT {"fact":"disk","device":"/dev/vda","formatted":true,"new":false,"boots":2,"intact":true}
#
# Two slots are written in turn, each a checksum, the number of the boot and random bytes; a guest that is
# killed while it writes one finds the other whole. A slot that was lost after it had been said shows in `boots`,
# which then does not go up.
#
# The file system is ext2, all that busybox makes, and there is no fsck here: what a kill must not hurt is
# allocated once, synced, and overwritten in place ever after, since fsync does not write ext2's bitmaps. The file
# `ready` says that this was done; without it the disk holds nothing yet that was promised, and is formatted again.
. /weft/fact.sh
device=$1
work=$2
place=/disk/${device##*/}
slot_bytes=262144
mkdir -p "$place"

say() { # FORMATTED NEW BOOTS INTACT [ERROR]
  fact disk '"device":"'"$device"'","formatted":'"$1"',"new":'"$2"',"boots":'"$3"',"intact":'"$4${5:+,\"error\":\"$5\"}"
}

words() { # FILE: its last line, fit for JSON
  tail -n 1 "$1" | tr -d '"\\\t'
}

# The slot's boot number into $number when it is whole, else empty.
check() {
  number=
  read -r sum <"$1"
  [ "$sum" = "$(tail -n +2 "$1" | sha256sum | cut -c 1-64)" ] || return
  number=$(sed -n 2p "$1" | tr -d ' ')
}

is_zero() { # FILE
  [ "$(tr -d '\0' <"$1" | wc -c)" = 0 ]
}

format() {
  # Few inodes: writing their tables is most of the work on a large disk.
  mke2fs -F -L weft-tiny -m 0 -i 65536 "$device" >/run/mke2fs 2>&1 &&
    mount -t ext4 -o noatime "$device" "$place" 2>/run/mke2fs &&
    dd if=/dev/zero of="$place/a" bs=$slot_bytes count=1 2>/run/mke2fs &&
    dd if=/dev/zero of="$place/b" bs=$slot_bytes count=1 2>/run/mke2fs &&
    sync && touch "$place/ready" && sync
}

tries=0
until [ -b "$device" ]; do
  tries=$((tries + 1))
  [ $tries -lt 50 ] || {
    say false false 0 false "no such device"
    exit
  }
  usleep 100000
done

new=false
if mount -t ext4 -o noatime "$device" "$place" 2>/run/mount; then
  [ -e "$place/ready" ] || {
    # Begun by us and not finished, or somebody else's? The label, at 120 of the superblock at 1024, tells.
    if [ "$(dd if="$device" bs=1 skip=1144 count=9 2>/run/dd)" != weft-tiny ]; then
      say true false 0 false "holds a file system of somebody else's; left alone"
      exit
    fi
    umount "$place"
    new=true
  }
else
  used=$(dd if="$device" bs=64k count=1 2>/run/dd | tr -d '\0' | wc -c)
  if [ "$used" != 0 ] || ! grep -q '1+0 records in\|0+1 records in' /run/dd; then
    say false false 0 false "holds no file system that we know; left alone"
    exit
  fi
  new=true
fi
if [ $new = true ]; then
  until format; do
    say false true 0 false "$(words /run/mke2fs)"
    umount "$place" 2>/dev/null
    sleep 5
  done
fi

boots=0
for slot in a b; do
  check "$place/$slot"
  [ -n "$number" ] && [ "$number" -gt $boots ] && boots=$number
done
# Of the very first two at most one can have been torn; when both were written and neither can be read, they are lost.
intact=true
[ $boots -gt 0 ] || is_zero "$place/a" || is_zero "$place/b" || intact=false

boots=$((boots + 1))
slot=$place/a
[ $((boots % 2)) = 0 ] && slot=$place/b
{
  printf '%-10d\n' $boots
  # 76: the checksum, the number and their line ends.
  dd if=/dev/urandom bs=$((slot_bytes - 76)) count=1 iflag=fullblock 2>/dev/null
} >/run/slot.$$
error=
{
  sha256sum </run/slot.$$ | cut -c 1-64
  cat /run/slot.$$
} | dd of="$slot" bs=64k iflag=fullblock conv=notrunc,fsync 2>/run/dd || error=$(words /run/dd)
rm /run/slot.$$
sync
echo 3 >/proc/sys/vm/drop_caches
check "$slot"
[ "$number" = $boots ] || intact=false
say true $new $boots $intact "$error"

case ,$work, in *,fill,*) /weft/fill.sh "$place" ;; esac
case ,$work, in *,disk,*) exec /weft/work.sh "$place/work" ;; esac
