// Drives npm bittorrent-tracker's client; peers are its own, over real WebRTC.
// Usage: node tracker_client.mjs PACKAGE_FOLDER TRACKER PEER_ID INFO_HASH...   (ids in hex)
// Several info hashes: several swarms on one socket, as the client shares it.
import { obey, say } from './lines.mjs'
import { lostToRace, sayEndOfCandidates } from './node_webrtc.mjs'

const [folder, announce, peerId, ...hashes] = process.argv.slice(2)
await sayEndOfCandidates(`${folder}/..`)
const { default: Client } = await import(`${folder}/client.js`)
const clients = new Map(hashes.map(infoHash => [infoHash, start(infoHash)]))

function start (infoHash) {
  // The default names public STUN servers.
  const client = new Client({ infoHash, peerId, announce, port: 1, rtcConfig: { iceServers: [] } })
  client.on('update', ({ complete, incomplete }) => say('update', { infoHash, complete, incomplete }))
  client.on('scrape', ({ infoHash, complete, incomplete, downloaded }) =>
    say('scrape', { infoHash, complete, incomplete, downloaded }))
  client.on('warning', error => {
    say('warning', { infoHash, message: error.message })
    if (lostToRace(error)) client.update()
  })
  client.on('error', error => say('error', { infoHash, message: error.message }))
  client.on('peer', peer => met(infoHash, peer))
  return client
}

function met (infoHash, peer) {
  peer.on('connect', () => {
    say('connected', { infoHash, peer: peer.id, offered: peer.initiator })
    peer.write(`${peerId} greets ${peer.id}`)
  })
  peer.on('data', data => say('data', { infoHash, text: Buffer.from(data).toString() }))
  // The other half of a pair may go first.
  peer.on('error', () => {})
}

obey({
  announce ({ infoHash, how, options }) { clients.get(infoHash)[how](options) },
  scrape ({ infoHash, of }) { clients.get(infoHash).scrape({ infoHash: of }) },
  // As the client would, were it a broken one; its socket is the one that all swarms share.
  send ({ message }) { clients.get(hashes[0])._trackers[0].socket.send(JSON.stringify(message)) },
  // It waits 10 s and a random part of 5 minutes before it dials again: take the random part away.
  hurry () { Math.random = () => 0; say('hurrying') }
})
say('ready')
