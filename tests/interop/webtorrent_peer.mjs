// Seeds or fetches with npm webtorrent in Node, over WebRTC alone.
// Usage: node webtorrent_peer.mjs PACKAGE_FOLDER TORRENT CONTENT_FOLDER   (a file or a magnet link)
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { obey, say } from './lines.mjs'
import { lostToRace, sayEndOfCandidates } from './node_webrtc.mjs'

const [folder, named, path] = process.argv.slice(2)
await sayEndOfCandidates(`${folder}/..`)
const { default: WebTorrent } = await import(`${folder}/index.js`)

// It listens for TCP whatever its options are, and on every address.
const { listen } = net.Server.prototype
net.Server.prototype.listen = function (port, ...more) {
  return listen.call(this, port, '127.0.0.1', ...more)
}

const client = new WebTorrent({
  dht: false,
  lsd: false,
  utp: false,
  utPex: false,
  natUpnp: false,
  natPmp: false,
  webSeeds: false,
  // The default names public STUN servers.
  tracker: { rtcConfig: { iceServers: [] } }
})
client.on('error', error => say('error', { message: error.message }))

const torrent = client.add(named.startsWith('magnet:') ? named : readFileSync(named), { path })
torrent.on('ready', () => say('ready', { progress: torrent.progress }))
torrent.on('done', () => say('done', { bytes: torrent.downloaded }))
// The other side takes 25 s to forget a lost connection, and wants no second one until then.
let again
torrent.on('warning', error => {
  say('warning', { message: error.message ?? error })
  if (lostToRace(error)) again ??= setInterval(() => torrent.discovery.tracker.update(), 5000)
})
torrent.on('wire', wire => {
  clearInterval(again)
  say('wire', { type: wire.type })
})
obey({})
