/** Values of options, checked where the command line is read, so that a wrong one is a usage error. */
import { InvalidArgumentError, Option, type Help } from 'commander';
import { parseDuration_ms } from '../control/model/spec.js';

/** `90s`, `5m`; as in the configuration. */
export function duration_ms(text: string): number {
  const value_ms = parseDuration_ms(text);
  if (value_ms === undefined)
    throw new InvalidArgumentError('a duration is a number and a unit: ms, s, m or h.');
  return value_ms;
}

export function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('not a whole number.');
  return value;
}

/** For an option that may be given many times. */
export function collect(text: string, previous: readonly string[]): string[] {
  return [...previous, text];
}

/** `--timeout` and its like: read as a duration, its default shown as a person writes it. */
export function durationOption(flags: string, about: string, fallback: string): Option {
  return new Option(flags, about).argParser(duration_ms).default(duration_ms(fallback), fallback);
}

/** Commander's, without defaults that say nothing, such as `false` and an empty list. */
export function optionDescription(this: Help, option: Option): string {
  const { defaultValue, argChoices, description } = option;
  const extra: string[] = [];
  if (argChoices !== undefined) extra.push(argChoices.join(', '));
  if (typeof defaultValue === 'string' || typeof defaultValue === 'number') {
    extra.push(`default: ${option.defaultValueDescription ?? defaultValue}`);
  }
  return extra.length === 0 ? description : `${description} (${extra.join('; ')})`;
}
