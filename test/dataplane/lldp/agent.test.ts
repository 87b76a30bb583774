/** The agent's timers and its memory, on a clock wound by hand. */
import t from 'tap';
import { LldpAgent } from '../../../dataplane/lldp/agent.js';
import type { AgentSettings, Order } from '../../../dataplane/lldp/agent.js';
import { neighbourView } from '../../../dataplane/lldp/words.js';
import * as lldp from '../../../dataplane/wire/lldp.js';

const SETTINGS: AgentSettings = { mode: 'both', msgTxInterval_ms: 30_000, msgTxHold: 4, neighboursMax: 2 };

const pduOf = (n: number, ttl_s = 120, systemName = `s${n}`): lldp.Lldpdu => ({
  ...lldp.blank(),
  chassisId: { subtype: 4, octets: Uint8Array.of(2, 0, 0, 0, 0, n) },
  portId: { subtype: 5, octets: Uint8Array.of(101, 48 + n) },
  ttl_s,
  systemName,
});

/** When it sends, to `until_ms`. */
function sends(agent: LldpAgent, from_ms: number, until_ms: number): [number, Order][] {
  const sent: [number, Order][] = [];
  let now_ms = from_ms;
  while (now_ms <= until_ms) {
    for (let order = agent.run(now_ms); order !== 'nothing'; order = agent.run(now_ms))
      sent.push([now_ms, order]);
    const wakeAt_ms = agent.wakeAt_ms(now_ms);
    if (wakeAt_ms === Infinity) break;
    now_ms = Math.max(now_ms + 1, wakeAt_ms);
  }
  return sent;
}
const times = (sent: [number, Order][]): number[] => sent.map(([at_ms]) => at_ms);

void t.test('speaking: fast at first, then each interval', async t => {
  const agent = new LldpAgent(SETTINGS);
  t.same(sends(agent, 0, 100_000), [], 'not over a link that is down');
  agent.setUp(true, 0);
  t.same(times(sends(agent, 0, 100_000)), [0, 1000, 2000, 3000, 33_000, 63_000, 93_000]);
  t.equal(agent.ttl_s, 121);
});

void t.test('a new neighbour is answered fast', async t => {
  const agent = new LldpAgent(SETTINGS);
  agent.setUp(true, 0);
  sends(agent, 0, 10_000);
  t.equal(agent.received(pduOf(1), 10_000), 'new');
  t.same(times(sends(agent, 10_000, 20_000)), [10_000, 11_000, 12_000, 13_000]);
  t.equal(agent.received(pduOf(1), 20_000), 'same');
  t.same(times(sends(agent, 20_000, 30_000)), [], 'a known one is not');
});

void t.test('credit: changes in a row do not become a flood', async t => {
  const agent = new LldpAgent(SETTINGS);
  agent.setUp(true, 0);
  sends(agent, 0, 20_000);
  let count = 0;
  for (let now_ms = 20_000; now_ms < 22_000; now_ms += 10) {
    agent.localChanged();
    if (agent.run(now_ms) === 'send') count++;
  }
  t.ok(count >= 5 && count <= 7, `${count} in two seconds`);
});

void t.test('who stops takes its leave, and does not begin again at once', async t => {
  const agent = new LldpAgent(SETTINGS);
  agent.setUp(true, 0);
  sends(agent, 0, 5000);
  agent.received(pduOf(1), 5000);
  agent.configure({ ...SETTINGS, mode: 'rx' }, 6000);
  t.same(sends(agent, 6000, 7000), [[6000, 'shutdown']]);
  t.equal(agent.neighbours.size, 1, 'and goes on listening');
  agent.configure(SETTINGS, 7000);
  t.equal(times(sends(agent, 7000, 20_000))[0], 8000, 'reinitDelay');
  agent.configure({ ...SETTINGS, mode: 'tx' }, 20_000);
  t.equal(agent.neighbours.size, 0, 'who does not listen knows nobody');
  t.equal(agent.received(pduOf(1), 20_000), 'ignored');
});

void t.test('neighbours: known by chassis and port, forgotten after their TTL', async t => {
  const agent = new LldpAgent(SETTINGS);
  agent.setUp(true, 0);
  sends(agent, 0, 10_000);
  t.equal(agent.received(pduOf(1, 20), 10_000), 'new');
  t.equal(agent.received(pduOf(1, 20, 'renamed'), 15_000), 'changed');
  t.equal(agent.received(pduOf(2, 5), 15_000), 'new');
  t.equal(agent.received(pduOf(3, 60), 16_000), 'tooMany');
  t.equal(agent.tooManyUntil_ms, 76_000);
  t.same(agent.expire(19_999), []);
  t.same(agent.expire(20_000).map(({ pdu }) => pdu.systemName), ['s2']); // prettier-ignore
  t.equal(agent.received(pduOf(3, 60), 21_000), 'new', 'there is room again');
  t.equal(agent.received(pduOf(3, 0), 22_000), 'gone', 'who takes leave');
  t.equal(agent.received(pduOf(3, 0), 22_000), 'ignored');
  t.equal(agent.wakeAt_ms(22_000) <= 35_000, true, 'wakes for the first who may go');
  agent.setUp(false, 23_000);
  t.equal(agent.neighbours.size, 0, 'over a link that is down there is nobody');
});

void t.test('as people read it', async t => {
  const pdu: lldp.Lldpdu = {
    ...pduOf(1),
    portId: { subtype: 7, octets: Uint8Array.of(27, 91, 50) },
    capabilities: 0x14,
    enabledCapabilities: 4,
    managementAddresses: [
      { family: 1, octets: Uint8Array.of(192, 0, 2, 1) },
      { family: 2, octets: Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) },
      { family: 1, octets: Uint8Array.of(1, 2) },
    ],
  };
  const neighbour = { pdu, since_ms: 1000, heardAt_ms: 4000, expiresAt_ms: 124_000 };
  t.match(neighbourView('up', 'eth1', neighbour, 5000), {
    port: 'up',
    member: 'eth1',
    chassisIdKind: 'mac',
    chassisId: '02:00:00:00:00:01',
    portIdKind: 'local',
    portId: '1b:5b:32',
    capabilities: ['bridge', 'router'],
    enabledCapabilities: ['bridge'],
    managementAddresses: ['192.0.2.1', '2001:db8::1', '01:02'],
    age_ms: 4000,
    expiresIn_ms: 119_000,
  });
});
