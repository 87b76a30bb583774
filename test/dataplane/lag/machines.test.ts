/**
 * LACP's machines one by one, as tables of IEEE 802.1AX-2014: from a state, on an event, to a state, with what the
 * boxes of the figures say is done on entry.
 */
import t from 'tap';
import type { Test } from 'tap';
import * as churn from '../../../dataplane/lag/churn.js';
import { makePort, put } from '../../../dataplane/lag/lacpPort.js';
import type { LacpPort, MuxState, PeriodicState, ReceiveState } from '../../../dataplane/lag/lacpPort.js';
import * as mux from '../../../dataplane/lag/mux.js';
import * as periodic from '../../../dataplane/lag/periodic.js';
import * as receive from '../../../dataplane/lag/receive.js';
import * as transmit from '../../../dataplane/lag/transmit.js';
import * as lacp from '../../../dataplane/wire/lacp.js';
import { stateWords } from '../../../dataplane/lag/words.js';

const NOW = 1_000_000;

function port(change: (port: LacpPort) => void = () => {}): LacpPort {
  const made = makePort('p');
  Object.assign(made.actor, { systemPriority: 100, systemHigh16: 0x0200, systemLow32: 1, key: 7, port: 3 });
  made.portEnabled = true;
  change(made);
  return made;
}

/** What a partner says which has understood us. */
function pduTo(of: LacpPort, change: (pdu: lacp.Lacpdu) => void = () => {}): lacp.Lacpdu {
  const pdu = lacp.blank();
  Object.assign(pdu.actor, { systemPriority: 50, systemHigh16: 0x0200, systemLow32: 2, key: 9, port: 11 });
  pdu.actor.state = lacp.LACP_ACTIVITY | lacp.AGGREGATION | lacp.SYNCHRONIZATION;
  lacp.copyInfo(of.actor, pdu.partner);
  change(pdu);
  return pdu;
}

void t.test('receive machine, figure 6-18: timers and the link', async t => {
  const rows: [from: ReceiveState, enabled: boolean, expired: boolean, to: ReceiveState][] = [
    ['PORT_DISABLED', false, true, 'PORT_DISABLED'],
    ['PORT_DISABLED', true, false, 'EXPIRED'],
    ['EXPIRED', true, false, 'EXPIRED'],
    ['EXPIRED', true, true, 'DEFAULTED'],
    ['EXPIRED', false, false, 'PORT_DISABLED'],
    ['CURRENT', true, false, 'CURRENT'],
    ['CURRENT', true, true, 'EXPIRED'],
    ['CURRENT', false, false, 'PORT_DISABLED'],
    ['DEFAULTED', true, false, 'DEFAULTED'],
    ['DEFAULTED', false, false, 'PORT_DISABLED'],
  ];
  for (const [from, enabled, expired, to] of rows) {
    const p = port();
    p.receive = from;
    p.portEnabled = enabled;
    p.currentWhile_ms = from === 'DEFAULTED' || from === 'PORT_DISABLED' ? Infinity : NOW + (expired ? 0 : 1);
    put(p.partner, lacp.SYNCHRONIZATION, true);
    const moved = receive.step(p, NOW);
    t.equal(p.receive, to, `${from}, ${enabled ? 'up' : 'down'}${expired ? ', expired' : ''} -> ${to}`);
    t.equal(moved, from !== to);
    if (!moved) continue;
    t.notOk(stateWords(p.partner.state).includes('synchronization'), 'the partner is out of synchronization');
    t.equal(stateWords(p.actor.state).includes('expired'), to === 'EXPIRED');
    if (to === 'EXPIRED') {
      t.equal(p.currentWhile_ms, NOW + 3000, 'a short timeout, whatever was agreed');
      t.ok(stateWords(p.partner.state).includes('timeout'), 'and we speak fast');
    }
    if (to === 'DEFAULTED') t.ok(stateWords(p.actor.state).includes('defaulted'));
  }
});

void t.test('receive machine: a LACPDU', async t => {
  for (const from of ['EXPIRED', 'DEFAULTED', 'CURRENT'] as const) {
    const p = port();
    p.receive = from;
    p.actor.state |= lacp.EXPIRED;
    receive.received(p, pduTo(p), NOW);
    t.equal(p.receive, 'CURRENT', `${from} -> CURRENT`);
    t.same(
      stateWords(p.actor.state),
      ['activity', 'timeout', 'aggregation'],
      'neither defaulted nor expired',
    );
    t.equal(p.currentWhile_ms, NOW + 3000, 'by our own timeout: fast');
    t.equal(p.partner.systemLow32, 2);
  }
  const slow = port(p => put(p.actor, lacp.LACP_TIMEOUT, false));
  receive.received(slow, pduTo(slow), NOW);
  t.equal(slow.currentWhile_ms, NOW + 90_000, 'by our own timeout: slow');
  const down = port(p => (p.portEnabled = false));
  receive.received(down, pduTo(down), NOW);
  t.equal(down.receive, 'PORT_DISABLED', 'a port that is down hears nothing');
});

void t.test('recordPDU: when the partner is in synchronization', async t => {
  const rows: [says: string, inSync: boolean, change: (pdu: lacp.Lacpdu) => void][] = [
    ['it has understood us', true, () => {}],
    ['it says it is not', false, pdu => put(pdu.actor, lacp.SYNCHRONIZATION, false)],
    ['it speaks of another port', false, pdu => (pdu.partner.port = 4)],
    ['it speaks of another priority', false, pdu => (pdu.partner.portPriority = 4)],
    ['it speaks of another system', false, pdu => (pdu.partner.systemLow32 = 4)],
    ['it speaks of another system priority', false, pdu => (pdu.partner.systemPriority = 4)],
    ['it speaks of another key', false, pdu => (pdu.partner.key = 4)],
    ['it thinks us individual', false, pdu => put(pdu.partner, lacp.AGGREGATION, false)],
    [
      'it is individual, whatever it thinks of us',
      true,
      pdu => {
        put(pdu.actor, lacp.AGGREGATION, false);
        pdu.partner.port = 4;
      },
    ],
    ['it is passive, and knows that we are active', true, pdu => put(pdu.actor, lacp.LACP_ACTIVITY, false)],
    [
      'nobody keeps it up',
      false,
      pdu => {
        put(pdu.actor, lacp.LACP_ACTIVITY, false);
        put(pdu.partner, lacp.LACP_ACTIVITY, false);
      },
    ],
  ];
  for (const [says, inSync, change] of rows) {
    const p = port();
    receive.received(p, pduTo(p, change), NOW);
    t.equal(stateWords(p.partner.state).includes('synchronization'), inSync, says);
  }
});

void t.test('update_Selected and update_NTT', async t => {
  const settled = (): LacpPort => {
    const p = port();
    receive.received(p, pduTo(p), NOW);
    p.selected = 'SELECTED';
    p.ntt = false;
    return p;
  };
  const rows: [says: string, selected: boolean, ntt: boolean, change: (pdu: lacp.Lacpdu) => void][] = [
    ['the same again', true, false, () => {}],
    ['another port of the partner', false, false, pdu => (pdu.actor.port = 12)],
    ['another key of the partner', false, false, pdu => (pdu.actor.key = 10)],
    ['the partner aggregates no more', false, false, pdu => put(pdu.actor, lacp.AGGREGATION, false)],
    ['only its state changed', true, false, pdu => put(pdu.actor, lacp.COLLECTING, true)],
    ['it has not seen our synchronization', true, true, pdu => put(pdu.partner, lacp.SYNCHRONIZATION, true)],
    ['it has not seen our timeout', true, true, pdu => put(pdu.partner, lacp.LACP_TIMEOUT, false)],
    ['it has not seen our key', true, true, pdu => (pdu.partner.key = 1)],
    [
      'what it says of our collecting does not matter',
      true,
      false,
      pdu => put(pdu.partner, lacp.COLLECTING, true),
    ],
  ];
  for (const [says, selected, ntt, change] of rows) {
    const p = settled();
    receive.received(p, pduTo(p, change), NOW + 1);
    t.equal(p.selected, selected ? 'SELECTED' : 'UNSELECTED', `${says}: selected`);
    t.equal(p.ntt, ntt, `${says}: NTT`);
  }
  const silent = settled();
  silent.receive = 'EXPIRED';
  silent.currentWhile_ms = NOW;
  receive.step(silent, NOW);
  t.equal(silent.selected, 'UNSELECTED', 'update_Default_Selected: nobody is not who was there');
});

void t.test('periodic machine, figure 6-19', async t => {
  const rows: [
    from: PeriodicState,
    who: 'both passive' | 'partner slow' | 'partner fast',
    expired: boolean,
    to: PeriodicState,
  ][] = [
    ['NO_PERIODIC', 'both passive', false, 'NO_PERIODIC'],
    ['NO_PERIODIC', 'partner slow', false, 'FAST_PERIODIC'],
    ['FAST_PERIODIC', 'both passive', false, 'NO_PERIODIC'],
    ['FAST_PERIODIC', 'partner fast', false, 'FAST_PERIODIC'],
    ['FAST_PERIODIC', 'partner fast', true, 'PERIODIC_TX'],
    ['FAST_PERIODIC', 'partner slow', false, 'SLOW_PERIODIC'],
    ['SLOW_PERIODIC', 'partner slow', false, 'SLOW_PERIODIC'],
    ['SLOW_PERIODIC', 'partner slow', true, 'PERIODIC_TX'],
    ['SLOW_PERIODIC', 'partner fast', false, 'PERIODIC_TX'],
    ['PERIODIC_TX', 'partner slow', false, 'SLOW_PERIODIC'],
    ['PERIODIC_TX', 'partner fast', false, 'FAST_PERIODIC'],
  ];
  for (const [from, who, expired, to] of rows) {
    const p = port();
    p.periodic = from;
    p.periodic_ms = from === 'FAST_PERIODIC' || from === 'SLOW_PERIODIC' ? NOW + (expired ? 0 : 1) : Infinity;
    put(p.actor, lacp.LACP_ACTIVITY, false);
    p.partner.state = who === 'both passive' ? 0 : lacp.LACP_ACTIVITY;
    put(p.partner, lacp.LACP_TIMEOUT, who === 'partner fast');
    const moved = periodic.step(p, NOW);
    t.equal(p.periodic, to, `${from}, ${who}${expired ? ', expired' : ''} -> ${to}`);
    t.equal(moved, from !== to);
    if (!moved) continue;
    t.equal(p.ntt, to === 'PERIODIC_TX');
    const due: Partial<Record<PeriodicState, number>> = {
      FAST_PERIODIC: NOW + 1000,
      SLOW_PERIODIC: NOW + 30_000,
    };
    t.equal(p.periodic_ms, due[to] ?? Infinity);
  }
  const down = port(p => (p.portEnabled = false));
  down.periodic = 'SLOW_PERIODIC';
  t.ok(periodic.step(down, NOW));
  t.equal(down.periodic, 'NO_PERIODIC', 'a port that is down is silent');
});

type MuxRow = [
  from: MuxState,
  selected: 'UNSELECTED' | 'SELECTED' | 'STANDBY',
  partner: '' | 'sync' | 'sync collecting',
  to: MuxState,
];

function muxHolds(test: Test, rows: readonly MuxRow[], isCoupled: boolean): void {
  for (const [from, selected, partner, to] of rows) {
    const p = port();
    p.isCoupled = isCoupled;
    p.mux = from;
    p.selected = selected;
    p.ready = p.readyN = from !== 'DETACHED';
    p.partner.state = 0;
    put(p.partner, lacp.SYNCHRONIZATION, partner !== '');
    put(p.partner, lacp.COLLECTING, partner === 'sync collecting');
    const moved = mux.step(p, NOW);
    test.equal(p.mux, to, `${from}, ${selected}, partner ${partner || 'out of sync'} -> ${to}`);
    test.equal(moved, from !== to);
    if (!moved || to === 'WAITING') continue;
    const words = stateWords(p.actor.state).filter(word => /sync|ing$/.test(word));
    const said: Partial<Record<MuxState, string[]>> = {
      ATTACHED: ['synchronization'],
      COLLECTING: ['synchronization', 'collecting'],
      DISTRIBUTING: ['synchronization', 'collecting', 'distributing'],
      COLLECTING_DISTRIBUTING: ['synchronization', 'collecting', 'distributing'],
    };
    test.same(words, said[to] ?? [], 'what it then says');
    test.equal(p.ntt, to !== 'DISTRIBUTING', 'and whether at once');
  }
}

const COMMON: MuxRow[] = [
  ['DETACHED', 'UNSELECTED', '', 'DETACHED'],
  ['DETACHED', 'SELECTED', '', 'WAITING'],
  ['DETACHED', 'STANDBY', '', 'WAITING'],
  ['WAITING', 'UNSELECTED', '', 'DETACHED'],
  ['WAITING', 'STANDBY', 'sync collecting', 'WAITING'],
  ['WAITING', 'SELECTED', '', 'ATTACHED'],
  ['ATTACHED', 'SELECTED', '', 'ATTACHED'],
  ['ATTACHED', 'STANDBY', 'sync', 'DETACHED'],
  ['ATTACHED', 'UNSELECTED', 'sync', 'DETACHED'],
];

void t.test('mux machine, independent control, figure 6-21', async t => {
  muxHolds(
    t,
    [
      ...COMMON,
      ['ATTACHED', 'SELECTED', 'sync', 'COLLECTING'],
      ['COLLECTING', 'SELECTED', 'sync', 'COLLECTING'],
      ['COLLECTING', 'SELECTED', 'sync collecting', 'DISTRIBUTING'],
      ['COLLECTING', 'SELECTED', '', 'ATTACHED'],
      ['COLLECTING', 'UNSELECTED', 'sync', 'ATTACHED'],
      ['COLLECTING', 'STANDBY', 'sync', 'ATTACHED'],
      ['DISTRIBUTING', 'SELECTED', 'sync collecting', 'DISTRIBUTING'],
      ['DISTRIBUTING', 'SELECTED', 'sync', 'COLLECTING'],
      ['DISTRIBUTING', 'SELECTED', '', 'COLLECTING'],
      ['DISTRIBUTING', 'STANDBY', 'sync collecting', 'COLLECTING'],
      ['DISTRIBUTING', 'UNSELECTED', 'sync collecting', 'COLLECTING'],
    ],
    false,
  );
});

void t.test('mux machine, coupled control, figure 6-22', async t => {
  muxHolds(
    t,
    [
      ...COMMON,
      ['ATTACHED', 'SELECTED', 'sync', 'COLLECTING_DISTRIBUTING'],
      ['COLLECTING_DISTRIBUTING', 'SELECTED', 'sync', 'COLLECTING_DISTRIBUTING'],
      ['COLLECTING_DISTRIBUTING', 'SELECTED', '', 'ATTACHED'],
      ['COLLECTING_DISTRIBUTING', 'STANDBY', 'sync', 'ATTACHED'],
      ['COLLECTING_DISTRIBUTING', 'UNSELECTED', 'sync', 'ATTACHED'],
    ],
    true,
  );
});

void t.test('mux machine: wait_while', async t => {
  const p = port(made => (made.selected = 'SELECTED'));
  t.ok(mux.step(p, NOW));
  t.equal(p.waitWhile_ms, NOW + 2000);
  t.notOk(mux.step(p, NOW + 1999));
  t.ok(mux.step(p, NOW + 2000));
  t.ok(p.readyN);
  t.notOk(mux.step(p, NOW + 2000), 'waits for the others');
  p.ready = true;
  t.ok(mux.step(p, NOW + 2000));
  t.equal(p.mux, 'ATTACHED');
});

void t.test('mux machine: from one control to the other without a gap', async t => {
  const p = port();
  p.mux = 'DISTRIBUTING';
  mux.setCoupled(p, true);
  t.equal(p.mux, 'COLLECTING_DISTRIBUTING');
  mux.setCoupled(p, false);
  t.equal(p.mux, 'DISTRIBUTING');
});

void t.test('churn machines, figures 6-23 and 6-24', async t => {
  const p = port();
  churn.step(p, NOW);
  t.equal(p.actorChurn, 'CHURN_MONITOR');
  t.equal(p.actorChurn_ms, NOW + 60_000);
  put(p.partner, lacp.SYNCHRONIZATION, true);
  t.ok(churn.step(p, NOW + 59_999));
  t.equal(p.partnerChurn, 'NO_CHURN');
  t.ok(churn.step(p, NOW + 60_000));
  t.equal(p.actorChurn, 'CHURN');
  t.equal(p.actorChurn_ms, Infinity);
  put(p.partner, lacp.SYNCHRONIZATION, false);
  t.ok(churn.step(p, NOW + 70_000));
  t.equal(p.partnerChurn, 'CHURN_MONITOR');
  churn.step(p, NOW + 70_001);
  t.equal(p.partnerChurn_ms, NOW + 130_001);
  put(p.actor, lacp.SYNCHRONIZATION, true);
  t.ok(churn.step(p, NOW + 70_002));
  t.equal(p.actorChurn, 'NO_CHURN');
  p.portEnabled = false;
  t.ok(churn.step(p, NOW + 70_003));
  t.equal(p.actorChurn, 'CHURN_MONITOR');
  t.equal(p.actorChurn_ms, Infinity, 'a port that is down is not counted out');
});

void t.test('transmit machine, 6.4.16: three in a second', async t => {
  const p = port();
  p.periodic = 'FAST_PERIODIC';
  const sends = (now_ms: number): boolean => {
    p.ntt = true;
    return transmit.step(p, now_ms);
  };
  t.same([0, 10, 20, 30].map(sends), [true, true, true, false]);
  t.ok(p.ntt, 'the fourth is not forgotten');
  t.equal(transmit.maySendAt_ms(p), 1000);
  t.notOk(transmit.step(p, 999));
  t.ok(transmit.step(p, 1000));
  t.equal(transmit.maySendAt_ms(p), 1010);
  p.periodic = 'NO_PERIODIC';
  t.notOk(sends(5000), 'passive, with nobody to answer');
  t.notOk(p.ntt);
});
