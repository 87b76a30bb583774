/**
 * `npm start`: from a fresh clone to a running fabric. Plain JavaScript, since nothing is installed yet: checks Node,
 * installs what is missing, builds, and hands over to the built quickstart, which stays in the foreground.
 */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  // The modules below may not even parse in an old one.
  console.error(`weft needs Node.js 20.19 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

const USAGE = `npm start [-- OPTIONS]   bring up configs/quickstart.yaml and show what its guests say
  --once               end after all was seen as expected: exit code 0, or 1 with what was missing
  --timeout SECONDS    how long --once waits (default: 600)
  --state DIR          state directory (default: $WEFT_STATE, else /var/lib/weft as root, ~/.local/state/weft otherwise)`;

const { SetupError, say } = await import('./setup/step.js');
try {
  const options = parse(process.argv.slice(2));
  const { checkNode } = await import('./setup/node.js');
  const { install } = await import('./setup/install.js');
  const { installPackages } = await import('./setup/packages.js');
  const { build } = await import('./setup/build.js');
  checkNode();
  // First what a person may have to do themselves, so that they need not wait to hear of it.
  await installPackages();
  await install();
  await build();
  const { runQuickstart } = await import('../dist/cli/quickstart.js');
  process.exitCode = await runQuickstart(options);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(`error: ${error.message}`);
  process.exitCode = 1;
}
process.exit();

function parse(args) {
  const options = { once: false, timeout_ms: 600_000, state: undefined };
  for (let i = 0; i < args.length; i++) {
    const [flag, inline] = args[i].split(/=(.*)/s, 2);
    const value = () => {
      const text = inline ?? args[++i];
      if (text === undefined) throw new SetupError(`${flag} needs a value\n${USAGE}`);
      return text;
    };
    if (flag === '--once') options.once = true;
    else if (flag === '--state') options.state = value();
    else if (flag === '--timeout') {
      const seconds = Number(value());
      if (!(seconds > 0)) throw new SetupError(`--timeout needs a number of seconds\n${USAGE}`);
      options.timeout_ms = seconds * 1000;
    } else if (flag === '--help' || flag === '-h') {
      console.log(USAGE);
      process.exit(0);
    } else throw new SetupError(`unknown option ${flag}\n${USAGE}`);
  }
  return options;
}
