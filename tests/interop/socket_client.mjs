// A plain npm ws socket: sends what it is told and says what it hears.
// Usage: node socket_client.mjs PACKAGE_FOLDER TRACKER
import { obey, say } from './lines.mjs'

const [folder, url] = process.argv.slice(2)
const { default: WebSocket } = await import(`${folder}/wrapper.mjs`)

const socket = new WebSocket(url)
socket.on('open', () => say('open'))
socket.on('message', (data, binary) => say('heard', { binary, message: JSON.parse(data) }))
socket.on('ping', () => say('ping'))
socket.on('close', code => say('close', { code }))
socket.on('error', error => say('error', { message: error.message }))

obey({
  text ({ message }) { socket.send(JSON.stringify(message)) },
  binary ({ message }) { socket.send(Buffer.from(JSON.stringify(message))) }
})
