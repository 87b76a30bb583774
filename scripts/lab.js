/** `npm run lab [-- WORD...]`: the lab tests alone; the same as `npm test -- lab`. */
process.argv.splice(2, 0, 'lab');
await import('./test.js');
