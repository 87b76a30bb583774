import t from 'tap';
import {
  guestPaths,
  guestUuid,
  planProblem,
  qemuArguments,
  type Hardware,
} from '../../../control/vmm/arguments.js';
import type { BootPlan } from '../../../control/vmm/host.js';

const DIR = '/var/lib/weft/run/machines/alice';
const paths = guestPaths(DIR);
const tcg: Hardware = { arch: 'x86_64', machineType: 'pc-q35-7.2', accel: 'tcg', firmware: null };

const alice: BootPlan = {
  name: 'alice',
  cpus: 2,
  memory_bytes: 128 * 2 ** 20,
  accel: 'auto',
  kernel: { path: '/k', initrd: '/i', cmdline: 'console=ttyS0 weft.peers=10.0.10.2,10.0.20.3' },
  disks: [{ socketPath: `${DIR}/disk0.sock`, nbdName: 'alice-data', readOnly: false }],
  nics: [{ socketPath: `${DIR}/nic0.sock`, mac: '52:54:00:12:34:56', transport: 'vhost', queues: 1 }],
};

/** The golden list: a change here changes the hardware that guests see. */
const GOLDEN = `
-name guest=alice,debug-threads=on
-uuid ${guestUuid('alice')}
-nodefaults
-no-user-config
-S
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-msg timestamp=on
-machine type=pc-q35-7.2,memory-backend=memory,vmport=off,hpet=off
-accel tcg,thread=multi,tb-size=128
-cpu max
-smp cpus=2,sockets=1,cores=2,threads=1
-m size=134217728B
-object memory-backend-memfd,id=memory,size=134217728,share=on
-rtc base=utc
-action reboot=reset,shutdown=pause,panic=pause
-display none
-global ICH9-LPC.disable_s3=1
-global ICH9-LPC.disable_s4=1
-chardev socket,id=qmp0,path=${DIR}/qmp0.sock,server=on,wait=off
-mon chardev=qmp0,mode=control
-chardev socket,id=qmp1,path=${DIR}/qmp1.sock,server=on,wait=off
-mon chardev=qmp1,mode=control
-chardev socket,id=serial,path=${DIR}/serial.sock,server=on,wait=off,logfile=${DIR}/serial.log,logappend=on
-serial chardev:serial
-device pcie-root-port,id=port-nic0,bus=pcie.0,addr=0x8.0x0,multifunction=on,chassis=1
-chardev socket,id=vhost0,path=${DIR}/nic0.sock,server=on,wait=off
-netdev vhost-user,id=nic0,chardev=vhost0,queues=1
-device virtio-net-pci,id=net0,bus=port-nic0,netdev=nic0,mac=52:54:00:12:34:56,romfile=,rx_queue_size=1024,tx_queue_size=1024,vectors=0
-device pcie-root-port,id=port-disk0,bus=pcie.0,addr=0x10.0x0,multifunction=on,chassis=17
-blockdev {"driver":"nbd","node-name":"disk0","server":{"type":"unix","path":"${DIR}/disk0.sock"},"export":"alice-data","reconnect-delay":3600,"open-timeout":30,"read-only":false,"discard":"unmap","detect-zeroes":"off"}
-device virtio-blk-pci,id=blk0,bus=port-disk0,drive=disk0,serial=alice-data,write-cache=on,discard=on,werror=report,rerror=report,physical_block_size=4096
-object rng-random,id=rng,filename=/dev/urandom
-device virtio-rng-pci,id=rng0,rng=rng,bus=pcie.0,addr=0x1c
-device pvpanic-pci,id=panic,bus=pcie.0,addr=0x1d
-kernel /k
-initrd /i
-append console=ttyS0 weft.peers=10.0.10.2,10.0.20.3
`
  .trim()
  .split('\n')
  .flatMap(line => {
    const space = line.indexOf(' ');
    return space < 0 ? [line] : [line.slice(0, space), line.slice(space + 1)];
  });

await t.test('a guest with a kernel, a disk and a card', async t => {
  t.same(qemuArguments(alice, tcg, paths), GOLDEN);
  t.same(qemuArguments(structuredClone(alice), tcg, paths), GOLDEN, 'equal plans, equal guests');
});

await t.test('KVM and arm64 differ where they must', async t => {
  const kvm = qemuArguments(alice, { ...tcg, accel: 'kvm' }, paths);
  t.equal(kvm[kvm.indexOf('-accel') + 1], 'kvm');
  t.equal(kvm[kvm.indexOf('-cpu') + 1], 'host');
  const arm: Hardware = { arch: 'aarch64', machineType: 'virt-7.2', accel: 'tcg', firmware: '/fw' };
  const argv = qemuArguments(alice, arm, paths);
  t.equal(argv[argv.indexOf('-machine') + 1], 'type=virt-7.2,memory-backend=memory,gic-version=3');
  t.notOk(
    argv.some(argument => argument.includes('ICH9')),
    'nothing of a PC',
  );
  t.notOk(argv.includes('-bios'), 'no firmware where a kernel is booted directly');
});

await t.test('cards: several pairs of queues, and streams', async t => {
  const cards = (nic: Partial<BootPlan['nics'][number]>, accel: 'tcg' | 'kvm' = 'kvm') =>
    qemuArguments({ ...alice, nics: [{ ...alice.nics[0]!, ...nic }] }, { ...tcg, accel }, paths).join(' ');
  t.match(cards({ queues: 4 }), /-netdev vhost-user,id=nic0,chardev=vhost0,queues=4 .*,mq=on,vectors=10/);
  t.match(cards({ queues: 4 }, 'tcg'), /,mq=on,vectors=0/, 'no message-signalled interrupts without KVM');
  const stream = cards({ transport: 'stream' });
  t.match(stream, /-netdev stream,id=nic0,server=on,addr.type=unix,addr.path=\S+nic0.sock/);
  t.notMatch(stream, /vhost|queue_size/);
});

await t.test('a disk by vhost-user: dialled again, without vectors under TCG', async t => {
  const disks = [{ ...alice.disks[0]!, vhost: { queues: 4 } }];
  const words = (hardware: Hardware, plan = {}): string =>
    qemuArguments({ ...alice, disks, ...plan }, hardware, paths).join(' ');
  const plain = words(tcg);
  t.match(plain, `-chardev socket,id=disk0,path=${DIR}/disk0.sock,reconnect=1 `);
  t.match(
    plain,
    '-device vhost-user-blk-pci,id=blk0,bus=port-disk0,chardev=disk0,num-queues=4,queue-size=256,vectors=0',
  );
  t.notMatch(plain, /-blockdev|virtio-blk-pci/);
  t.match(words(tcg, { kernel: null }), /vectors=0,bootindex=0/);
  t.notMatch(words({ ...tcg, accel: 'kvm' }), /vectors/);
  t.match(words({ ...tcg, machineType: 'pc-q35-10.0' }), /,reconnect-ms=1000 /);
  t.match(planProblem({ ...alice, disks: [{ ...disks[0]!, vhost: { queues: 17 } }] }, paths), /17 queues/);
});

await t.test('a disk boot', async t => {
  const disks = [alice.disks[0]!, { ...alice.disks[0]!, readOnly: true, nbdName: 'a,b="x"' }];
  const argv = qemuArguments({ ...alice, kernel: null, disks }, tcg, paths);
  t.notOk(argv.includes('-kernel'));
  const devices = argv.filter(argument => argument.startsWith('virtio-blk-pci'));
  t.match(devices[0], /,bootindex=0$/);
  t.notMatch(devices[1], /bootindex/);
  t.match(devices[1], /,serial=disk1,/, 'a name that is no serial number is not used as one');
  const second = argv.filter(argument => argument.startsWith('{'))[1];
  t.match(JSON.parse(second ?? ''), { export: 'a,b="x"', 'read-only': true }, 'any name passes unharmed');
  const arm: Hardware = { arch: 'aarch64', machineType: 'virt-7.2', accel: 'tcg', firmware: '/fw' };
  const armArgv = qemuArguments({ ...alice, kernel: null }, arm, paths);
  t.equal(armArgv[armArgv.indexOf('-bios') + 1], '/fw');
});

await t.test('paths with commas reach QEMU whole', async t => {
  const argv = qemuArguments(alice, tcg, guestPaths('/a,b'));
  t.ok(argv.some(argument => argument.includes('path=/a,,b/qmp0.sock,server=on')));
});

await t.test('every card and disk has a place of its own, which depends on nothing else', async t => {
  const nics = Array.from({ length: 16 }, (_, index) => ({
    socketPath: `${DIR}/nic${index}.sock`,
    mac: '52:54:00:00:00:01',
    transport: 'vhost' as const,
    queues: 1,
  }));
  const disks = Array.from({ length: 24 }, (_, index) => ({
    socketPath: `${DIR}/disk${index}.sock`,
    nbdName: `d${index}`,
    readOnly: false,
  }));
  const ports = (plan: BootPlan): Map<string, string> =>
    new Map(
      qemuArguments(plan, tcg, paths)
        .filter(argument => argument.startsWith('pcie-root-port'))
        .map(argument => [/id=([^,]+)/.exec(argument)?.[1] ?? '', /addr=([^,]+)/.exec(argument)?.[1] ?? '']),
    );
  const all = ports({ ...alice, nics, disks });
  t.equal(all.size, 40);
  t.equal(new Set(all.values()).size, 40);
  const few = ports({ ...alice, nics: nics.slice(0, 2), disks: disks.slice(0, 9) });
  for (const [name, place] of few) t.equal(all.get(name), place, name);
  const chassis = qemuArguments({ ...alice, nics, disks }, tcg, paths)
    .map(argument => /chassis=(\d+)/.exec(argument)?.[1])
    .filter(one => one !== undefined);
  t.equal(new Set(chassis).size, 40);
});

await t.test('uuid: stable, and well formed', async t => {
  t.match(guestUuid('alice'), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.equal(guestUuid('alice'), guestUuid('alice'));
  t.not(guestUuid('alice'), guestUuid('bob'));
});

await t.test('plans that cannot be booted are refused in words', async t => {
  t.equal(planProblem(alice, paths), null);
  const bad: [Partial<BootPlan>, RegExp][] = [
    [{ kernel: null, disks: [] }, /neither a kernel nor a disk/],
    [{ cpus: 0 }, /0 CPUs/],
    [{ memory_bytes: 2 ** 20 }, /less than 16 MiB/],
    [{ memory_bytes: 64 * 2 ** 20 + 1 }, /multiple of 4 KiB/],
    [{ nics: Array.from({ length: 17 }, () => alice.nics[0]!) }, /17 NICs, 16 is the most/],
    [{ disks: Array.from({ length: 25 }, () => alice.disks[0]!) }, /25 disks, 24 is the most/],
    [{ nics: [{ ...alice.nics[0]!, mac: 'zz' }] }, /MAC address/],
    [{ nics: [{ ...alice.nics[0]!, queues: 17 }] }, /17 pairs of queues, 16 is the most/],
    [{ disks: [{ ...alice.disks[0]!, socketPath: `/${'x'.repeat(107)}` }] }, /longer than 107 bytes/],
    [{ kernel: { ...alice.kernel!, cmdline: 'x'.repeat(2048) } }, /2048 bytes, 2047 is the most/],
  ];
  for (const [change, words] of bad) t.match(planProblem({ ...alice, ...change }, paths), words);
  t.match(planProblem(alice, guestPaths(`/${'x'.repeat(100)}`)), /state directory with a shorter path/);
});
