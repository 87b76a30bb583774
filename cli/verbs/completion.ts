import { Argument, type Command } from 'commander';
import { z } from 'zod';
import { ResourcePage, VolumePage, VolumeView, storage } from '../../control/api/contract.js';
import type { Client } from '../client.js';
import { complete, type NameSource } from '../completion.js';
import type { Register } from '../resources.js';
import { JobList } from '../storage/jobs.js';
import { parseVolume, volumePath } from '../storage/names.js';

const ASK_DEADLINE_MS = 500;
const Pools = z.object({ pools: z.array(storage.PoolStatus) });

const BASH = `# bash completion for weft: source <(weft completion bash)
_weft() {
  local word about
  COMPREPLY=()
  while IFS=$'\\t' read -r word about; do
    if [[ $word == :files ]]; then
      compopt -o filenames 2>/dev/null
      local file
      while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
    else
      COMPREPLY+=("$word")
    fi
  done < <("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _weft weft
`;

const ZSH = `#compdef weft
# zsh completion for weft: source <(weft completion zsh)
_weft() {
  local line word about
  local -a candidates
  while IFS=$'\\t' read -r word about; do
    if [[ $word == :files ]]; then
      _files
    else
      candidates+=("\${word//:/\\\\:}\${about:+:$about}")
    fi
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe weft candidates
}
if [[ $funcstack[1] == _weft ]]; then _weft "$@"; else compdef _weft weft; fi
`;

const FISH = `# fish completion for weft: weft completion fish | source
function __weft_complete
    set -l line (commandline -opc) (commandline -ct)
    for candidate in ($line[1] __complete -- $line[2..-1] 2>/dev/null)
        if test "$candidate" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $candidate
        end
    end
end
complete -c weft -f -a '(__weft_complete)'
`;

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

export const registerCompletion: Register = (program, session) => {
  program
    .command('completion')
    .description('print the completion script for a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      '\nFor example, in ~/.bashrc:  source <(weft completion bash)\nNames of resources are asked of weftd while you type.',
    )
    .action((shell: string) => {
      session.io.stdout.write(SCRIPTS[shell] ?? '');
    });

  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(async (words: string[], _options: unknown, command: Command) => {
      const { candidates, files } = await complete(
        program,
        words,
        nameSource(stateAsTyped(session, command, words)),
      );
      const lines = candidates.map(({ word, about }) => (about === '' ? word : `${word}\t${about}`));
      if (files) lines.push(':files');
      session.printAll(lines);
    });
};

/** The line being completed may say --state itself; after `--` the parser has left it among the words. */
function stateAsTyped(session: Parameters<Register>[1], command: Command, words: readonly string[]): Client {
  for (const option of ['state', 'url', 'tokenFile'] as const) {
    const flag = option === 'tokenFile' ? '--token-file' : `--${option}`;
    const at = words.indexOf(flag);
    const value =
      at >= 0 && at < words.length - 2
        ? words[at + 1]
        : words.find(word => word.startsWith(`${flag}=`))?.slice(flag.length + 1);
    if (value !== undefined) command.parent?.setOptionValue(option, value);
  }
  return session.client(command);
}

/** No answer in time is no candidates: a shell must not stutter, and errors have no place on its line. */
function nameSource(client: Client): NameSource {
  const quietly = async <T>(work: Promise<T[]>): Promise<T[]> => work.catch(() => []);
  return {
    names: kind =>
      quietly(
        client
          .call('GET', '/v1/resources', ResourcePage, { query: { kind }, deadline_ms: ASK_DEADLINE_MS })
          .then(({ resources }) => resources.map(resource => ({ kind: resource.kind, name: resource.name }))),
      ),
    volumes: () =>
      quietly(
        client
          .call('GET', '/v1/volumes', VolumePage, { deadline_ms: ASK_DEADLINE_MS })
          .then(({ volumes }) => volumes.map(({ pool, name }) => `${pool}/${name}`)),
      ),
    snapshots: volume =>
      quietly(
        (async () => {
          const path = volumePath(parseVolume(volume));
          const { snapshots = [] } = await client.call('GET', path, VolumeView, {
            deadline_ms: ASK_DEADLINE_MS,
          });
          return snapshots.map(({ name }) => name);
        })(),
      ),
    pools: () =>
      quietly(
        client
          .call('GET', '/v1/pools', Pools, { deadline_ms: ASK_DEADLINE_MS })
          .then(({ pools }) => pools.map(({ name }) => name)),
      ),
    jobs: () =>
      quietly(
        client
          .call('GET', '/v1/jobs', JobList, { deadline_ms: ASK_DEADLINE_MS })
          .then(({ jobs }) => jobs.filter(({ endedAt_ms }) => endedAt_ms === null).map(({ id }) => id)),
      ),
  };
}
