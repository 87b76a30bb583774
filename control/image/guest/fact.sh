# Sourced: say one fact on the console. One echo is one write, so facts of several processes do not mix; the
# carriage return puts it at the start of the line when a shell's prompt stands there.
fact() {
  [ -e /run/quiet ] && return
  echo -e "\rWEFT {\"fact\":\"$1\"${2:+,$2}}" >/dev/console
}

# Hundredths of a second since boot, into $now; the kernel's own count, so a shell can measure without a fork.
clock() {
  read -r now rest </proc/uptime
  # The 1 keeps the hundredths from being taken for octal.
  now=$((${now%.*} * 100 + 1${now#*.} - 100))
}
