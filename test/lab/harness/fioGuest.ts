/**
 * A guest in which fio verifies its disk: the tiny image, and behind its initrd a second archive with fio and its libraries, which
 * the kernel unpacks over the first (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). What work.sh does there
 * is ours: fio writes a file's blocks at random, eight at once and past the page cache, with a sync now and then, reads them back
 * while it writes, and all of them at the end. Then the same again, for ever. In odd rounds blocks have a crc32c, in even ones they
 * are known byte by byte, the round's number among them, so that a block of an earlier round is found too.
 *
 *   WEFT {"fact":"fio","round":3,"status":0,"error":""}      a round is over; not 0: a block was not what was written, or an error
 *   WEFT {"fact":"disk-io","reads":9000,"writes":7000,"sectors":131072}   what the disk has answered since the boot, and its size
 *
 * It is a machine with such an image, a volume that `volumes-guest` would take for its disk, and FIO_MACHINE.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { directory, emitCpio, file } from '../../../control/image/cpio.js';
import type { Fact, Guest } from './guests.js';
import { findProgram } from './needs.js';
import { run } from './processes.js';

/** What such a machine wants beside its image and its disk: fio's libraries alone are 80 MB. */
export const FIO_MACHINE = 'memory: 384MiB, cmdline: weft.disk=/dev/vda weft.work=disk';

/** One round writes so much, and reads it twice. */
const ROUND_MIB = 2;

const FIO =
  `/fio/ld --library-path /fio /fio/fio --name=verify --size=${ROUND_MIB}m --bs=4k --ioengine=libaio --iodepth=8
  --direct=1 --verify_fatal=1 --thread --clocksource=clock_gettime --allow_file_create=0`.replaceAll(
    /\s+/g,
    ' ',
  );
const WRITE = '--rw=randwrite --fsync=32 --verify_backlog=256 --verify_backlog_batch=64';

const workOf = (before: string): string => `#!/bin/busybox sh
. /weft/fact.sh
${before}
dd if=/dev/zero of="$1" bs=1M count=${ROUND_MIB} conv=fsync 2>/run/dd
while :; do
  read -r reads a b c writes rest </sys/block/vda/stat
  fact disk-io '"reads":'$reads',"writes":'$writes',"sectors":'$(cat /sys/block/vda/size)
  sleep 1
done &
round=0
while :; do
  round=$((round + 1))
  how=--verify=crc32c
  [ $((round % 2)) = 1 ] || how="--verify=pattern --verify_pattern=0x$(printf %08x $round)%o"
  ${FIO} --filename="$1" $how --randseed=$round ${WRITE} >/run/fio 2>&1 &&
    ${FIO} --filename="$1" $how --rw=read >/run/fio 2>&1
  fact fio '"round":'$round',"status":'$?',"error":"'"$(grep -m 1 'failed\\|fio: ' /run/fio | tr -d '"\\\\\\t')"'"'
done
`;

/** Writes an initrd to `place`: that of a tiny image, and fio as it is on this machine. `before`: lines of shell that run first. */
export async function makeFioInitrd(tinyInitrd: string, place: string, before = ''): Promise<void> {
  const fio = findProgram('fio')!;
  const { stdout } = await run(['ldd', fio]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
  const isLoader = (path: string): boolean => basename(path).startsWith('ld-linux');
  const first = readFileSync(tinyInitrd);
  const second = emitCpio([
    directory('fio'),
    ...libraries.map(path =>
      file(`fio/${isLoader(path) ? 'ld' : basename(path)}`, readFileSync(path), 0o755),
    ),
    file('fio/fio', readFileSync(fio), 0o755),
    file('weft/work.sh', new TextEncoder().encode(workOf(before)), 0o755),
  ]);
  // An archive begins at a multiple of four.
  const gap = new Uint8Array((4 - (first.length % 4)) % 4);
  writeFileSync(place, Buffer.concat([first, gap, second]), { mode: 0o644 });
}

/** Reads and writes that its disk has answered since its boot. */
export function answered(guest: Guest): number {
  const last = guest.said('disk-io').at(-1);
  return Number(last?.['reads'] ?? 0) + Number(last?.['writes'] ?? 0);
}

/** Rounds that are over, the first one first. */
export function rounds(guest: Guest): Fact[] {
  return guest.said('fio');
}
