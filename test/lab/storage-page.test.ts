/**
 * docs/storage.md, as somebody would follow it: its files are written, its commands are typed, one after another, on a weft of
 * its own. What it says of TLS is seen by libnbd and QEMU.
 *
 *   bash: weft, nbdinfo, qemu-io, qemu-img, openssl --- weftd --- weft-storage --- pools in the state directory
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Fabric, PROJECT_DIRECTORY, WEFT } from './harness/fabric.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { freePort } from './harness/ports.js';
import { run } from './harness/processes.js';

t.setTimeout(600_000);

/** `file` of a block that is to be written, or null: typed. */
interface Block {
  file: string | null;
  text: string;
}

function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```(?:yaml file=(\S+)|sh)\n(.*?)^```/gms)].map(([, file, text = '']) => ({
    file: file ?? null,
    text,
  }));
}

const skip = missing({ programs: ['bash', 'nbdinfo', 'qemu-io', 'qemu-img', 'openssl'] });

await t.test('every command of docs/storage.md', { skip }, async t => {
  const lab = Lab.open('/var/tmp');
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const here = lab.path('here');
  const bin = lab.path('bin');
  mkdirSync(here);
  mkdirSync(bin);
  symlinkSync(WEFT, join(bin, 'weft'));
  // Those of the page may be in use on this machine.
  const ports = new Map([
    ['10809', await freePort()],
    ['10810', await freePort()],
  ]);
  const page = readFileSync(join(PROJECT_DIRECTORY, 'docs/storage.md'), 'utf8').replaceAll(
    /\b1081?0?9?\b/g,
    text => String(ports.get(text) ?? text),
  );
  const blocks = blocksOf(page);
  t.ok(blocks.length > 15, `${blocks.length} blocks`);
  const env = { WEFT_STATE: fabric.state, PATH: `${bin}:${process.env['PATH'] ?? ''}`, HOME: here };
  for (const { file, text } of blocks) {
    if (file !== null) {
      writeFileSync(join(here, file), text);
      continue;
    }
    for (const line of text.trim().split('\n')) {
      const { status, stdout, stderr } = await run(['bash', '-euc', `cd ${here}; ${line}`], {
        env,
        mayFail: true,
        timeout_ms: 120_000,
      });
      t.equal(status, 0, status === 0 ? line : `${line}\n${stdout}${stderr}`);
    }
  }
  t.same(fabric.processes(), []);
});
