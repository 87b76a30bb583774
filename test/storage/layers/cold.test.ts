/** Pages of maps that are not in memory: brought while others go on, by one read for all who need them, in any order. */
import t from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import { GROUP_BYTES, REGION_BYTES, checksumPageAt, statePageAt } from '../../../storage/layers/map.js';
import { newExtentList, type Waiter } from '../../../storage/volume/volume.js';
import { BLOCK, readBlock } from './history.js';
import { Rig } from './rig.js';

const SIZE = 4 * GROUP_BYTES;
const IN_GROUP = GROUP_BYTES / BLOCK;
const IN_REGION = REGION_BYTES / BLOCK;
/** The first block of group 1, and of its second region: what is said of group 0 is looked at when a layer is opened. */
const FIRST = IN_GROUP;
const SECOND = FIRST + IN_REGION;
const memory = mapAnonymous(8 * BLOCK);
const AGAIN = -11;

/** A chain of layers: of `count` generations, each has written the block of its number in two regions of group 1, and all of them the first of group 2. */
function rigOf(seed: number, count: number): Rig {
  const rig = Rig.make(seed, { size_bytes: SIZE, checksums: true });
  const write = (block: number, value: number): void => {
    memory.bytes.fill(value, 0, BLOCK);
    t.equal(
      rig.wait((waiter, token) => rig.volume.write(block * BLOCK, BLOCK, memory, 0, waiter, token)),
      0,
    );
  };
  for (let n = 1; n <= count; n++) {
    if (n > 1) rig.wait((waiter, token) => rig.snapshot(undefined, r => waiter.completed(token, r)));
    write(FIRST + n, n);
    write(2 * IN_GROUP, n);
    write(SECOND + n, n);
  }
  t.equal(rig.shut(), 0);
  return rig;
}

/** Opened again, with maps that are not in memory. */
function opened(rig: Rig): Rig {
  rig.coldMaps = true;
  rig.open();
  return rig;
}

/** Reads begun; answers as they come. */
class Reads implements Waiter {
  readonly results = new Map<number, number>();
  #rig: Rig;
  #rooms = new Map<number, Uint8Array>();
  constructor(rig: Rig) {
    this.#rig = rig;
  }
  begin(block: number): void {
    const room = mapAnonymous(BLOCK);
    this.#rooms.set(block, room.bytes);
    t.equal(this.#rig.volume.tryRead(block * BLOCK, BLOCK, room, 0), AGAIN);
    this.#rig.volume.read(block * BLOCK, BLOCK, room, 0, this, block);
  }
  completed(block: number, result: number): void {
    t.notOk(this.results.has(block), 'one answer');
    this.results.set(block, result);
  }
  end(): void {
    this.#rig.until(() => this.results.size === this.#rooms.size, 'reads');
  }
  value(block: number): number {
    return this.#rooms.get(block)![7]!;
  }
}

void t.test('a page is read once for all who need it, and nobody else waits', async t => {
  const rig = opened(rigOf(1, 3));
  const { disk, volume } = rig;
  const { mapFds } = rig;
  readBlock(rig, volume, 2 * IN_GROUP, bytes => t.equal(bytes[0], 3));
  const asked: string[] = [];
  disk.fail = (_call, what, fd) => {
    if (mapFds.includes(fd)) asked.push(`${what} ${mapFds.indexOf(fd)}`);
    return 0;
  };
  disk.waitedCount = 0;
  const reads = new Reads(rig);
  for (const block of [1, 2, 3, 4, IN_REGION + 1, IN_REGION + 3, IN_REGION + 9]) reads.begin(FIRST + block);
  rig.later.turn();
  t.ok(disk.pending > 0, 'pages are under way');
  for (let n = 0; n < 3; n++) {
    t.equal(volume.tryRead(2 * IN_GROUP * BLOCK, BLOCK, memory, 0), 0, 'what is known is answered meanwhile');
    t.equal(memory.bytes[0], 3);
  }
  reads.end();
  for (const [block, value] of [
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 0],
    [IN_REGION + 1, 1],
    [IN_REGION + 3, 3],
    [IN_REGION + 9, 0],
  ] as const) {
    t.equal(reads.results.get(FIRST + block), 0);
    t.equal(reads.value(FIRST + block), value, `block ${block}`);
  }
  // States of the group once of each layer; words of two regions once of each layer.
  t.same(asked.sort(), [0, 1, 2].flatMap(layer => Array<string>(3).fill(`pread ${layer}`)).sort());
  t.equal(disk.waitedCount, 0, 'no page was waited for');
});

void t.test('a page that cannot be read fails those who need it', async t => {
  const rig = opened(rigOf(2, 2));
  const { disk, volume } = rig;
  disk.failAt = (fd, offset) => (fd === rig.mapFds[1] && offset === statePageAt(1, 0) ? -5 : 0);
  const reads = new Reads(rig);
  for (const block of [1, 2, IN_REGION + 2]) reads.begin(FIRST + block);
  reads.end();
  t.equal(reads.results.get(FIRST + 1), -5, 'the lower layer is to be asked');
  t.equal(reads.results.get(FIRST + 2), 0, 'the upper layer has it');
  t.equal(reads.results.get(SECOND + 2), 0);
  t.equal(
    readBlock(rig, volume, 2 * IN_GROUP, bytes => t.equal(bytes[0], 2)),
    0,
    'elsewhere',
  );
  t.match(volume.reason, `the map of bytes ${GROUP_BYTES} to ${2 * GROUP_BYTES} `);
  t.match(volume.reason, rig.layers[1]!.uuid);
});

void t.test('a page of checksums that cannot be read is told; what it was of is served', async t => {
  const rig = opened(rigOf(3, 2));
  const { disk, volume } = rig;
  disk.failAt = (fd, offset) => (fd === rig.mapFds[0] && offset === checksumPageAt(8) ? -5 : 0);
  const reads = new Reads(rig);
  for (const block of [1, 2]) reads.begin(FIRST + block);
  reads.end();
  t.same([...reads.results.values()], [0, 0]);
  t.same([reads.value(FIRST + 1), reads.value(FIRST + 2)], [1, 2]);
  t.equal(volume.state, 'ok');
  t.match(volume.reason, /checksums of the bytes 33554432 to 37748736 are lost/);
});

void t.test('a write to a region whose pages are under way', async t => {
  for (let seed = 1; seed <= 30; seed++) {
    const rig = opened(rigOf(seed, 2));
    const { volume } = rig;
    const reads = new Reads(rig);
    reads.begin(FIRST + 1);
    if (seed % 2 === 0) rig.turn();
    memory.bytes.fill(9, 0, BLOCK);
    t.equal(volume.tryWrite((FIRST + 1) * BLOCK, 100, memory, 0), AGAIN);
    let written = 1;
    volume.write(
      (FIRST + 1) * BLOCK,
      100,
      memory,
      0,
      { completed: (_token, result) => (written = result) },
      0,
    );
    let cleared = 1;
    const how = { mayUnmap: true, fastOnly: false };
    const waiter = { completed: (_token: number, result: number) => (cleared = result) };
    // Two groups: of the first the states are under way, of the second nothing is known.
    volume.zero((FIRST + 3) * BLOCK, GROUP_BYTES, how, waiter, 0);
    reads.begin(2 * IN_GROUP);
    reads.end();
    rig.until(() => written !== 1 && cleared !== 1, 'write');
    t.same([written, cleared], [0, 0]);
    t.ok([1, 9].includes(reads.value(FIRST + 1)));
    readBlock(rig, volume, FIRST + 1, bytes => t.same([bytes[0], bytes[100]], [9, 1], `seed ${seed}`));
    readBlock(rig, volume, SECOND + 1, bytes => t.equal(bytes[0], 0));
    t.equal(rig.flush(), 0);
    rig.kill();
    readBlock(rig, rig.volume, FIRST + 1, bytes => t.same([bytes[0], bytes[100]], [9, 1], `seed ${seed}`));
    readBlock(rig, rig.volume, SECOND + 1, bytes => t.equal(bytes[0], 0));
  }
});

void t.test('pages that were written while they were under way are not taken', async t => {
  const rig = opened(rigOf(4, 1));
  const { volume } = rig;
  const layer = volume.chain.top;
  const old = new Uint8Array(2 * 4096);
  rig.disk.get(rig.mapFds[0]!, old, 0);
  layer.expect(3);
  // Somebody who waits was quicker.
  layer.setState(24, 5, 1);
  layer.came(3, new Uint8Array(2 * 4096));
  t.equal(layer.state(24, 5), 1);
  layer.expect(3);
  layer.came(3, null);
  t.equal(layer.state(24, 5), 1);
  t.equal(layer.damage, null);
});

void t.test('a chain that is longer than what is asked for at a time', async t => {
  const rig = opened(rigOf(5, 40));
  rig.disk.waitedCount = 0;
  const reads = new Reads(rig);
  for (let n = 1; n <= 41; n++) reads.begin(FIRST + n);
  reads.end();
  for (let n = 1; n <= 41; n++) {
    t.equal(reads.results.get(FIRST + n), 0);
    t.equal(reads.value(FIRST + n), n === 41 ? 0 : n);
  }
  // Pages of words beyond those that are kept are taken from the page cache, and this disk has none.
  t.equal(rig.disk.waitedCount, 24);
});

void t.test('what a process that died has left is looked for in many places at a time', async t => {
  const GROUPS = 300;
  const rig = Rig.make(6, { size_bytes: 10 * GROUPS * GROUP_BYTES, checksums: true });
  const write = (group: number): void => {
    memory.bytes.fill(1 + (group % 250), 0, BLOCK);
    t.equal(
      rig.wait((waiter, token) => rig.volume.write(group * GROUP_BYTES, BLOCK, memory, 0, waiter, token)),
      0,
    );
  };
  for (let group = 0; group < GROUPS; group++) write(group);
  const { disk } = rig;
  const [mapFd] = rig.mapFds;
  rig.kill();
  const cached = new Set<number>();
  let together = 0;
  let most = 0;
  disk.isAway = (fd, offset) => fd === mapFd && !cached.has(offset);
  disk.readBegun = (fd, offset) => {
    if (fd !== mapFd) return;
    cached.add(offset);
    most = Math.max(most, ++together);
  };
  disk.readEnded = fd => void (fd === mapFd && together--);
  disk.waitedCount = 0;
  t.equal(rig.flush(), 0);
  t.equal(cached.size, GROUPS);
  t.ok(most > 100 && most <= 128, `${most} together`);
  t.equal(disk.waitedCount, 0);
  // What is to be finished has left the memory again, driven out by others.
  const { isAway } = disk;
  disk.isAway = () => false;
  for (let group = GROUPS; group < 10 * GROUPS; group++) rig.volume.chain.top.groupNow(group);
  disk.isAway = isAway;
  cached.clear();
  t.equal(rig.shut(), 0);
  t.ok(cached.size > GROUPS / 2, `${cached.size} were brought`);
  t.equal(disk.waitedCount, 0);
  disk.isAway = () => false;
  // Nothing of the page cache is left: what the flush covered is there.
  disk.bootId.fill(9);
  rig.kill();
  for (let group = 0; group < GROUPS; group += 7)
    readBlock(rig, rig.volume, group * IN_GROUP, bytes => t.equal(bytes[9], 1 + (group % 250)));
});

void t.test('what block status needs is brought first', async t => {
  const rig = opened(rigOf(7, 2));
  const { disk, volume } = rig;
  const list = newExtentList(16);
  disk.waitedCount = 0;
  let told = 0;
  const waiter = { completed: (token: number) => void (told = token) };
  t.equal(volume.meta!.bring!(0, SIZE, waiter, 5), true);
  t.equal(told, 0);
  rig.until(() => told === 5, 'the map');
  t.equal(volume.extents(0, SIZE, list), 0);
  t.same([...list.lengths_bytes.subarray(0, 3)], [GROUP_BYTES + BLOCK, 2 * BLOCK, REGION_BYTES - 2 * BLOCK]);
  t.equal(volume.meta!.bring!(0, SIZE, waiter, 6), false, 'now all is here');
  t.equal(disk.waitedCount, 0);
});
