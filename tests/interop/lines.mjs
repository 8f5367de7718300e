// How a driver and its test talk: one JSON object a line, commands on stdin, events on stdout.
import { createInterface } from 'node:readline'

export const say = (event, about = {}) => console.log(JSON.stringify({ event, ...about }))

export function obey (commands) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', line => {
    const { command, ...about } = JSON.parse(line)
    commands[command](about)
  })
  // The test is gone: nobody else would end this process.
  lines.on('close', () => process.exit())
}
