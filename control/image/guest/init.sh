#!/bin/busybox sh
# The first process of the tiny guest: brings up devices, addresses and the list of what busybox init is to
# keep running, then becomes busybox init. What it does is said on the kernel command line:
#
#   weft.address=10.0.10.1/24[,ADDRESS/BITS…]   for eth0, eth1, … in order; `-` leaves one without
#   weft.peers=10.0.10.2,10.0.20.3              pinged for ever, through eth0
#   weft.disk=/dev/vda[,…]                      formatted if empty, written, re-read; see disk.sh
#   weft.work=disk,ping,fill                    load for fault tests: see work.sh, fill.sh; ping: every 0.2 s
#   weft.gateway=10.0.10.254                    default route
#
# Facts go to the serial console, one line each: WEFT {"fact":…}; facts.ts in this folder's parent reads them.
# Every step may fail without holding up the next: a guest that says what is wrong beats one that hangs.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
. /weft/fact.sh

while read -r module; do
  insmod "/lib/modules/$module" 2>/run/insmod || fact boot-problem '"module":"'"$module"'"'
done </weft/modules

ip link set lo up

read -r words </proc/cmdline
address= peers= disks= work= gateway=
for word in $words; do
  case $word in
  weft.address=*) address=${word#*=} ;;
  weft.peers=*) peers=${word#*=} ;;
  weft.disk=*) disks=${word#*=} ;;
  weft.work=*) work=${word#*=} ;;
  weft.gateway=*) gateway=${word#*=} ;;
  esac
done

IFS=,
index=0
for cidr in $address; do
  card=eth$index
  index=$((index + 1))
  ip link set "$card" up || {
    fact boot-problem '"card":"'"$card"'"'
    continue
  }
  [ "$cidr" = - ] || ip address add "$cidr" dev "$card"
done
[ -z "$gateway" ] || ip route add default via "$gateway"

# Power button, then shells and workers. init restarts what ends.
read -r consoles </sys/class/tty/console/active
console=${consoles##* }
{
  echo "::once:/bin/acpid -f -l /run/acpid.log"
  echo "$console::respawn:-/bin/sh"
  echo "::ctrlaltdel:/bin/reboot"
  echo "::shutdown:/weft/down.sh"
  interval=1
  case ,$work, in *,ping,*) interval=0.2 ;; esac
  for peer in $peers; do
    # A peer outside our own network is asked for on the wire all the same: only the switch is to keep us apart.
    ip route get "$peer" >/dev/null 2>&1 || ip route add "$peer/32" dev eth0
    echo "::respawn:/weft/ping.sh $peer $interval"
  done
  first=
  for disk in $disks; do
    if [ -z "$first" ]; then
      first=$disk
      echo "::once:/weft/disk.sh $disk $work"
    else
      echo "::once:/weft/disk.sh $disk"
    fi
  done
} >/etc/inittab
unset IFS

read -r id </proc/sys/kernel/random/boot_id
read -r up rest </proc/uptime
read -r version </weft/version
fact boot '"id":"'"$id"'","uptime_s":'"$up"',"image":"'"$version"'"'
exec /bin/init </dev/console >/dev/console 2>&1
