/**
 * Disks that fail: each call of a job in turn answers EIO, or ENOSPC. The job fails in words, or can do without; what is there
 * reads as before, after a power cut too, and the job can be done again. WEFT_SEED=n chooses the same disks again.
 */
import t from 'tap';
import { JobError } from '../../../storage/jobs/errors.js';
import { StorageError } from '../../../storage/volume/errors.js';
import { random } from '../layers/disk.js';
import { Rig } from './rig.js';
import { STORIES, again, judge, newDirectory, tell, type Story } from './story.js';
import { firstSeed } from '../../seed.js';

// Seconds of work; a machine with much to do takes longer.
t.setTimeout(300_000);

const seed = Number(process.env['WEFT_SEED'] ?? firstSeed);
const pick = random(seed);
/** Of a story with more, so many are chosen. */
const CALLS = 14;

/** What is wrong when this call fails; null: nothing. */
async function play(story: Story, bad: number, code: string): Promise<string | null> {
  let where = '';
  const { rig, recorder, kept, error } = await tell(story, (number, what) => {
    if (number !== bad) return null;
    where = what;
    return code;
  });
  try {
    const at = `WEFT_SEED=${seed}: ${code} from call ${bad}, ${where}`;
    if (error !== null && !(error instanceof JobError) && !(error instanceof StorageError))
      return `${at}: ${error.stack}`;
    if (where === 'sync' && error === null) return `${at}: a sync failed, and nobody was told`;
    const before = await judge(rig, kept);
    if (before !== null) return `${at}: ${before}`;
    const { moments, catalogues } = recorder;
    for (const files of recorder.disk.cuts(moments, bad, 1)) {
      if (pick(3) > 0) continue;
      const directory = newDirectory();
      const { catalogue } = catalogues.at(-1)!;
      recorder.put(files, catalogue, directory);
      const survivor = Rig.after(catalogue, directory);
      try {
        const wrong = await judge(survivor, kept);
        if (wrong !== null) return `${at}, then a power cut: ${wrong}`;
      } finally {
        survivor.close();
      }
    }
    const after = await again(rig, story, kept);
    return after === null ? null : `${at}: ${after}`;
  } finally {
    rig.close();
  }
}

for (const story of STORIES)
  void t.test(story.name, async t => {
    const { rig, recorder } = await tell(story);
    const calls = recorder.callCount;
    rig.close();
    const chosen = Array.from({ length: calls }, (_, call) => call).filter(() => pick(calls) < CALLS);
    for (const bad of chosen) {
      const wrong = await play(story, bad, pick(2) === 0 ? 'EIO' : 'ENOSPC');
      if (wrong !== null) return t.fail(wrong);
    }
    t.pass(`${chosen.length} of ${calls} calls`);
  });
