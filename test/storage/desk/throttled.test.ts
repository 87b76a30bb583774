/** What waited for a limit of a volume is in its status. */
import t from 'tap';
import { NetClient } from '../nbd/netClient.js';
import { Plane } from '../plane.js';

void t.test('requests that waited for a limit are counted, those of others are not', async t => {
  const plane = await Plane.start(t);
  const exports = [plane.unix('slow'), plane.unix('free')];
  const pools = [{ name: 'p', directory: plane.path('pool') }];
  const volumes = [{ pool: 'p', name: 'slow', limits: { operations: { rate_per_s: 4, burst: 1 } } }];
  t.equal((await plane.ask('PUT', '/config', { generation: 1, pools, volumes, exports })).status, 200);
  for (const name of ['slow', 'free']) {
    await plane.volume(name, 1024 * 1024);
    const client = await NetClient.connect({ path: plane.path('nbd.sock') }, name);
    // All at once: asked one by one, a slow machine alone would be slow enough.
    await Promise.all([0, 1, 2, 3].map(i => client.write(i * 4096, Buffer.alloc(4096, 1))));
    await client.disconnect();
  }
  const [free, slow] = (await plane.status()).volumes.sort((a, b) => (a.name < b.name ? -1 : 1));
  t.ok(slow!.throttledCount! > 0 && slow!.throttled_ms! > 0, JSON.stringify(slow));
  t.match(free, { throttledCount: 0, throttled_ms: 0 });
});
