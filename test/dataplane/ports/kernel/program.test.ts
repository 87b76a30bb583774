/**
 * The programs, run by the kernel on frames of ours without an interface (BPF_PROG_TEST_RUN): what they find, count
 * and answer. Where the frames go then is test/lab/offload.test.ts's.
 */
import t from 'tap';
import * as bpf from '../../../../host/bpf.js';
import { close } from '../../../../host/raw.js';
import * as layout from '../../../../dataplane/ports/kernel/layout.js';
import * as program from '../../../../dataplane/ports/kernel/program.js';
import * as vlan from '../../../../dataplane/wire/vlan.js';

const skip = process.getuid?.() === 0 ? false : 'bpf(2) needs root';

const PORT = 5;
const KEY = {
  destinationHigh: 0x0202,
  destinationLow: 0x02020202,
  sourceHigh: 0x0404,
  sourceLow: 0x04040404,
  tci: -1,
  port: PORT,
};
const ACTION: layout.FlowAction = {
  generation: 7,
  how: layout.HOW_OUT,
  ifindex: 1,
  edit: vlan.EDIT_NONE,
  frame_max_bytes: 1514,
  segment_max_bytes: 1460,
};

function frame(...tail: number[]): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.fill(2, 0, 6);
  bytes.fill(4, 6, 12);
  bytes.set(tail, 12);
  return bytes;
}
const PLAIN = frame(0x88, 0xb5);

interface Bench {
  run(instructions: Uint8Array, bytes: Uint8Array, isFilter?: boolean): number;
  put(key: layout.FlowKey, action: layout.FlowAction): void;
  setGeneration(generation: number): void;
  /** Frames and octets of a flow. */
  counted(key: layout.FlowKey): [number, number];
  readonly maps: program.Maps;
  close(): void;
}

function bench(): Bench {
  const flows = new bpf.BpfMap({
    type: bpf.MAP_TYPE_HASH,
    key_bytes: layout.KEY_BYTES,
    value_bytes: layout.VALUE_BYTES,
    entries: 16,
  });
  const generation = new bpf.BpfMap({ type: bpf.MAP_TYPE_ARRAY, key_bytes: 4, value_bytes: 8, entries: 1 });
  return {
    maps: { flows: flows.fd, generation: generation.fd },
    run(instructions, bytes, isFilter = false) {
      const type = isFilter ? bpf.PROG_TYPE_SOCKET_FILTER : bpf.PROG_TYPE_SCHED_CLS;
      const fd = bpf.loadProgram({ type, instructions });
      try {
        // The kernel hides the first header from a socket's filter here, unlike from a packet socket's.
        const shown = isFilter ? new Uint8Array([...bytes.subarray(0, 14), ...bytes]) : bytes;
        return bpf.testRun(fd, shown).result | 0;
      } finally {
        close(fd);
      }
    },
    put(key, action) {
      layout.putKey(flows.key, 0, key);
      layout.putAction(flows.value, 0, action);
      flows.update();
    },
    setGeneration(value) {
      generation.key.setUint32(0, 0, true);
      generation.value.setUint32(0, value, true);
      generation.update();
    },
    counted(key) {
      layout.putKey(flows.key, 0, key);
      flows.lookup();
      return [
        layout.counterAt(flows.value, layout.VALUE_FRAMES),
        layout.counterAt(flows.value, layout.VALUE_OCTETS),
      ];
    },
    close() {
      flows.close();
      generation.close();
    },
  };
}

await t.test('forward: a flow of this generation, and nothing else', { skip }, async t => {
  const b = bench();
  t.teardown(() => b.close());
  const code = program.forward(b.maps, PORT);
  t.equal(b.run(code, PLAIN), program.VERDICT_NEXT, 'no flow');
  b.put(KEY, ACTION);
  t.equal(b.run(code, PLAIN), program.VERDICT_NEXT, 'not of this generation');
  b.setGeneration(7);
  t.equal(b.run(code, PLAIN), program.VERDICT_REDIRECT);
  t.same(b.counted(KEY), [1, 64]);
  t.equal(b.run(program.forward(b.maps, PORT + 1), PLAIN), program.VERDICT_NEXT, 'another port');
  for (const at of [0, 5, 6, 11]) {
    const other = PLAIN.slice();
    other[at]! ^= 2;
    t.equal(b.run(code, other), program.VERDICT_NEXT, `another address at ${at}`);
  }
  t.equal(
    b.run(
      code,
      new Uint8Array(1600).map((_, i) => PLAIN[i] ?? 0),
    ),
    program.VERDICT_NEXT,
    'too long',
  );
  b.setGeneration(8);
  t.equal(b.run(code, PLAIN), program.VERDICT_NEXT, 'all have ended');
  t.same(b.counted(KEY), [1, 64]);
});

await t.test('forward: tags are part of the flow; what has two goes the ordinary way', { skip }, async t => {
  const b = bench();
  t.teardown(() => b.close());
  b.setGeneration(7);
  const code = program.forward(b.maps, PORT);
  const tagged = frame(0x81, 0x00, 0xa0, 0x64, 0x88, 0xb5);
  b.put(KEY, ACTION);
  t.equal(b.run(code, tagged), program.VERDICT_NEXT);
  const key = { ...KEY, tci: 0xa064 };
  b.put(key, ACTION);
  t.equal(b.run(code, tagged), program.VERDICT_REDIRECT);
  t.same(b.counted(key), [1, 64]);
  t.equal(b.run(code, frame(0x81, 0x00, 0x80, 0x64, 0x88, 0xb5)), program.VERDICT_NEXT, 'other priority');
  for (const inner of [0x81, 0x88, 0x91]) {
    const second = inner === 0x88 ? 0xa8 : 0x00;
    t.equal(b.run(code, frame(0x81, 0x00, 0xa0, 0x64, inner, second, 0, 5)), program.VERDICT_NEXT);
  }
  t.equal(b.run(code, frame(0x88, 0xa8, 0x00, 0x64, 0x88, 0xb5)), program.VERDICT_NEXT, 'a service tag');
  b.put({ ...KEY, tci: 0 }, ACTION);
  t.equal(b.run(code, frame(0x81, 0x00, 0x00, 0x00, 0x88, 0xb5)), program.VERDICT_REDIRECT, 'priority tag');
});

await t.test('gate and what is behind it: in flight when a flow ends', { skip }, async t => {
  const b = bench();
  t.teardown(() => b.close());
  b.setGeneration(7);
  b.put(KEY, ACTION);
  const gate = program.gate(b.maps, PORT, 1);
  const behind = program.forwardBehindGate(b.maps, PORT);
  t.equal(b.run(gate, PLAIN), program.VERDICT_REDIRECT);
  t.same(b.counted(KEY), [0, 0], 'the gate counts nothing');
  b.setGeneration(8);
  t.equal(b.run(gate, PLAIN), program.VERDICT_NEXT);
  t.equal(b.run(behind, PLAIN), program.VERDICT_REDIRECT);
  t.same(b.counted(KEY), [1, 64]);
  const forged = PLAIN.slice();
  forged[11]! ^= 1;
  t.equal(b.run(behind, forged), program.VERDICT_DROP, 'what did not come by the gate');
  t.equal(b.run(program.deliver(1), PLAIN), program.VERDICT_REDIRECT);
});

await t.test('filter: leaves to the hook what it will forward', { skip }, async t => {
  const b = bench();
  t.teardown(() => b.close());
  b.setGeneration(7);
  const filter = program.filter(b.maps, PORT);
  t.equal(b.run(filter, PLAIN, true), program.FILTER_TAKE);
  b.put(KEY, ACTION);
  t.equal(b.run(filter, PLAIN, true), program.FILTER_LEAVE);
  b.setGeneration(8);
  t.equal(b.run(filter, PLAIN, true), program.FILTER_TAKE);
});

await t.test('which edits it knows', async t => {
  for (const edit of [0, vlan.EDIT_REMOVE, vlan.EDIT_ADD | 5, vlan.EDIT_REPLACE | 0xf005])
    t.ok(layout.canEdit(edit));
  for (const edit of [1 << 18, 1 << 30, vlan.EDIT_ADD | (1 << 20)]) t.notOk(layout.canEdit(edit));
});
