import t from 'tap';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createNetns, inNetns } from '../../host/netns.js';
import * as raw from '../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'network namespaces need root';
const here = () => fs.readlinkSync('/proc/thread-self/ns/net');

await t.test('a function runs inside, and the thread comes back', { skip }, async t => {
  const home = here();
  const namespace = createNetns();
  t.equal(here(), home);
  const inside = inNetns(namespace, here);
  t.not(inside, home);
  t.equal(inside, fs.readlinkSync(`/proc/self/fd/${namespace}`));
  t.equal(here(), home);
  t.throws(
    () =>
      inNetns(namespace, () => {
        throw new RangeError('inside');
      }),
    { message: 'inside' },
  );
  t.equal(here(), home, 'also after an exception');

  const byPath = `/proc/self/fd/${namespace}`;
  t.equal(inNetns(byPath, here), inside);
  const names = inNetns(namespace, () => execFileSync('cat', ['/proc/net/dev'], { encoding: 'utf8' }));
  t.match(names, /lo:/, 'a child starts inside');
  t.equal(names.trim().split('\n').length, 3, 'and sees nothing but lo');
  const openBefore = fs.readdirSync('/proc/self/fd').length;
  inNetns(namespace, here);
  t.equal(fs.readdirSync('/proc/self/fd').length, openBefore, 'no fd is left open');
  raw.close(namespace);
});

await t.test('what is no namespace', { skip }, async t => {
  t.throws(() => inNetns('/nonexistent', here), { code: 'ENOENT', message: /\/nonexistent/ });
  t.throws(() => inNetns('/dev/null', here), { code: 'EINVAL', syscall: 'setns' });
  t.throws(() => inNetns(-1, here), { code: 'EBADF' });
});
