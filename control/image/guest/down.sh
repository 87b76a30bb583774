#!/bin/busybox sh
# init runs this before it ends everything: what was written reaches the disks, whoever still uses them.
sync
for place in /disk/*; do
  umount "$place" 2>/dev/null || umount -r "$place" 2>/dev/null
done
