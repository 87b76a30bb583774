# What a person at the serial console gets.
export PATH=/bin PS1='weft guest \$ '
alias quiet='touch /run/quiet'
alias loud='rm -f /run/quiet'
alias verify='touch /run/verify'
echo 'weft tiny guest: busybox only. `quiet` stops the facts on this line, `loud` brings them back.'
