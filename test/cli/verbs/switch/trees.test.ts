/** weft switch stp and weft switch mirrors: tables for people, from what the plane shows. */
import t, { type Test } from 'tap';
import { FakeApi, runCli } from '../../fakeApi.js';

async function asked(t: Test, what: string, shown: unknown): Promise<string> {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.on(`GET /v1/switches/lan/show/${what}`, () => shown);
  const { stdout, stderr, code } = await runCli(['switch', what, 'lan'], { state: api.state });
  t.equal(code, 0, stderr);
  return stdout;
}

const PORT = {
  port: 'up',
  portId: '128.1',
  role: 'root',
  state: 'forwarding',
  pathCost: 2000,
  isEdge: false,
  isPointToPoint: true,
  speaks: 'rstp',
  designatedBridge: '4096.02:00:00:00:00:01',
  designatedPort: '128.1',
  designatedCost: 0,
  heldBackBy: null,
  counters: { rstBpdusIn: 3, configBpdusIn: 1, tcnBpdusIn: 0, rstBpdusOut: 2 },
};
const TREE = {
  mode: 'rstp',
  bridgeId: '32768.02:00:00:00:00:02',
  rootId: '4096.02:00:00:00:00:01',
  rootPathCost: 2000,
  rootPort: 'up',
  isRoot: false,
  maxAge_s: 20,
  helloTime_s: 2,
  forwardDelay_s: 15,
  topologyChanges: 2,
  sinceTopologyChange_s: 7,
  lastTopologyChangePort: 'up',
  ports: [
    PORT,
    {
      ...PORT,
      port: 'vm.nic0',
      role: 'disabled',
      state: 'discarding',
      isEdge: true,
      heldBackBy: 'BPDU guard: a switch spoke here',
    },
  ],
};

await t.test('the tree as another than the root sees it, and as the root does', async t => {
  const text = await asked(t, 'stp', TREE);
  t.match(text, /Root: +4096\.02:00:00:00:00:01\n/);
  t.match(text, /Way to it: +by up, cost 2000\n/);
  t.match(text, /Topology changes: +2, the last 7 s ago by up\n/);
  t.match(text, /\nup +root +forwarding +2000 +128\.1 +rstp +4 +2\n/);
  t.match(text, /\nvm\.nic0 +disabled +discarding .* edge rstp .* BPDU guard: a switch spoke here\n/);
  const root = await asked(t, 'stp', { ...TREE, isRoot: true, rootPort: null, sinceTopologyChange_s: null });
  t.match(root, /Root: +this switch\n/);
  t.match(root, /Topology changes: +none\n/);
  t.notMatch(root, /Way to it/);
});

await t.test('no tree', async t => {
  t.match(await asked(t, 'stp', { ...TREE, mode: 'off', bridgeId: null, ports: [] }), /Spanning tree is off/);
});

await t.test('mirror sessions', async t => {
  const session = {
    name: 'watch',
    in: ['a', 'b'],
    out: ['b', 'c'],
    vlans: [
      [7, 7],
      [20, 29],
    ],
    destination: 'probe',
    snaplen_bytes: 128,
    oneIn: 10,
    problem: 'where its copies go is not up',
    counters: { frames: 5, dropNotUp: 2, dropNoRoom: 1 },
  };
  const text = await asked(t, 'mirrors', {
    sessions: [
      session,
      { ...session, name: 'ruled', in: [], out: [], vlans: [], snaplen_bytes: null, oneIn: 1 },
    ],
  });
  t.match(
    text,
    /\nwatch +b, a in, c out, VLAN 7, VLANs 20-29 +probe +first 128 bytes, one in 10 +5 +3 +where its copies go is not up\n/,
  );
  t.match(text, /\nruled +what rules send +probe +all /);
  t.match(await asked(t, 'mirrors', { sessions: [] }), /no mirror sessions/);
});
