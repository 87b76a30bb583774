/**
 * The LLDP agent of one link (IEEE 802.1AB-2016 clause 9): when to speak, whom to remember and for how long. Pure:
 * time is passed in, `run` answers what is to be sent.
 *
 *   speaking    every msgTxInterval; each second four times when a new neighbour is heard (9.2.5.19 txFast), so that it
 *               knows of us soon; at once when something of ours changed. Never more than the credit of 9.2.5.18 allows.
 *               Who stops speaking says so with a TTL of zero, and waits reinitDelay before it begins again.
 *   listening   a neighbour is its chassis and port (the MSAP identifier, 8.4.1); it is forgotten when its TTL runs out.
 *               One too many is not remembered (9.2.7.7.5), which is told until its TTL would have run out.
 */
import type { Lldpdu } from '../wire/lldp.js';

// Specification constants: 9.2.5, recommended values.
const MSG_FAST_TX_MS = 1000;
const TX_FAST_INIT = 4;
const TX_CREDIT_MAX = 5;
const TX_CREDIT_EVERY_MS = 1000;
const REINIT_DELAY_MS = 2000;

export type LldpMode = 'off' | 'rx' | 'tx' | 'both';

export interface AgentSettings {
  mode: LldpMode;
  msgTxInterval_ms: number;
  /** msgTxHold: TTL is so many intervals and a second. */
  msgTxHold: number;
  neighboursMax: number;
}

export interface Neighbour {
  pdu: Lldpdu;
  since_ms: number;
  heardAt_ms: number;
  expiresAt_ms: number;
}

/** What `run` wants done. */
export type Order = 'nothing' | 'send' | 'shutdown';

/** What became of a LLDPDU, and whether somebody would want to know. */
export type Heard = 'ignored' | 'new' | 'changed' | 'same' | 'gone' | 'tooMany';

const hears = (mode: LldpMode): boolean => mode === 'rx' || mode === 'both';
const speaks = (mode: LldpMode): boolean => mode === 'tx' || mode === 'both';

function msap({ chassisId, portId }: Lldpdu): string {
  const text = (octets: Uint8Array): string => String.fromCharCode(...octets);
  return `${chassisId.subtype} ${chassisId.octets.length} ${text(chassisId.octets)} ${portId.subtype} ${text(portId.octets)}`;
}

function fingerprint(pdu: Lldpdu): string {
  return JSON.stringify(pdu, (_key, value: unknown) => (value instanceof Uint8Array ? [...value] : value));
}

export class LldpAgent {
  readonly neighbours = new Map<string, Neighbour>();
  tooManyUntil_ms = -Infinity;
  #settings: AgentSettings;
  #isUp = false;
  #txAt_ms = Infinity;
  #txFast = 0;
  #txNow = false;
  #credit = TX_CREDIT_MAX;
  #creditAt_ms = -Infinity;
  #silentUntil_ms = -Infinity;
  #shutdown = false;

  constructor(settings: AgentSettings) {
    this.#settings = settings;
  }

  get mode(): LldpMode {
    return this.#settings.mode;
  }

  /** 9.2.5.22. */
  get ttl_s(): number {
    return Math.min(
      65_535,
      Math.ceil((this.#settings.msgTxInterval_ms * this.#settings.msgTxHold) / 1000) + 1,
    );
  }

  get #isSpeaking(): boolean {
    return this.#isUp && speaks(this.#settings.mode);
  }

  configure(settings: AgentSettings, now_ms: number): void {
    const old = this.#settings;
    const wasSpeaking = this.#isSpeaking;
    this.#settings = settings;
    if (wasSpeaking && !this.#isSpeaking) {
      this.#shutdown = true;
      this.#silentUntil_ms = now_ms + REINIT_DELAY_MS;
      this.#txAt_ms = Infinity;
    } else if (!wasSpeaking && this.#isSpeaking) {
      this.#begin(now_ms);
    } else if (
      wasSpeaking &&
      (old.msgTxInterval_ms !== settings.msgTxInterval_ms || old.msgTxHold !== settings.msgTxHold)
    ) {
      this.#txNow = true;
    }
    if (!hears(settings.mode)) this.#forgetAll();
  }

  /** The link: nobody is a neighbour over one that is down. */
  setUp(isUp: boolean, now_ms: number): void {
    if (this.#isUp === isUp) return;
    this.#isUp = isUp;
    if (isUp) {
      if (this.#isSpeaking) this.#begin(now_ms);
      return;
    }
    this.#txAt_ms = Infinity;
    this.#txNow = this.#shutdown = false;
    this.#forgetAll();
  }

  #forgetAll(): void {
    this.neighbours.clear();
    this.tooManyUntil_ms = -Infinity;
  }

  #begin(now_ms: number): void {
    this.#shutdown = false;
    this.#txFast = TX_FAST_INIT;
    this.#txAt_ms = Math.max(now_ms, this.#silentUntil_ms);
  }

  /** Something that we say of ourselves has changed. */
  localChanged(): void {
    if (this.#isSpeaking) this.#txNow = true;
  }

  received(pdu: Lldpdu, now_ms: number): Heard {
    if (!this.#isUp || !hears(this.#settings.mode)) return 'ignored';
    const id = msap(pdu);
    const known = this.neighbours.get(id);
    if (pdu.ttl_s === 0) return this.neighbours.delete(id) ? 'gone' : 'ignored';
    const expiresAt_ms = now_ms + pdu.ttl_s * 1000;
    if (known !== undefined) {
      const isSame = fingerprint(known.pdu) === fingerprint(pdu);
      Object.assign(known, { pdu, heardAt_ms: now_ms, expiresAt_ms });
      return isSame ? 'same' : 'changed';
    }
    if (this.neighbours.size >= this.#settings.neighboursMax) {
      this.tooManyUntil_ms = Math.max(this.tooManyUntil_ms, expiresAt_ms);
      return 'tooMany';
    }
    this.neighbours.set(id, { pdu, since_ms: now_ms, heardAt_ms: now_ms, expiresAt_ms });
    if (this.#isSpeaking) {
      this.#txFast = TX_FAST_INIT;
      this.#txAt_ms = Math.min(this.#txAt_ms, Math.max(now_ms, this.#silentUntil_ms));
    }
    return 'new';
  }

  /** Those whose time has run out, forgotten now. */
  expire(now_ms: number): Neighbour[] {
    const gone: Neighbour[] = [];
    for (const [id, neighbour] of this.neighbours) {
      if (now_ms < neighbour.expiresAt_ms) continue;
      this.neighbours.delete(id);
      gone.push(neighbour);
    }
    return gone;
  }

  run(now_ms: number): Order {
    if (this.#shutdown) {
      this.#shutdown = false;
      return 'shutdown';
    }
    if (!this.#isSpeaking || now_ms < this.#silentUntil_ms) return 'nothing';
    if (now_ms >= this.#txAt_ms) this.#txNow = true;
    if (!this.#txNow || !this.#takeCredit(now_ms)) return 'nothing';
    this.#txNow = false;
    if (now_ms >= this.#txAt_ms) {
      if (this.#txFast > 0) this.#txFast--;
      this.#txAt_ms = now_ms + (this.#txFast > 0 ? MSG_FAST_TX_MS : this.#settings.msgTxInterval_ms);
    }
    return 'send';
  }

  #takeCredit(now_ms: number): boolean {
    const gained = Math.floor((now_ms - this.#creditAt_ms) / TX_CREDIT_EVERY_MS);
    if (gained > 0) {
      this.#credit = Math.min(TX_CREDIT_MAX, this.#credit + gained);
      this.#creditAt_ms =
        this.#creditAt_ms === -Infinity ? now_ms : this.#creditAt_ms + gained * TX_CREDIT_EVERY_MS;
    }
    if (this.#credit === 0) return false;
    this.#credit--;
    return true;
  }

  /** When `run` or `expire` has something to do, if nothing else happens before; Infinity: never. */
  wakeAt_ms(now_ms: number): number {
    let wakeAt_ms = this.#shutdown ? now_ms : this.#txAt_ms;
    if (this.#txNow)
      wakeAt_ms = Math.max(
        now_ms,
        this.#silentUntil_ms,
        this.#credit > 0 ? now_ms : this.#creditAt_ms + TX_CREDIT_EVERY_MS,
      );
    for (const { expiresAt_ms } of this.neighbours.values()) wakeAt_ms = Math.min(wakeAt_ms, expiresAt_ms);
    return wakeAt_ms;
  }
}
