import fc from 'fast-check';
import t from 'tap';
import { parseRecord, type BootRecord } from '../../../control/vmm/record.js';

const record: BootRecord = {
  version: 1,
  bootId: 'b',
  plan: {
    name: 'alice',
    cpus: 1,
    memory_bytes: 2 ** 27,
    accel: 'auto',
    kernel: { path: '/k', initrd: null, cmdline: '' },
    disks: [{ socketPath: '/d', nbdName: 'd', readOnly: false }],
    nics: [{ socketPath: '/n', mac: '52:54:00:00:00:01', transport: 'vhost', queues: 2 }],
  },
  qemu: { binary: '/q', version: '7.2.22' },
  hardware: { arch: 'x86_64', machineType: 'pc-q35-7.2', accel: 'tcg', firmware: null },
  accelReason: 'asked for',
  argv: ['-S'],
  startedAt_ms: 5,
  asked: { what: 'stop', until_ms: 6 },
  end: { ended: 'stopped', reason: null },
};

await t.test('what was written is read', async t => {
  t.same(parseRecord(JSON.stringify(record)), record);
  t.same(parseRecord(JSON.stringify({ ...record, asked: null, end: null })), {
    ...record,
    asked: null,
    end: null,
  });
});

await t.test('a guest booted before there was a choice has stream cards', async t => {
  const old = structuredClone(record) as unknown as { plan: { nics: object[] } };
  old.plan.nics = [{ socketPath: '/n', mac: '52:54:00:00:00:01' }];
  t.match(parseRecord(JSON.stringify(old))?.plan.nics, [{ transport: 'stream', queues: 1 }]);
});

await t.test('what is torn, or of another weft, is not taken for one', async t => {
  const text = JSON.stringify(record);
  fc.assert(
    fc.property(fc.nat(text.length - 1), length => {
      t.equal(parseRecord(text.slice(0, length)), undefined);
    }),
    { numRuns: 50 },
  );
  t.equal(parseRecord(JSON.stringify({ ...record, version: 2 })), undefined);
  t.equal(parseRecord('null'), undefined);
});
