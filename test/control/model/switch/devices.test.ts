/** What a port can be at its outer end: words, refusals, and what becomes of them in the plane. */
import fc from 'fast-check';
import t from 'tap';
import { layoutOf } from '../../../../control/model/layout.js';
import { parse } from '../../../../control/model/parse.js';
import { specsOf } from '../../../../control/model/resource.js';
import { deviceToPlane } from '../../../../control/model/switch/devices.js';
import { parseRemote } from '../../../../control/model/switch/vxlan.js';
import { validate } from '../../../../control/model/validate.js';
import { PortDevice } from '../../../../dataplane/contract.js';

const WORLD = { layout: layoutOf('/var/lib/weft'), mentioned: new Set<string>() };
const parsed = (switches: string) => parse([{ path: 'a', text: `switch: ${switches}` }]);

function problemsOf(switches: string): string {
  const { problems, declared } = parsed(switches);
  if (problems.length > 0) return problems.map(({ message }) => message).join('\n');
  return validate(specsOf(declared.values()), WORLD)
    .map(({ path, message }) => `${path.join('.')}: ${message}`)
    .join('\n');
}

void t.test('each becomes what the plane takes', async t => {
  for (const [words, device] of [
    ['{ packet: eth1 }', { kind: 'packet', ifname: 'eth1' }],
    ['{ xdp: eth1 }', { kind: 'xdp', ifname: 'eth1', mode: 'auto' }],
    [
      '{ xdp: { interface: eth1, mode: zerocopy, queues: 4 } }',
      { kind: 'xdp', ifname: 'eth1', mode: 'zerocopy', queues: 4 },
    ],
    ['{ tap: t0, queues: 4 }', { kind: 'tap', ifname: 't0', queues: 4 }],
    ['{ dgram: { path: /run/a, peer: /run/b } }', { kind: 'dgram', path: '/run/a', peer: '/run/b' }],
    ['{ patch: { switch: q, port: y } }', { kind: 'patch', switch: 'q', port: 'y' }],
    [
      "{ vxlan: { vni: 5, local: 10.0.0.1, port: 8472, remotes: [10.0.0.2, '10.0.0.3:4789'] } }",
      {
        kind: 'vxlan',
        vni: 5,
        local: '10.0.0.1',
        port: 8472,
        remotes: [
          { address: '10.0.0.2', port: 8472 },
          { address: '10.0.0.3', port: 4789 },
        ],
      },
    ],
    [
      '{ vxlan: { vni: 5, anySender: true, dontFragment: true } }',
      { kind: 'vxlan', vni: 5, port: 4789, remotes: [], anySender: true, dontFragment: true },
    ],
  ] as const) {
    const { declared } = parsed(`{ lan: { ports: { x: ${words} } } }`);
    const plane = deviceToPlane(specsOf(declared.values()).switch.get('lan')!.ports['x']!);
    t.same(plane, device, words);
    t.same(PortDevice.parse(plane), device, 'the plane takes it as it is');
  }
});

void t.test('what cannot be is refused in words', async t => {
  for (const [ports, says] of [
    ['{ x: { packet: eth1, tap: t0 } }', /a port is exactly one of/],
    ['{ x: { packet: "a b" } }', /interface name is 1 to 15/],
    ['{ x: { vxlan: { vni: 16777216, remotes: [10.0.0.2] } } }', /16777215/],
    ['{ x: { vxlan: { vni: 1, remotes: [example.com] } } }', /a remote end is an IP address/],
    ['{ x: { vxlan: { vni: 1, remotes: ["10.0.0.2:0"] } } }', /a remote end is an IP address/],
    ['{ x: { vxlan: { vni: 1, local: 10.0.0.1, remotes: ["fd00::2"] } } }', /all IPv4 or all IPv6/],
    ['{ x: { vxlan: { vni: 1 } } }', /nobody can be spoken to/],
    ['{ x: { packet: eth1, queues: 2 } }', /only a tap has queues/],
    ['{ x: { packet: eth1 }, y: { xdp: eth1 } }', /"eth1"/],
    ['{ x: { tap: eth1 }, y: { xdp: { interface: eth1 } } }', /"eth1"/],
    [
      '{ x: { vxlan: { vni: 1, remotes: [10.0.0.2] } }, y: { vxlan: { vni: 1, remotes: [10.0.0.3] } } }',
      /VNI 1 at any address, UDP port 4789/,
    ],
    ['{ x: { patch: { switch: lan, port: x } } }', /from this port to itself/],
    ['{ x: { patch: { switch: lam, port: x } } }', /no switch "lam".*lan/],
    ['{ x: { patch: { switch: lan, port: y } } }', /is not there, or is no patch/],
    [
      '{ x: { patch: { switch: lan, port: y } }, y: { patch: { switch: lan, port: z } }, z: { patch: { switch: lan, port: y } } }',
      /x.*port "y" of switch "lan" is cabled to port "z"/,
    ],
  ] as const)
    t.match(problemsOf(`{ lan: { ports: ${ports} } }`), says, ports);
  t.equal(
    problemsOf(
      '{ lan: { ports: { x: { patch: { switch: wan, port: y } } } }, wan: { ports: { y: { patch: { switch: lan, port: x } } } } }',
    ),
    '',
  );
});

void t.test('remote ends', async t => {
  t.same(parseRemote('[fd00::2]:99'), { address: 'fd00::2', port: 99 });
  t.same(parseRemote('FD00:0::2'), { address: 'fd00::2', port: 4789 });
  for (const bad of ['', '10.0.0', '10.0.0.1:', '10.0.0.1:70000', 'fd00::2:x', '[10.0.0.1', 'localhost'])
    t.equal(parseRemote(bad), undefined, bad);
  fc.assert(
    fc.property(fc.string(), text => {
      const remote = parseRemote(text);
      return remote === undefined || (remote.port > 0 && remote.port < 65_536);
    }),
  );
});
