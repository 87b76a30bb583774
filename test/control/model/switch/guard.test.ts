/** Port security as written: what it turns into, and what is said about mistakes. */
import t from 'tap';
import { PortGuard } from '../../../../dataplane/contract.js';
import { layoutOf } from '../../../../control/model/layout.js';
import { parse } from '../../../../control/model/parse.js';
import { specsOf } from '../../../../control/model/resource.js';
import { portToPlane, withOwnMac } from '../../../../control/model/switch/guard.js';
import { validate } from '../../../../control/model/validate.js';

const MAC = '02:00:00:00:00:07';

/** `uplink` of the switch and the one card of alice. */
function judge(uplink: string, card: string): { errors: string[]; plane: PortGuard | undefined } {
  const text = `
switch: { lan: { ports: { uplink: { tap: up0 ${uplink} } } } }
machine: { alice: { image: tiny, nics: [{ switch: lan ${card} }] } }
image: { tiny: { tiny: {} } }
`;
  const parsed = parse([{ path: 'f.yaml', text }]);
  const specs = specsOf(parsed.declared.values());
  const faults =
    parsed.problems.length > 0
      ? []
      : validate(specs, { layout: layoutOf('/state'), mentioned: parsed.mentioned });
  const words = specs.machine.get('alice')?.nics[0]?.guard;
  return {
    errors: [...parsed.problems, ...faults].map(({ message }) => message),
    plane: words === undefined ? undefined : withOwnMac({ guard: portToPlane(words) }, words, MAC).guard,
  };
}
const TRUSTED = ', guard: { trusted: true }';

void t.test('a card speaks for itself unless something else is said', async t => {
  const { errors, plane } = judge('', ', guard: {}');
  t.same(errors, []);
  t.same(plane, {
    trusted: false,
    macs: [MAC],
    leases: false,
    linkLocal: 'any',
    arp: { rate_pps: 100 },
    nd: { rate_pps: 100 },
    dhcpServer: false,
    router: false,
  });
  t.same(PortGuard.parse(plane), plane);
  t.equal(judge('', ', guard: { mac: any }').plane?.macs, undefined);
  t.same(judge('', ', guard: { mac: "02:00:00:00:00:09" }').plane?.macs, ['02:00:00:00:00:09']);
  t.equal(judge('', TRUSTED).plane?.macs, undefined);
  t.match(judge('', ', guard: { arp: { rate: 7 }, nd: false }').plane, {
    arp: { rate_pps: 7 },
    nd: undefined,
  });
  t.same(
    judge('', `, guard: { addresses: [10.0.0.5, { address: 2001:db8::/64, mac: "${MAC}" }] }`).plane
      ?.addresses,
    [{ prefix: '10.0.0.5' }, { prefix: '2001:db8::/64', mac: MAC }],
  );
});

void t.test('mistakes', async t => {
  const errors = (uplink: string, card: string): string => judge(uplink, card).errors.join('\n');
  t.match(
    errors('', ', guard: { leases: true }'),
    /no port of switch "lan" is trusted: set guard: \{ trusted: true \}/,
  );
  t.equal(errors(TRUSTED, ', guard: { leases: true }'), '');
  t.match(errors(', guard: { mac: own }', ''), /only a machine's card has an address of its own/);
  t.match(
    errors(', guard: { trusted: true, addresses: [10.0.0.1] }', ''),
    /nothing is refused on a trusted port/,
  );
  t.match(errors('', ', guard: { addresses: [10.0.0.999] }'), /address or a prefix/);
  t.match(errors('', ', guard: { trustd: true }'), /did you mean "trusted"/);
});
