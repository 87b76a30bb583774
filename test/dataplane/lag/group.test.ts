/** Two aggregates on cables and a clock wound by hand: what LACP settles between them, and how soon. */
import t from 'tap';
import { LacpGroup, collects, distributes } from '../../../dataplane/lag/group.js';
import type { GroupSettings } from '../../../dataplane/lag/group.js';
import type { LacpPort } from '../../../dataplane/lag/lacpPort.js';
import * as lacp from '../../../dataplane/wire/lacp.js';

const DEFAULTS: GroupSettings = {
  minLinks: 1,
  maxLinks: Infinity,
  upDelay_ms: 0,
  fallback: false,
  isActive: true,
  isFast: true,
  isCoupled: false,
  systemPriority: 32_768,
  systemHigh16: 0x0200,
  systemLow32: 0,
  key: 1,
};

interface End {
  group: LacpGroup;
  ports: LacpPort[];
  sent: number;
}

/** Ends joined by cables: port i of the one to port i of the other. A cut cable loses LACPDUs; both links stay up. */
class Net {
  now_ms = 0;
  readonly ends: End[] = [];
  readonly cut = new Set<number>();
  readonly #wire: { to: End; port: number; pdu: lacp.Lacpdu; at_ms: number }[] = [];
  readonly #other = new Map<string, [End, number]>();

  end(settings: Partial<GroupSettings>, ports: number, priorities: number[] = []): End {
    const number = this.ends.length + 1;
    const made: End = { ports: [], sent: 0, group: undefined as unknown as LacpGroup };
    made.group = new LacpGroup({ ...DEFAULTS, systemLow32: number, ...settings }, port => {
      made.sent++;
      this.#send(made, made.ports.indexOf(port));
    });
    for (let i = 0; i < ports; i++)
      made.ports.push(made.group.add(`p${i}`, i + 1, priorities[i] ?? 32_768, this.now_ms));
    this.ends.push(made);
    return made;
  }

  cable(a: End, portA: number, b: End, portB: number): void {
    this.#other.set(`${this.ends.indexOf(a)} ${portA}`, [b, portB]);
    this.#other.set(`${this.ends.indexOf(b)} ${portB}`, [a, portA]);
    for (const [end, port] of [
      [a, portA],
      [b, portB],
    ] as const)
      // prettier-ignore
      end.group.setEnabled(end.ports[port]!, true, this.now_ms);
  }

  /** The link of this port goes down or up, at every end that has it. */
  setEnabled(port: number, isEnabled: boolean): void {
    for (const { group, ports } of this.ends) group.setEnabled(ports[port]!, isEnabled, this.now_ms);
  }

  #send(from: End, port: number): void {
    const other = this.#other.get(`${this.ends.indexOf(from)} ${port}`);
    if (other === undefined || this.cut.has(port)) return;
    const pdu = lacp.blank();
    lacp.copyInfo(from.ports[port]!.actor, pdu.actor);
    lacp.copyInfo(from.ports[port]!.partner, pdu.partner);
    this.#wire.push({ to: other[0], port: other[1], pdu, at_ms: this.now_ms + 1 });
  }

  /** Millisecond by millisecond where something happens. */
  run(duration_ms: number): void {
    const end_ms = this.now_ms + duration_ms;
    for (;;) {
      const next_ms = Math.min(
        ...this.#wire.map(({ at_ms }) => at_ms),
        ...this.ends.map(({ group }) => Math.max(this.now_ms + 1, group.wakeAt_ms(this.now_ms))),
      );
      if (next_ms > end_ms) break;
      this.now_ms = next_ms;
      while (this.#wire.length > 0 && this.#wire[0]!.at_ms <= this.now_ms) {
        const { to, port, pdu } = this.#wire.shift()!;
        to.group.received(to.ports[port]!, pdu, this.now_ms);
      }
      for (const { group } of this.ends)
        if (group.wakeAt_ms(this.now_ms) <= this.now_ms) group.run(this.now_ms);
    }
    this.now_ms = end_ms;
  }
}

const carrying = ({ ports }: End): number[] =>
  ports.flatMap((port, index) => (collects(port) && distributes(port) ? [index] : []));

function pair(
  a: Partial<GroupSettings>,
  b: Partial<GroupSettings>,
  ports: number,
  prioritiesA: number[] = [],
  prioritiesB: number[] = [],
): { net: Net; a: End; b: End } {
  const net = new Net();
  const ends = { net, a: net.end(a, ports, prioritiesA), b: net.end(b, ports, prioritiesB) };
  for (let i = 0; i < ports; i++) net.cable(ends.a, i, ends.b, i);
  return ends;
}

void t.test('who is active, who is fast, coupled or not: both carry within four seconds', async t => {
  for (const isCoupled of [false, true])
    for (const isFast of [false, true])
      for (const [activeA, activeB] of [
        [true, true],
        [true, false],
        [false, true],
      ] as const) {
        // prettier-ignore
        const { net, a, b } = pair({ isActive: activeA, isFast, isCoupled }, { isActive: activeB }, 2);
        net.run(4000);
        const says = `${activeA ? 'active' : 'passive'} ${isFast ? 'fast' : 'slow'} ${isCoupled ? 'coupled' : 'independent'} and ${activeB ? 'active' : 'passive'}`;
        t.same([carrying(a), carrying(b)], [[0, 1], [0, 1]], says); // prettier-ignore
      }
  const { net, a, b } = pair({ isActive: false }, { isActive: false }, 1);
  net.run(10_000);
  t.same([carrying(a), carrying(b), a.sent + b.sent], [[], [], 0], 'two passive ends say nothing');
});

void t.test('how often they speak once it is settled', async t => {
  for (const [isFast, least, most] of [
    [true, 58, 62],
    [false, 2, 3],
  ] as const) {
    // prettier-ignore
    const { net, a, b } = pair({ isFast: true }, { isFast }, 1);
    net.run(10_000);
    const before = a.sent;
    net.run(60_000);
    const count = a.sent - before;
    t.ok(count >= least && count <= most, `${count} in a minute, as the partner wants it`);
    t.same(carrying(b), [0]);
  }
});

void t.test('nobody sends before the other collects', async t => {
  const { net, a, b } = pair({}, {}, 1);
  for (let i = 0; i < 4000; i++) {
    net.run(1);
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const)
      // prettier-ignore
      if (distributes(one.ports[0]!) && !collects(other.ports[0]!)) t.fail(`too early at ${net.now_ms}`);
  }
  t.same(carrying(a), [0]);
});

void t.test('a cable that loses everything is out after the timeout, and comes back', async t => {
  const { net, a, b } = pair({ isFast: true }, { isFast: true }, 2);
  net.run(5000);
  net.cut.add(1);
  net.run(3100);
  t.same([carrying(a), carrying(b)], [[0], [0]]);
  net.cut.delete(1);
  net.run(4000);
  t.same([carrying(a), carrying(b)], [[0, 1], [0, 1]]); // prettier-ignore
});

void t.test('a link that goes down is out at once, and says so to nobody', async t => {
  const { net, a } = pair({}, {}, 2);
  net.run(5000);
  a.group.setEnabled(a.ports[0]!, false, net.now_ms);
  t.same(carrying(a), [1]);
  const before = a.sent;
  a.group.setEnabled(a.ports[1]!, false, net.now_ms);
  t.equal(a.group.wakeAt_ms(net.now_ms), Infinity, 'with all links down nothing is due');
  t.equal(a.sent, before);
});

void t.test('one end has too few for its minimum: neither carries', async t => {
  const { net, a, b } = pair({ minLinks: 2 }, {}, 2);
  net.run(5000);
  t.same([carrying(a), carrying(b)], [[0, 1], [0, 1]]); // prettier-ignore
  net.setEnabled(0, false);
  net.run(100);
  t.same([carrying(a), carrying(b)], [[], []]);
  t.equal(a.ports[1]!.selected, 'STANDBY');
  net.setEnabled(0, true);
  net.run(5000);
  t.same([carrying(a), carrying(b)], [[0, 1], [0, 1]]); // prettier-ignore
});

void t.test('both ends want a minimum: they do not wait for each other for ever', async t => {
  const { net, a, b } = pair({ minLinks: 2 }, { minLinks: 2 }, 3);
  net.run(5000);
  t.same([carrying(a), carrying(b)], [[0, 1, 2], [0, 1, 2]]); // prettier-ignore
});

void t.test('the best by priority carry, the next takes over without waiting', async t => {
  const { net, a, b } = pair({ maxLinks: 2 }, {}, 3, [10, 30, 20]);
  net.run(8000);
  t.same([carrying(a), carrying(b)], [[0, 2], [0, 2]]); // prettier-ignore
  t.equal(a.ports[1]!.selected, 'STANDBY');
  net.setEnabled(0, false);
  net.run(100);
  t.same([carrying(a), carrying(b)], [[1, 2], [1, 2]], 'a tenth of a second later'); // prettier-ignore
  net.setEnabled(0, true);
  let least = 2;
  for (let i = 0; i < 6000; i++) {
    net.run(1);
    least = Math.min(least, carrying(a).length);
  }
  t.same([carrying(a), carrying(b)], [[0, 2], [0, 2]], 'the better one is back'); // prettier-ignore
  t.ok(least >= 1, 'and one carried all the time');
});

void t.test('both ends limit: the better system says which', async t => {
  const { net, a, b } = pair({ maxLinks: 1 }, { maxLinks: 1, systemPriority: 1 }, 3, [1, 2, 3], [3, 2, 1]);
  net.run(8000);
  t.same([carrying(a), carrying(b)], [[2], [2]]);
});

void t.test('two partners on one aggregate: the bigger group carries, the other waits', async t => {
  const net = new Net();
  const a = net.end({}, 3);
  const b = net.end({}, 2);
  const c = net.end({}, 1);
  net.cable(a, 0, c, 0);
  net.cable(a, 1, b, 0);
  net.cable(a, 2, b, 1);
  net.run(8000);
  t.same(carrying(a), [1, 2]);
  t.equal(a.ports[0]!.selected, 'UNSELECTED');
  for (const port of [1, 2]) a.group.setEnabled(a.ports[port]!, false, net.now_ms);
  net.run(5000);
  t.same([carrying(a), carrying(c)], [[0], [0]], 'which takes over when those are gone');
});

void t.test('our own LACPDUs that come back are refused', async t => {
  const net = new Net();
  const a = net.end({}, 2);
  net.cable(a, 0, a, 1);
  net.run(10_000);
  t.same(carrying(a), []);
  t.ok(a.group.isLooped(a.ports[0]!, net.now_ms));
  t.equal(a.ports[0]!.receive, 'DEFAULTED');
});

void t.test('fallback: without a partner one member carries; with one, LACP decides', async t => {
  const net = new Net();
  const a = net.end({ fallback: true }, 2, [20, 10]);
  const b = net.end({}, 2);
  for (const port of a.ports) a.group.setEnabled(port, true, 0);
  net.run(6000);
  t.same(carrying(a), [1], 'the best');
  net.cable(a, 0, b, 0);
  net.cable(a, 1, b, 1);
  net.run(8000);
  t.same([carrying(a), carrying(b)], [[0, 1], [0, 1]]); // prettier-ignore
});

void t.test('changes of the configuration', async t => {
  const { net, a, b } = pair({ isFast: false }, {}, 2);
  net.run(5000);
  a.group.configure({ ...a.group.settings, isFast: true }, net.now_ms);
  for (let i = 0; i < 10; i++) {
    net.run(1000);
    if (carrying(a).length !== 2 || carrying(b).length !== 2) t.fail('slow to fast disturbs nobody');
  }
  const added = a.group.add('p2', 3, 32_768, net.now_ms);
  a.ports.push(added);
  b.ports.push(b.group.add('p2', 3, 32_768, net.now_ms));
  net.cable(a, 2, b, 2);
  for (let i = 0; i < 500; i++) {
    net.run(10);
    if (carrying(a).length < 2 || carrying(b).length < 2) t.fail('a new member disturbs nobody');
  }
  t.same([carrying(a), carrying(b)], [[0, 1, 2], [0, 1, 2]]); // prettier-ignore
  a.group.remove(a.ports[0]!, net.now_ms);
  t.same(carrying(a).length, 3, 'of those that are left none moved');
  a.group.configure({ ...a.group.settings, key: 77 }, net.now_ms);
  net.run(6000);
  t.equal(b.ports[1]!.partner.key, 77, 'another key is settled anew');
  t.ok(distributes(b.ports[1]!) && distributes(a.ports[1]!));
});

void t.test('up delay', async t => {
  const { net, a, b } = pair({ upDelay_ms: 10_000 }, {}, 1);
  net.run(9900);
  t.same([carrying(a), carrying(b)], [[], []]);
  net.run(3000);
  t.same([carrying(a), carrying(b)], [[0], [0]]);
});
