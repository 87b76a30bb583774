#!/bin/busybox sh
# disk.sh DEVICE [WORK]: make sure of one disk, from within. An empty one (nothing but zeros at its start) gets
# a file system; one that holds something else is left alone. Each boot reads what the earlier ones wrote, then
# writes its own, syncs, drops the page cache and reads it back:
#
#   WEFT {"fact":"disk","device":"/dev/vda","formatted":true,"new":false,"boots":2,"intact":true}
#
# Two slots are written in turn, each a checksum, the number of the boot and random bytes; a guest that is
# killed while it writes one finds the other whole.
. /weft/fact.sh
device=$1
work=$2
place=/disk/${device##*/}
mkdir -p "$place"

say() { # FORMATTED NEW BOOTS INTACT [ERROR]
  fact disk '"device":"'"$device"'","formatted":'"$1"',"new":'"$2"',"boots":'"$3"',"intact":'"$4${5:+,\"error\":\"$5\"}"
}

# The slot's boot number into $number when it is whole, else empty.
check() {
  number=
  [ -s "$1" ] || return
  read -r sum <"$1"
  [ "$sum" = "$(tail -n +2 "$1" | sha256sum | cut -c 1-64)" ] || return
  number=$(sed -n 2p "$1")
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
if ! mount -t ext4 "$device" "$place" 2>/run/mount; then
  used=$(dd if="$device" bs=64k count=1 2>/run/dd | tr -d '\0' | wc -c)
  if [ "$used" != 0 ] || ! grep -q '1+0 records in\|0+1 records in' /run/dd; then
    say false false 0 false "holds no file system that we know; left alone"
    exit
  fi
  new=true
  if ! mke2fs -F -m 0 -i 65536 "$device" >/run/mke2fs 2>&1 || ! mount -t ext4 "$device" "$place"; then
    say false true 0 false "$(tail -n 1 /run/mke2fs | tr -d '"\\')"
    exit
  fi
fi

boots=0
found=0
for slot in a b; do
  [ -s "$place/$slot" ] && found=1
  check "$place/$slot"
  [ -n "$number" ] && [ "$number" -gt $boots ] && boots=$number
done
# Something was written, and nothing of it can be read: the earlier data are lost.
intact=true
[ $boots -gt 0 ] || [ $found = 0 ] || intact=false

boots=$((boots + 1))
slot=$place/a
[ $((boots % 2)) = 0 ] && slot=$place/b
{
  echo $boots
  dd if=/dev/urandom bs=64k count=4 2>/dev/null
} >/run/slot.$$
error=
{
  sha256sum </run/slot.$$ | cut -c 1-64
  cat /run/slot.$$
} | dd of="$slot" bs=64k conv=fsync 2>/run/dd || error=$(tail -n 1 /run/dd | tr -d '"\\')
rm /run/slot.$$
sync
echo 3 >/proc/sys/vm/drop_caches
check "$slot"
[ "$number" = $boots ] || intact=false
say true $new $boots $intact "$error"

case ,$work, in *,fill,*) /weft/fill.sh "$place" ;; esac
case ,$work, in *,disk,*) exec /weft/work.sh "$place/work" ;; esac
