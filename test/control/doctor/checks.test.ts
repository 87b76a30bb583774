/** What is made of what was found. */
import t from 'tap';
import { Doctor } from '../../../control/api/contract.js';
import { isAtLeast, judge } from '../../../control/doctor/checks.js';
import type { Facts } from '../../../control/doctor/checks.js';
import { collectFacts } from '../../../control/doctor/process.js';

const there = (version: string) => ({ version });
const GOOD: Facts = {
  nodeVersion: 'v20.20.2',
  platform: 'linux',
  arch: 'x64',
  uid: 0,
  capabilities: (1n << 41n) - 1n,
  tun: 'ok',
  kvm: { usable: true, reason: null },
  kvmProbe: { works: true, reason: 'a guest booted' },
  ioUring: { available: true, reason: '' },
  kernelVersion: '6.12.1-amd64',
  programs: {
    qemu: there('QEMU emulator version 7.2.22'),
    qemuImg: there('qemu-img version 7.2.22'),
    passt: there('passt 0.0'),
    busybox: there('BusyBox v1.35.0'),
    dpkgDeb: there('dpkg-deb 1.21'),
    aptGet: there('apt 2.6'),
  },
  qemuBinary: 'qemu-system-x86_64',
  state: { path: '/var/lib/weft', writable: true, free_bytes: 2 ** 40, fileSystem: '/var' },
  memory_bytes: 2 ** 33,
};

function faults(change: Partial<Facts>) {
  return judge({ ...GOOD, ...change }).checks.filter(check => check.status !== 'ok');
}

await t.test('nothing is wrong with a good machine', async t => {
  t.same(faults({}), []);
  Doctor.parse(judge(GOOD));
});

await t.test('what is wrong, what it means, what to do', async t => {
  t.match(faults({ nodeVersion: 'v18.19.0' }), [
    { name: 'node', status: 'missing', advice: /20\.19 or newer/ },
  ]);
  t.match(
    faults({
      uid: 1000,
      capabilities: 0n,
      tun: 'denied',
      kvm: { usable: false, reason: 'there is no /dev/kvm' },
    }),
    [
      { name: 'rights', status: 'warning', found: 'user 1000', advice: /CAP_NET_ADMIN/ },
      { name: '/dev/net/tun', status: 'warning' },
      { name: 'kvm', found: 'there is no /dev/kvm', advice: /emulated/ },
    ],
  );
  t.match(faults({ kvmProbe: { works: false, reason: 'Suberror: 1' } }), [
    { name: 'kvm', found: /no guest boots under it: Suberror: 1/, advice: /accel\.json/ },
  ]);
  t.match(faults({ programs: { ...GOOD.programs, qemu: { version: null } } }), [
    {
      name: 'qemu',
      status: 'missing',
      debianPackage: 'qemu-system-x86',
      advice: /apt-get install qemu-system-x86/,
    },
  ]);
  t.match(
    faults({ arch: 'arm64', programs: { ...GOOD.programs, qemu: there('QEMU emulator version 6.0.0') } }),
    [{ name: 'qemu', status: 'missing', debianPackage: 'qemu-system-arm' }],
  );
  t.match(faults({ ioUring: { available: false, reason: 'switched off' } }), [
    { name: 'io_uring', found: /switched off/ },
  ]);
  t.match(faults({ kernelVersion: '6.1.0-31-amd64' }), [
    { name: 'offload', status: 'warning', advice: /6\.6/ },
  ]);
  t.match(faults({ state: { ...GOOD.state, writable: false } }), [
    { name: 'state directory', status: 'missing' },
  ]);
  t.match(faults({ state: { ...GOOD.state, free_bytes: 2 ** 29 } }), [
    { name: 'state directory', status: 'warning' },
  ]);
  t.match(faults({ state: { ...GOOD.state, path: `/${'x'.repeat(60)}` } }), [
    { name: 'socket paths', advice: /20 characters instead of 40|characters instead of 40/ },
  ]);
});

await t.test('versions', async t => {
  t.ok(isAtLeast('v20.19.0', [20, 19]));
  t.ok(isAtLeast('QEMU emulator version 10.0', [7, 2]));
  t.notOk(isAtLeast('7.1.9', [7, 2]));
  t.notOk(isAtLeast('none', [7, 2]));
});

await t.test('this machine can be looked at', async t => {
  const facts = await collectFacts(t.testdir(), () => ({ available: true, reason: '' }));
  t.equal(facts.nodeVersion, process.version);
  t.ok(facts.state.writable);
  Doctor.parse(judge(facts));
});
