#!/bin/busybox sh
# ping.sh PEER INTERVAL_s: ask a peer for ever, and say whether it is reached when that changes and every 10 s.
# What was lost is taken from the gap in the sequence numbers, so a guest that was starved of CPU does not
# report an outage that the network did not have; silence_ms is the time without an answer as the guest saw it.
. /weft/fact.sh
peer=$1
interval=$2
case $interval in 0.2) step=20 ;; *) step=100 ;; esac

received=0
reached=
last=
clock
start=$now
heard=$now
said=$now

say() {
  sent=$(((now - start) / step + 1))
  [ $sent -ge $received ] || sent=$received
  fact ping '"peer":"'"$peer"'","reached":'"$reached"',"sent":'"$sent"',"received":'"$received"
  said=$now
}

# One turn of the loop per answer, or per 2 s without one.
listen() {
  while :; do
    before=$now
    if read -r -t 2 line; then
      clock
      case $line in
      *DUP*) continue ;;
      *" seq="*) ;;
      *) continue ;;
      esac
      seq=${line#* seq=}
      seq=${seq%% *}
      received=$((received + 1))
      if [ -n "$last" ]; then
        gap=$(((seq - last + 65536) % 65536))
        silence=$((now - heard))
        [ $gap -le 1 ] ||
          fact outage '"peer":"'"$peer"'","ms":'$((gap * step * 10))',"lost":'$((gap - 1))',"silence_ms":'$((silence * 10))
      fi
      last=$seq
      heard=$now
      [ "$reached" = true ] || {
        reached=true
        say
      }
    else
      clock
      # A read that failed early met the end of ping, not of its time.
      [ $((now - before)) -ge 150 ] || return
      [ "$reached" = false ] || {
        reached=false
        say
      }
    fi
    [ $((now - said)) -lt 1000 ] || say
  done
}

ping -i "$interval" "$peer" 2>&1 | listen
# ping ends by itself when the card is down: init starts this again, but not in a hurry.
sleep 1
