/** A volume on its way to another pool: what its guest writes, deaths of weftd at any turn, mirrors that fall behind. */
import fc from 'fast-check';
import t from 'tap';
import { moveFactName } from '../../../control/reconcile/desired.js';
import { World, guest } from './simulator.js';

const SPEC = { pool: 'main', size: '1MiB' };
const DISK = { image: 'k', disks: [{ volume: 'v' }] };

function base(): World {
  const world = new World().add('pool', 'main').add('pool', 'fast').add('image', 'k', { kernel: '/k' });
  world.add('volume', 'v', SPEC).add('machine', 'm', DISK);
  world.settle();
  return world;
}

const begin = (world: World, to = 'fast'): void => {
  const was = world.desired.moveFacts.get('v')?.was ?? [];
  world.facts.set(moveFactName('v'), { to, was });
};

/** By the export that the guest knows; false: it has to wait. */
function write(world: World, content: string): boolean {
  const found = world.storage.config.exports.find(one => one.name === 'machine/m/disk0');
  const volume = found && world.volumes.get(`${found.pool}/${found.volume}`);
  if (found === undefined || volume === undefined) return false;
  const second = world.secondSideOf(found.pool, found.volume);
  if (second?.content === volume.content) second.content = content;
  volume.content = content;
  return true;
}

/** The mirror copies; or its second side missed a write. */
function mirror(world: World, does: 'copies' | 'falls behind'): void {
  const second = world.secondSideOf('main', 'v') ?? world.secondSideOf('fast', 'v');
  const first = world.volumes.get(world.secondSideOf('main', 'v') === undefined ? 'fast/v' : 'main/v');
  if (second === undefined || first === undefined) return;
  second.content = does === 'copies' ? first.content : 'old';
}

/** A world where nothing changes is settled, though a copy goes on: until the move has ended. */
function finish(world: World): void {
  for (let i = 0; i < 100 && world.desired.moveFacts.get('v')?.to !== undefined; i++) world.settle(1000);
  world.settle(1000);
}

const step = fc.constantFrom('write', 'copies', 'falls behind', 'nothing', 'copies');

await t.test('nothing that the guest wrote is lost, whatever happens in between', async () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.array(fc.nat({ max: 9 }), { maxLength: 8 }),
      (steps, cuts) => {
        const world = base();
        let last = 'empty';
        let turn = 0;
        world.onTurn = () => {
          const what = steps[turn++] ?? 'copies';
          if (what === 'write' && write(world, `w${turn}`)) last = `w${turn}`;
          else if (what === 'copies' || what === 'falls behind') mirror(world, what);
        };
        begin(world);
        for (const cut of cuts) {
          // A death of weftd: what it tried and failed is forgotten; what is done and remembered, is.
          try {
            world.settle(cut);
          } catch {
            // Not settled yet.
          }
        }
        finish(world);
        if (world.volumes.get('fast/v')?.content !== last) throw new Error(`lost: ${last}`);
        if (world.volumes.has('main/v')) throw new Error('the first side is left');
        if (world.boots !== 1) throw new Error('the machine was started anew');
        const { pool } = world.storage.config.exports.find(one => one.name === 'machine/m/disk0')!;
        if (pool !== 'fast') throw new Error('the guest is still served from the old pool');
        const restart = world.plan().reports.get('machine/m')?.restartRequired;
        if (restart?.reason !== 'UpToDate') throw new Error(`restart: ${restart?.message}`);
      },
    ),
    { numRuns: 100 },
  );
});

await t.test('back again, and on; the old name is known until the guest has gone', async t => {
  const world = base();
  world.onTurn = () => mirror(world, 'copies');
  write(world, 'mine');
  for (const to of ['fast', 'main', 'fast']) {
    begin(world, to);
    finish(world);
    t.equal(world.volumes.get(`${to}/v`)?.content, 'mine');
    t.equal(world.volumes.size, 1);
  }
  t.same(world.desired.moveFacts.get('v'), { at: 'fast', was: ['main'] });
  world.guests.set('m', guest('m'));
  world.add('machine', 'm', { ...DISK, running: false });
  world.settle();
  t.equal(world.desired.moveFacts.get('v'), undefined);
});

await t.test('ended by whoever asked for it, or by another configuration', async t => {
  const world = base();
  write(world, 'not copied yet');
  begin(world);
  world.settle();
  t.match(world.message('volume/v'), /is being moved to pool "fast"/);
  t.ok(world.storage.config.exports.some(one => one.name === 'move/v'));
  world.add('volume', 'v', { ...SPEC, mirror: { pool: 'fast' } });
  world.settle();
  t.equal(world.desired.moveFacts.get('v'), undefined, 'a mirror by the configuration');
  t.notOk(world.storage.config.exports.some(one => one.name === 'move/v'));
  t.ok(world.volumes.has('main/v') && world.volumes.has('fast/v'));
});

await t.test('what is to be kept stays', async t => {
  const world = base();
  world.onTurn = () => mirror(world, 'copies');
  world.facts.set(moveFactName('v'), { to: 'fast', was: [], keepSource: true });
  finish(world);
  t.same([...world.volumes.keys()].toSorted(), ['fast/v', 'main/v']);
});
