// Evaluates a configuration file in the user's Node, and writes what it exports as JSON behind a mark.
// Arguments: the file, the mark.
import { pathToFileURL } from 'node:url';

const [file, mark] = process.argv.slice(-2);
const pattern = '$everup.pattern';

const plain = (key, value) => {
  if (value instanceof RegExp) return { [pattern]: value.source };
  return typeof value === 'bigint' ? Number(value) : value;
};

const module = await import(pathToFileURL(file).href);
let value = 'default' in module ? module.default : { ...module };
if (value && value.__esModule && value.default) value = value.default;
if (typeof value === 'function') value = await value({ env: process.env });
value = await value;
process.stdout.write(mark + JSON.stringify(value ?? null, plain));
