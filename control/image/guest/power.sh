#!/bin/busybox sh
# acpid runs this when the power button is pressed.
exec /bin/poweroff
