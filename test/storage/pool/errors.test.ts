/** What the kernel refuses, in the words of a pool: each says what to do. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t from 'tap';
import { toStorageError } from '../../../storage/pool/errors.js';
import { kernelFiles, type PoolFiles } from '../../../storage/pool/files.js';
import { Pool } from '../../../storage/pool/pool.js';

const refused = (code: string, errno: number): Error =>
  Object.assign(new Error(`${code}: refused`), { code, errno: -errno, syscall: 'open' });

void t.test('each in words', async t => {
  const words = {
    EROFS: [30, /read-only/],
    EACCES: [13, /chown/],
    EPERM: [1, /chown/],
    EOPNOTSUPP: [95, /sparse/],
  } as const;
  for (const [code, [errno, says]] of Object.entries(words)) {
    const error = toStorageError(refused(code, errno), 'pool /p');
    t.match(error, { code: 'POOL_IO', message: says }, code);
    t.match(error.message, /^pool \/p: /);
  }
  t.match(toStorageError(refused('ENOSPC', 28), 'pool /p'), { code: 'VOLUME_NO_SPACE' });
});

void t.test('a file system that takes no space ahead: volumes are made, but none with its space', async t => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-storage-errors-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  const files: PoolFiles = {
    ...kernelFiles,
    reserve: () => {
      throw refused('EOPNOTSUPP', 95);
    },
    makeFile: (file, length_bytes, allocated) => {
      if (allocated) throw refused('EOPNOTSUPP', 95);
      kernelFiles.makeFile(file, length_bytes, allocated);
    },
  };
  const pool = Pool.open(path.join(directory, 'p'), () => 1, files);
  t.teardown(() => pool.close());
  pool.make('thin', { size_bytes: 8192 });
  t.throws(() => pool.make('full', { size_bytes: 8192, preallocated: true }), {
    code: 'POOL_IO',
    message: /sparse/,
  });
  t.same(pool.names(), ['thin']);
  t.equal(fs.readdirSync(path.join(pool.directory, 'layers')).length, 1, 'nothing is left of it');
});
