/**
 * Jobs are cut off: after every call that changes a file the power goes, and what was not synced is lost, reordered and torn; or
 * only the process ends. What is opened then reads as before, is verified, has no backup that is not whole, and the job can be
 * done again. WEFT_SEED=n has the same mixtures again.
 */
import t from 'tap';
import { random } from '../layers/disk.js';
import { Rig } from './rig.js';
import { STORIES, again, judge, missing, newDirectory, tell } from './story.js';
import { firstSeed } from '../../seed.js';

// Seconds of work; a machine with much to do takes longer.
t.setTimeout(300_000);

const seed = Number(process.env['WEFT_SEED'] ?? firstSeed);
/** Disks that are looked at in each story. */
const STATES = 20;
const MIXTURES = 4;

for (const story of STORIES)
  void t.test(story.name, async t => {
    const { rig, recorder, kept, error } = await tell(story);
    t.teardown(() => rig.close());
    if (error !== null) throw error;
    const pick = random(seed);
    let count = 0;
    for (let moment = recorder.beganAt; moment <= recorder.moments; moment++) {
      const states = [recorder.disk.killed(moment), ...recorder.disk.cuts(moment, seed + moment, MIXTURES)];
      const few = STATES / (recorder.moments - recorder.beganAt + 1);
      // The two simple ones always, of the others as many as there is time for.
      const chosen = states.filter((_, i) => i < 2 || pick(states.length) < few);
      for (const files of chosen)
        for (const catalogue of recorder.cataloguesAt(moment)) {
          const directory = newDirectory();
          recorder.put(files, catalogue, directory);
          const survivor = Rig.after(catalogue, directory);
          try {
            const where = `WEFT_SEED=${seed}: after ${moment - recorder.beganAt} of ${recorder.moments - recorder.beganAt}, state ${states.indexOf(files)}`;
            const wrong =
              (await judge(survivor, kept)) ??
              (moment === recorder.moments ? missing(survivor, story) : null) ??
              (pick(6) === 0 ? await again(survivor, story, new Map(kept)) : null);
            if (wrong !== null) return t.fail(`${where}: ${wrong}`);
          } finally {
            survivor.close();
          }
          count++;
        }
    }
    t.pass(`${recorder.moments - recorder.beganAt} calls, ${count} disks`);
  });
