/**
 * Kinds of ports beyond access and trunk, with tcpdump and tshark to say what came out: QinQ, translation, hybrid,
 * private VLANs.
 *
 *     custA: tunnel 100 ---+          +--- provider: 0x88a8, 100
 *     custB: tunnel 100 ---+- switch -+--- other: trunk where VLAN 10 has the number 110
 *     office: hybrid 10, 30+          +--- ten: access 10
 *     router: primary 50, tenant1 and tenant2: isolated 51
 */
import t from 'tap';
import type { PortVlan } from '../../dataplane/contract.js';
import { Capture } from './harness/capture.js';
import { BROADCAST, frame } from './harness/frames.js';
import type { Tag } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { run } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

const PORTS: Readonly<Record<string, PortVlan>> = {
  custA: { mode: 'tunnel', vlan: 100 },
  custB: { mode: 'tunnel', vlan: 100 },
  provider: { mode: 'trunk', allowed: [[100, 100]], native: null, tpid: 0x88a8 },
  other: { mode: 'trunk', allowed: [[10, 10], [30, 30]], native: null, translate: [[110, 10]] }, // prettier-ignore
  office: { mode: 'hybrid', pvid: 10, untagged: [[10, 10]], tagged: [[30, 30]] },
  ten: { mode: 'access', vlan: 10 },
  router: { mode: 'access', vlan: 50 },
  tenant1: { mode: 'access', vlan: 51 },
  tenant2: { mode: 'access', vlan: 51 },
};
const NAMES = Object.keys(PORTS);

/** Each: who says it, in which tags, and who hears it how: `s` before a service tag, outermost first. */
const SAYINGS: readonly (readonly [text: string, by: string, tags: Tag[], heard: Record<string, string>])[] =
  [
    ['plain', 'custA', [], { custB: '', provider: 's100' }],
    ['seven', 'custA', [{ vlan: 7 }], { custB: '7', provider: 's100 7' }],
    ['twice', 'custB', [{ vlan: 7 }, { vlan: 8 }], { custA: '7 8', provider: 's100 7 8' }],
    ['inward', 'provider', [{ vlan: 100, tpid: 0x88a8 }, { vlan: 9 }], { custA: '9', custB: '9' }],
    ['wrong kind', 'provider', [{ vlan: 100 }], {}],
    ['translated', 'other', [{ vlan: 110 }], { office: '', ten: '' }],
    ['not by its own', 'other', [{ vlan: 10 }], {}],
    ['outward', 'ten', [], { office: '', other: '110' }],
    ['telephone', 'office', [{ vlan: 30 }], { other: '30' }],
    ['thirty', 'other', [{ vlan: 30 }], { office: '30' }],
    ['desk', 'office', [], { ten: '', other: '110' }],
    ['router says', 'router', [], { tenant1: '', tenant2: '' }],
    ['tenant says', 'tenant1', [], { router: '' }],
  ];

/** Each text that arrived, with its tags, by tshark: text -> tags. */
async function arrived(path: string): Promise<Map<string, string>> {
  const fields = ['ieee8021ad.id', 'vlan.id', 'data.data'].flatMap(field => ['-e', field]);
  const { stdout } = await run(['tshark', '-n', '-r', path, '-T', 'fields', ...fields]);
  const heard = new Map<string, string>();
  for (const line of stdout.split('\n')) {
    const [service = '', customer = '', data = ''] = line.split('\t');
    const text = Buffer.from(data, 'hex').toString('latin1').replace(/\0+$/, '');
    if (text === '') continue;
    const outer = service === '' ? [] : service.split(',').map(id => `s${Number(id)}`);
    const inner = customer === '' ? [] : customer.split(',').map(id => String(Number(id)));
    heard.set(text, [...outer, ...inner].join(' '));
  }
  return heard;
}

t.setTimeout(280_000);

await t.test('who hears what, and in which tags', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('switch');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const ports = NAMES.map(name => ({
    name,
    vlan: PORTS[name]!,
    device: { kind: 'tap' as const, ifname: name },
  }));
  const privateVlans = [{ primary: 50, isolated: 51, communities: [] }];
  await plane.configure([{ ...switchOf('lan', ports), privateVlans }]);
  const rooms = new Map<string, Namespace>();
  const captures = new Map<string, Capture>();
  for (const name of NAMES) {
    const room = await lab.namespace(name);
    await inside.moveLink(name, room);
    await room.up(name);
    rooms.set(name, room);
    captures.set(name, await Capture.start(lab, room, name));
  }
  for (const [payload, by, tags] of SAYINGS) {
    const from = `02:00:00:00:00:0${NAMES.indexOf(by) + 1}`;
    await sendFrames(rooms.get(by)!, by, [frame({ to: BROADCAST, from, tags, payload })]);
  }
  // A switch decides in order: what was said last has been heard, so all before it has been sent.
  for (const [text, , , heard] of SAYINGS)
    for (const name of Object.keys(heard)) await captures.get(name)!.waitFor(text);
  for (const capture of captures.values()) await capture.frames();
  const heardBy = new Map<string, Map<string, string>>();
  for (const [name, { path }] of captures) heardBy.set(name, await arrived(path));
  for (const [text, by, , want] of SAYINGS) {
    const got = NAMES.flatMap(name => {
      const tags = heardBy.get(name)!.get(text);
      return tags === undefined ? [] : [[name, tags] as const];
    });
    t.same(Object.fromEntries(got), want, `"${text}" of ${by}`);
  }
});
