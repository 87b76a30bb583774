#!/bin/busybox sh
# fill.sh DIRECTORY: write until the disk refuses, to see what a guest sees when the pool below is full:
#   WEFT {"fact":"full","written_bytes":104857600,"error":"…"}
. /weft/fact.sh
written=0
while dd if=/dev/urandom of="$1/fill" bs=1M count=1 seek=$written conv=notrunc,fsync 2>/run/fill.dd; do
  written=$((written + 1))
done
sync
fact full '"written_bytes":'$((written * 1048576))',"error":"'"$(tail -n 1 /run/fill.dd | tr -d '"\\')"'"'
