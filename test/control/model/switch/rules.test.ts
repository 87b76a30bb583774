/** Flow rules as written: what they turn into, and what is said about mistakes. */
import t from 'tap';
import { FlowRules, coveredRules } from '../../../../dataplane/contract.js';
import type { FlowMatch, FlowRule } from '../../../../dataplane/contract.js';
import { layoutOf } from '../../../../control/model/layout.js';
import { parse } from '../../../../control/model/parse.js';
import { specsOf } from '../../../../control/model/resource.js';
import { switchToPlane } from '../../../../control/model/switch/rules.js';
import { validate } from '../../../../control/model/validate.js';

function judge(list: string): { errors: string[]; warnings: string[]; plane: FlowRules | undefined } {
  const text = `
switch:
  lan:
    ports: { uplink: { tap: up0 } }
    rules:
      meters: { slow: { rate: 10Mbit } }
      list:
${list.replace(/^/gm, '        ')}
machine:
  alice: { image: tiny, nics: [{ switch: lan }] }
image:
  tiny: { tiny: {} }
`;
  const parsed = parse([{ path: 'f.yaml', text }]);
  const specs = specsOf(parsed.declared.values());
  const faults =
    parsed.problems.length > 0
      ? []
      : validate(specs, { layout: layoutOf('/state'), mentioned: parsed.mentioned });
  const rules = specs.switch.get('lan')?.rules;
  return {
    errors: [...parsed.problems, ...faults.filter(f => !f.isWarning)].map(({ message }) => message),
    warnings: faults
      .filter(f => f.isWarning)
      .map(
        f =>
          `${f.message} ${parsed.locate(f.path, 'value').line} ${parsed.locate(f.other!.path, 'value').line}`,
      ),
    plane: rules === undefined ? undefined : switchToPlane(rules),
  };
}

void t.test('words of people become numbers of the plane', async t => {
  const { errors, warnings, plane } = judge(`
- name: all
  priority: 7
  match:
    in: [uplink, alice.nic0]
    sourceMac: 02:00:00:00:00:00/ff:00:00:00:00:00
    etherType: ipv4
    vlan: [10, 20-29]
    vlanPriority: 5
    source: 10.0.0.0/8
    destination: [192.0.2.1, 198.51.100.0/24]
    protocol: [tcp, udp]
    sourcePort: 1024-65535
    destinationPort: [80, 443]
    tcpFlags: syn !ack
    dscp: [ef, 8]
    fragment: none
  do: { setVlan: 20, setDscp: af11, meter: slow, output: uplink, log: true }
- { name: arps, match: { etherType: arp, arp: { op: reply, sender: 10.0.0.1 } }, do: drop }
- { name: pings, match: { protocol: [icmp, icmp6], icmpType: echo-request }, do: count }
- { name: rest, do: allow }`);
  t.same(errors, []);
  t.same(warnings, []);
  t.same(FlowRules.parse(plane), plane, "the plane's contract takes it");
  t.same(plane?.rules[0]?.match, {
    inPorts: ['uplink', 'alice.nic0'],
    sourceMacs: [{ address: '02:00:00:00:00:00', mask: 'ff:00:00:00:00:00' }],
    etherTypes: [0x0800],
    vlans: [
      [10, 10],
      [20, 29],
    ],
    priorities: [5],
    sources: ['10.0.0.0/8'],
    destinations: ['192.0.2.1', '198.51.100.0/24'],
    protocols: [6, 17],
    sourcePorts: [[1024, 65_535]],
    destinationPorts: [
      [80, 80],
      [443, 443],
    ],
    tcpFlags: [{ value: 2, mask: 0x12 }],
    dscps: [46, 8],
    fragment: 'none',
  });
  t.same(plane?.rules[0]?.actions, {
    verdict: 'output',
    output: ['uplink'],
    setVlan: 20,
    setDscp: 10,
    meter: 'slow',
    log: true,
  });
  t.same(plane?.rules[2]?.match.icmp, [
    { version: 4, type: 8 },
    { version: 6, type: 128 },
  ]);
  t.same(plane?.rules[2]?.actions, { verdict: 'continue' });
  t.same(plane?.meters, [{ name: 'slow', rate_bps: 10_000_000, burst_bytes: 65_536, exceed: 'drop' }]);
});

void t.test('mistakes are named, with what was probably meant', async t => {
  const one = (rule: string): string => judge(`- { name: a, ${rule} }`).errors.join('\n');
  t.match(one('match: { in: alice.nic1 }, do: drop'), /no port "alice.nic1" here; did you mean "alice.nic0"/);
  t.match(one('do: { output: uplnk }'), /no port "uplnk" here; did you mean "uplink"/);
  t.match(one('do: { meter: fast }'), /no meter "fast" here; .*slow/);
  t.match(one('do: { mirror: tap }'), /no mirror session "tap" here; there is no mirror session at all/);
  t.match(one('match: { destinationPort: 80 }, do: drop'), /a port needs a protocol/);
  t.match(one('match: { protocol: icmp, destinationPort: 80 }, do: drop'), /"icmp" has no ports/);
  t.match(one('match: { icmpType: 8 }, do: drop'), /needs protocol: icmp/);
  t.match(one('match: { protocol: tcp, sourcePort: 90-80 }, do: drop'), /port/);
  t.match(one('match: { source: 10.0.0.300 }, do: drop'), /prefix/);
  t.match(one('match: { protokol: tcp }, do: drop'), /did you mean "protocol"/);
  t.match(one('do: { drop: true, output: uplink }'), /dropped does not leave/);
  t.match(one('do: {}'), /nothing to do/);
  t.match(judge('- { name: a, do: drop }\n- { name: a, do: drop }').errors.join(), /is named "a" already/);
});

void t.test('a rule that can never match is told with both places', async t => {
  const { errors, warnings } = judge(`
- { name: narrow, match: { protocol: tcp, destinationPort: 80, source: 10.1.0.0/16 }, do: allow }
- { name: wide, priority: 10, match: { protocol: [tcp, udp], source: 10.0.0.0/8 }, do: drop }`);
  t.same(errors, []);
  t.equal(warnings.length, 1);
  t.match(warnings[0], /"narrow" can never match.*"wide".* 9 10$/);
});

void t.test('covering is never claimed wrongly', async t => {
  const covered = (a: FlowMatch, b: FlowMatch): boolean => {
    const rule = (name: string, match: FlowMatch): FlowRule => ({
      name,
      priority: 0,
      match,
      actions: { verdict: 'drop' },
    });
    return coveredRules([rule('a', a), rule('b', b)]).length > 0;
  };
  t.ok(covered({}, { protocols: [6] }));
  t.notOk(covered({ protocols: [6] }, {}));
  t.ok(covered({ sources: ['2001:db8::/32'] }, { sources: ['2001:db8:1::/48', '2001:db8::1'] }));
  t.notOk(covered({ sources: ['2001:db8::/32'] }, { sources: ['2001:db8::/31'] }));
  t.notOk(covered({ sources: ['10.0.0.0/8'] }, { sources: ['11.0.0.0/8'] }));
  t.ok(
    covered(
      {
        protocols: [6],
        destinationPorts: [
          [1, 10],
          [11, 20],
        ],
      },
      { protocols: [6], destinationPorts: [[5, 15]] },
    ),
  );
  t.ok(covered({ fragment: 'any' }, { fragment: 'later' }));
  t.notOk(covered({ fragment: 'first' }, { fragment: 'any' }));
  t.ok(covered({ tcpFlags: [{ value: 2, mask: 2 }] }, { tcpFlags: [{ value: 2, mask: 0x12 }] }));
  t.notOk(covered({ tcpFlags: [{ value: 2, mask: 0x12 }] }, { tcpFlags: [{ value: 2, mask: 2 }] }));
});
