/**
 * A guest whose disks are attached by vhost-user, while weft-storage is killed under it.
 *
 *   guest "fio" --- vda: ext4, fio verifies what it writes ---+ memory shared with QEMU
 *              \--- vdb: discarded, zeroed, grown ------------+---- weft-storage (kill -9) --- pool "main"
 *   guest "odd" --- vda: encrypted, under fio, too            +---- pool "other": the mirror's second side
 *              \--- vdb: mirrored, vdc: limited, blocks of 4096, vdd: its changes thrown away, vde: read-only
 *
 * QEMU dials again after each kill and hands back what was under way: fio goes on, finds nothing wrong, and sees no error.
 *
 * WEFT_LAB_KILLS=50 kills so often; the default is kept small.
 *
 * lab: guests
 */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import { FIO_MACHINE, answered, makeFioInitrd, rounds } from './harness/fioGuest.js';
import { ask } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, killSync } from './harness/processes.js';

t.setTimeout(3_600_000);

const MIB = 2 ** 20;
const KILLS = Number(process.env['WEFT_LAB_KILLS'] ?? 4);

const needs = { ...FABRIC_NEEDS, programs: [...(FABRIC_NEEDS.programs ?? []), 'fio', 'ldd'] };

/** What the guest finds of its second disk, each second; and once, whether what it discards and writes is as it should be. */
const SECOND = `
second=/sys/block/vdb
while :; do
  fact second '"sectors":'$(cat $second/size)',"queues":'$(ls $second/mq | wc -l)',"serial":"'$(cat $second/serial)'","block":'$(cat $second/queue/logical_block_size)',"discards":'$(cat $second/queue/discard_max_bytes)',"zeroes":'$(cat $second/queue/write_zeroes_max_bytes)',"cache":"'"$(cat $second/queue/write_cache)"'"'
  sleep 1
done &
(
  yes weft | dd of=/dev/vdb bs=64k count=32 iflag=fullblock conv=fsync 2>/run/dd
  before=$(dd if=/dev/vdb bs=64k count=32 iflag=direct 2>/run/dd | sha256sum | cut -c 1-16)
  blkdiscard -o 0 -l 1048576 /dev/vdb 2>/run/discard
  status=$?
  zeroes=$(dd if=/dev/vdb bs=64k count=16 iflag=direct 2>/run/dd | tr -d '\\0' | wc -c)
  after=$(dd if=/dev/vdb bs=64k skip=16 count=16 iflag=direct 2>/run/dd | tr -d 'weft\\n' | wc -c)
  fact discarded '"status":'$status',"zeroes":'$zeroes',"after":'$after',"sum":"'$before'"'
) &
`;

/** What the other guest finds of its disks: whether each takes 2 MiB and gives them back. */
const ODD = `
(
  for name in vdb vdc vdd vde; do
    yes $name | dd of=/dev/$name bs=64k count=32 iflag=fullblock conv=fsync 2>/run/dd
    status=$?
    sum=$(dd if=/dev/$name bs=64k count=32 iflag=direct 2>/run/dd | sha256sum | cut -d ' ' -f 1)
    fact odd '"disk":"'$name'","status":'$status',"sum":"'$sum'","ro":'$(cat /sys/block/$name/ro)',"block":'$(cat /sys/block/$name/queue/logical_block_size)
  done
) &
`;

function sumOf(word: string): string {
  return createHash('sha256')
    .update(`${word}\n`.repeat(2 * MIB).slice(0, 2 * MIB))
    .digest('hex');
}

/** Of `yes weft`, 2 MiB: what the guest must have read. */
const SUM_OF_WHAT = 'yes weft | head -c 2097152 | sha256sum';

await t.test(
  `disks by vhost-user, and ${KILLS} times kill -9 of weft-storage`,
  { skip: missing(needs) },
  async t => {
    const lab = Lab.open('/var/tmp');
    t.teardown(() => lab.close());
    const fabric = new Fabric(lab);
    const first = lab.path('first.yaml');
    writeFileSync(
      first,
      `
pool: { main: {} }
image: { tiny: { tiny: {} } }
volume: { first: { pool: main, size: 64MiB }, second: { pool: main, size: 32MiB } }
`,
    );
    writeFileSync(lab.path('vault.key'), randomBytes(64), { mode: 0o600 });
    await fabric.up(first);
    const tiny = join(fabric.state, 'images', 'tiny');
    await makeFioInitrd(join(tiny, 'initrd'), lab.path('fio.initrd'), SECOND);
    await makeFioInitrd(join(tiny, 'initrd'), lab.path('odd.initrd'), ODD);
    const machine = lab.path('machine.yaml');
    writeFileSync(
      machine,
      `
pool: { other: {} }
image:
  with-fio: { kernel: ${join(tiny, 'kernel')}, initrd: ${lab.path('fio.initrd')}, cmdline: console=ttyS0 quiet }
  odd: { kernel: ${join(tiny, 'kernel')}, initrd: ${lab.path('odd.initrd')}, cmdline: console=ttyS0 quiet }
volume:
  vault: { pool: main, size: 64MiB, encryption: { keyFile: ${lab.path('vault.key')} } }
  accounts: { pool: main, size: 8MiB, mirror: { pool: other } }
  shared: { pool: main, size: 8MiB, block: 4096, limits: { iops: { rate: 500, burst: 500 } } }
  kiosk: { pool: main, size: 8MiB }
  still: { pool: main, size: 8MiB }
machine:
  odd:
    image: odd
    disks:
      - { volume: vault, attach: vhost-user }
      - { volume: accounts, attach: vhost-user }
      - { volume: shared, attach: vhost-user }
      - { volume: kiosk, attach: vhost-user, undo: discard }
      - { volume: still, attach: vhost-user, readOnly: true }
    ${FIO_MACHINE.replace(', ', '\n    ')}
  fio:
    image: with-fio
    cpus: 2
    disks:
      - { volume: first, attach: vhost-user }
      - { volume: second, attach: vhost-user, queues: 2 }
    ${FIO_MACHINE.replace(', ', '\n    ')}
`,
    );
    await fabric.up(machine);
    const fio = fabric.guest('fio');
    const disk = await fio.waitFor('its disk', fact => fact.fact === 'disk');
    t.match(disk, { boots: 1, intact: true });
    t.match(await fio.waitFor('its second disk', fact => fact.fact === 'second'), {
      sectors: (32 * MIB) / 512,
      queues: 2,
      serial: 'disk1',
      block: 512,
      discards: 2 ** 30,
      zeroes: 2 ** 30,
      cache: 'write back',
    });
    const discarded = await fio.waitFor('what it discarded', fact => fact.fact === 'discarded');
    t.match(discarded, { status: 0, zeroes: 0, after: 0 }, SUM_OF_WHAT);

    const odd = fabric.guest('odd');
    for (const [disk, ro, block] of [
      ['vdb', 0, 512],
      ['vdc', 0, 4096],
      ['vdd', 0, 512],
    ] as const)
      t.match(
        await odd.waitFor(`its ${disk}`, fact => fact.fact === 'odd' && fact['disk'] === disk),
        { status: 0, sum: sumOf(disk), ro, block },
        `${disk} gives back what it was given`,
      );
    const still = await odd.waitFor('its vde', fact => fact.fact === 'odd' && fact['disk'] === 'vde');
    t.match(still, {
      ro: 1,
      sum: createHash('sha256')
        .update(Buffer.alloc(2 * MIB))
        .digest('hex'),
    });
    t.not(still['status'], 0, 'what is read-only takes nothing');

    interface SeenDisk {
      state: string;
      attach: string;
      reason: string | null;
      counters: Record<string, number> | null;
    }
    const seenDisks = async (): Promise<SeenDisk[]> => {
      const { status, text } = await ask(fabric.socket, 'GET', '/v1/resources/machine/fio');
      if (status !== 200) throw new Error(text);
      return (JSON.parse(text) as { status: { observed: { disks: SeenDisk[] } } }).status.observed.disks;
    };
    /** Of what weft-storage itself says, now. */
    const served = async (): Promise<Record<string, number>[]> => {
      const { text } = await ask(join(fabric.state, 'run', 'storage.sock'), 'GET', '/status');
      const { exports } = JSON.parse(text) as { exports: { counters: Record<string, number> }[] };
      return exports.map(({ counters }) => counters);
    };
    /** A QEMU 7.2 whose server goes while it is connecting waits for ever: storage/vhost/README.md. */
    const allServed = (): Promise<true> =>
      eventually(
        'all disks to be served',
        async () => {
          const all = await served().catch(() => []);
          return all.length === 7 && all.every(counters => counters['guestQueues']! > 0) ? true : null;
        },
        { timeout_ms: 60_000, every_ms: 50 },
      );
    let resubmitted = 0;
    for (let kill = 1; kill <= KILLS; kill++) {
      await allServed();
      resubmitted += (await served())[0]!['resubmitted']!;
      const before = answered(fio);
      const pid = await eventually(
        'weft-storage to be up',
        async () =>
          ((await fabric.pids().catch(() => ({}))) as Record<string, number | null>)['storage'] ?? null,
      );
      await new Promise(resolve => setTimeout(resolve, (kill * 37) % 300));
      killSync(pid);
      const now = await eventually(
        'its disk to go on',
        () => (answered(fio) > before ? answered(fio) : null),
        { timeout_ms: 120_000, every_ms: 50 },
      );
      t.ok(now > before, `kill ${kill}: ${before} answered, then ${now}`);
    }
    const over = rounds(fio).length;
    await eventually('another round', () => (rounds(fio).length > over + 1 ? true : null), {
      timeout_ms: 120_000,
    });
    t.same(
      rounds(fio).filter(round => round['status'] !== 0),
      [],
      `fio found nothing wrong in ${rounds(fio).length} rounds`,
    );
    await eventually('two rounds of the other', () => (rounds(odd).length > 1 ? true : null), {
      timeout_ms: 120_000,
    });
    t.same(
      rounds(odd).filter(round => round['status'] !== 0),
      [],
      `nor on the encrypted disk in ${rounds(odd).length}`,
    );

    writeFileSync(lab.path('grown.yaml'), 'volume: { second: { pool: main, size: 48MiB } }\n');
    await fabric.up(lab.path('grown.yaml'));
    await fio.waitFor(
      'the size of now',
      fact => fact.fact === 'second' && fact['sectors'] === (48 * MIB) / 512,
    );
    t.pass('the guest sees that its disk has grown');

    const [one, two] = await eventually(
      'weftd to have looked',
      async () => {
        const seen = await seenDisks();
        return seen.every(({ counters }) => (counters?.['guestQueues'] ?? 0) > 0) ? seen : null;
      },
      { timeout_ms: 90_000 },
    );
    t.match(two, { state: 'listening', attach: 'vhost-user', reason: null });
    t.match(two!.counters!, { guestQueues: 2, guestFaults: 0, errorReplies: 0 });
    t.comment(`${resubmitted} requests were done again`);
    t.ok(one!.counters!['writes']! > 0 && one!.counters!['flushes']! > 0, JSON.stringify(one!.counters));

    for (const name of ['fio', 'odd']) await fabric.weft(['machine', 'kill', name]);
    await fabric.down();
    t.same(fabric.processes(), []);
  },
);
