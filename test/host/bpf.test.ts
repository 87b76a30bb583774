import t from 'tap';
import * as bpf from '../../host/bpf.js';
import { BpfAssembler, R0, R1, R10, R2 } from '../../host/bpfAssembler.js';
import { E2BIG, EEXIST, ENOENT } from '../../host/errno.js';
import { addVeth, linkByName } from '../../host/netlink.js';
import { createNetns, inNetns } from '../../host/netns.js';
import { close } from '../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'bpf(2) needs root';
const FRAME = new Uint8Array(64).fill(0xa5);

await t.test('a map: put, find, change, remove, and its bound', { skip }, async t => {
  const map = new bpf.BpfMap({
    type: bpf.MAP_TYPE_HASH,
    key_bytes: 12,
    value_bytes: 20,
    entries: 2,
    name: 'weft_test',
  });
  map.key.setUint32(0, 1, true);
  map.value.setUint32(16, 77, true);
  t.equal(map.lookup(), -ENOENT);
  t.equal(map.update(bpf.UPDATE_EXISTING), -ENOENT);
  t.equal(map.update(), 0);
  t.equal(map.update(bpf.UPDATE_NEW), -EEXIST);
  map.value.setUint32(16, 0, true);
  t.equal(map.lookup(), 0);
  t.equal(map.value.getUint32(16, true), 77);
  for (const [key, result] of [
    [2, 0],
    [3, -E2BIG],
  ] as const) {
    map.key.setUint32(0, key, true);
    t.equal(map.update(), result, `key ${key}`);
  }
  map.key.setUint32(0, 1, true);
  t.equal(map.delete(), 0);
  t.equal(map.delete(), -ENOENT);
  map.close();
  map.close();
  t.throws(() => new bpf.BpfMap({ type: 0xffff, key_bytes: 4, value_bytes: 4, entries: 1 }), {
    code: 'EINVAL',
  });
});

await t.test('a whole map in batches', { skip }, async t => {
  const map = new bpf.BpfMap({ type: bpf.MAP_TYPE_HASH, key_bytes: 4, value_bytes: 8, entries: 4096 });
  for (let i = 0; i < 3000; i++) {
    map.key.setUint32(0, i, true);
    map.value.setUint32(0, i * 3, true);
    if (map.update() !== 0) t.fail(`update ${i}`);
  }
  const batch = new bpf.BpfBatch(map, 512);
  for (let round = 0; round < 2; round++) {
    const seen = new Map<number, number>();
    for (let isLast = false; !isLast; isLast = batch.isLast) {
      const count = batch.next();
      if (count < 0) t.bailout(`batch: ${count}`);
      for (let i = 0; i < count; i++)
        seen.set(batch.keys.getUint32(i * 4, true), batch.values.getUint32(i * 8, true));
    }
    t.equal(seen.size, 3000);
    t.ok([...seen].every(([key, value]) => value === key * 3));
    batch.rewind();
  }
  batch.close();
  map.close();
});

await t.test('a program runs, counts into a map, and reads its frame', { skip }, async t => {
  const map = new bpf.BpfMap({ type: bpf.MAP_TYPE_ARRAY, key_bytes: 4, value_bytes: 8, entries: 1 });
  const program = bpf.loadProgram({
    type: bpf.PROG_TYPE_SCHED_CLS,
    name: 'weft_test',
    instructions: new BpfAssembler()
      .load(4, R0, R1, 0)
      .loadMapValue(R1, map.fd, 0)
      .move(R2, 5)
      .atomicAdd(8, R1, 0, R2)
      .exit()
      .finish(),
  });
  t.equal(bpf.testRun(program, FRAME).result, FRAME.length);
  t.same(bpf.testRun(program, FRAME).frame, FRAME);
  map.key.setUint32(0, 0, true);
  t.equal(map.lookup(), 0);
  t.equal(map.value.getUint32(0, true), 10);
  close(program);
  map.close();
});

await t.test('a refused program comes with what the verifier said', { skip }, async t => {
  const instructions = new BpfAssembler().load(8, R0, R10, 8).exit().finish();
  t.throws(() => bpf.loadProgram({ type: bpf.PROG_TYPE_XDP, instructions, name: 'weft_bad' }), {
    code: /EACCES|EINVAL/,
    message: /weft_bad.*verifier says.*invalid/s,
  });
  t.throws(() => bpf.loadProgram({ type: bpf.PROG_TYPE_XDP, instructions: new Uint8Array(7) }), {
    code: 'EINVAL',
  });
});

await t.test('links at XDP and at tcx end with their fd', { skip }, async t => {
  const netns = createNetns();
  const instructions = new BpfAssembler().move(R0, 2).exit().finish();
  const xdp = bpf.loadProgram({ type: bpf.PROG_TYPE_XDP, instructions });
  const tc = bpf.loadProgram({ type: bpf.PROG_TYPE_SCHED_CLS, instructions });
  inNetns(netns, () => {
    addVeth('bpf0', 'bpf1');
    const { index } = linkByName('bpf0')!;
    const link = bpf.createLink(xdp, index, bpf.ATTACH_XDP, bpf.XDP_FLAGS_SKB_MODE);
    t.throws(() => bpf.createLink(xdp, index, bpf.ATTACH_XDP, bpf.XDP_FLAGS_SKB_MODE), { code: 'EBUSY' });
    close(link);
    close(bpf.createLink(xdp, index, bpf.ATTACH_XDP, bpf.XDP_FLAGS_SKB_MODE));
    for (const hook of [bpf.ATTACH_TCX_INGRESS, bpf.ATTACH_TCX_EGRESS])
      close(bpf.createLink(tc, index, hook));
    t.throws(() => bpf.createLink(tc, 4242, bpf.ATTACH_TCX_INGRESS), { code: 'ENODEV' });
  });
  for (const fd of [xdp, tc, netns]) close(fd);
});
