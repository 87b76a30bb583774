/**
 * A guest's driver without a guest, that polls its ring: what is measured is the server. Requests lie in the rings from the beginning;
 * again and again only the sector is another. It kicks when it was asked to, once for all that it made available together.
 *
 *   node client.js SOCKET MODE BLOCK DEPTH SECONDS SIZE      prints {"seconds": s, "count": n}
 *
 * MODE: randread randwrite read write, or fill (every block once, and flushed; SECONDS does not matter).
 */
import { fileURLToPath } from 'node:url';
import { connectUnix } from '../../../host/unix.js';
import { S, T } from '../../../storage/vhost/virtioBlk.js';
import { Driver, EVENT_IDX, PLAIN } from '../../storage/vhost/driver.js';

const NUM = 256;
const ANSWER_LIMIT_MS = 10_000;

export interface VblkLoad {
  readonly socket: string;
  readonly mode: 'randread' | 'randwrite' | 'read' | 'write' | 'fill';
  readonly block_bytes: number;
  readonly depth: number;
  readonly seconds: number;
  readonly size_bytes: number;
}

/** The command that puts this load on a server. */
export function vblkClient({ socket, mode, block_bytes, depth, seconds, size_bytes }: VblkLoad): string[] {
  const how = [socket, mode, block_bytes, depth, seconds, size_bytes].map(String);
  return [process.execPath, fileURLToPath(import.meta.url), ...how];
}

function load({ socket, mode, block_bytes, depth, seconds, size_bytes }: VblkLoad): {
  seconds: number;
  count: number;
} {
  const idle = new Int32Array(new SharedArrayBuffer(4));
  const driver = new Driver({
    features: PLAIN | EVENT_IDX,
    num: NUM,
    data_bytes: Math.max(1 << 20, depth * block_bytes),
    turn: () => void Atomics.wait(idle, 0, 0, 1),
  });
  driver.begin(connectUnix(socket));
  const isRead = mode.endsWith('read');
  const isRandom = mode.startsWith('rand');
  const blocks = Math.floor(size_bytes / block_bytes);
  let sequence = 0;
  const fill = (slot: number): void => {
    if (mode === 'fill') {
      const at = driver.dataAt + slot * block_bytes;
      for (let i = 0; i < block_bytes; i += 4096) driver.view.setFloat64(at + i, Math.random());
    }
  };
  const nextBlock = (): number => (isRandom ? Math.floor(Math.random() * blocks) : sequence++ % blocks);
  const aim = (slot: number): void => {
    fill(slot);
    const at = driver.headerAt(0, slot);
    const sector = (nextBlock() * block_bytes) / 512;
    driver.view.setUint32(at + 8, sector, true);
    driver.bytes[at + 16] = 0xff;
  };
  driver.bytes.fill(7, driver.dataAt, driver.dataAt + depth * block_bytes);
  for (let slot = 0; slot < depth; slot++) {
    driver.layHeader(0, slot, isRead ? T.IN : T.OUT, 0);
    aim(slot);
    driver.chain(0, slot * 3, [
      { at: driver.headerAt(0, slot), length: 16, write: false },
      { at: driver.dataAt + slot * block_bytes, length: block_bytes, write: isRead },
      { at: driver.statusAt(0, slot), length: 1, write: true },
    ]);
  }
  let began_ms = performance.now();
  let until_ms = began_ms + seconds * 1000;
  if (mode === 'fill') until_ms = Infinity;
  driver.kicks[0]!.signal();
  let count = 0;
  let underWay = depth;
  let kickFrom = driver.available[0]!;
  let heard_ms = began_ms;
  while (underWay > 0) {
    const ready = driver.ready(0);
    const now_ms = performance.now();
    if (ready === 0) {
      if (now_ms > heard_ms + ANSWER_LIMIT_MS) throw new Error(`no answer, with ${underWay} under way`);
      continue;
    }
    heard_ms = now_ms;
    const goesOn = now_ms < until_ms;
    for (let i = 0; i < ready; i++) {
      const head = driver.take(0);
      if (driver.status(0, head / 3) !== S.OK) throw new Error(`status ${driver.status(0, head / 3)}`);
      count++;
      if (goesOn && (mode !== 'fill' || sequence < blocks)) {
        aim(head / 3);
        driver.offer(0, head);
      } else underWay--;
    }
    const to = driver.available[0]!;
    if (to !== kickFrom) driver.kickFor(0, kickFrom);
    kickFrom = to;
  }
  const took = (performance.now() - began_ms) / 1000;
  began_ms = until_ms = 0;
  if (mode === 'fill' && driver.do(T.FLUSH, 0, 0, 0) !== S.OK) throw new Error('the flush failed');
  driver.close();
  return { seconds: took, count };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [socket = '', mode, block, depth, seconds, size_bytes] = process.argv.slice(2);
  const how = {
    socket,
    mode: mode as VblkLoad['mode'],
    block_bytes: Number(block),
    depth: Number(depth),
    seconds: Number(seconds),
    size_bytes: Number(size_bytes),
  };
  process.stdout.write(JSON.stringify(load(how)));
}
