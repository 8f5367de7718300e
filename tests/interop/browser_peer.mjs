// Runs in the page: fetches a torrent or seeds one file with webtorrent's bundle, and reports to the server.
// Address: /?do=fetch|seed&tracker=URL
import WebTorrent from '/webtorrent.min.js'

const asked = new URLSearchParams(location.search)
const report = (event, about = {}) =>
  fetch('/report', { method: 'POST', body: JSON.stringify({ event, ...about }) })
addEventListener('unhandledrejection', ({ reason }) => report('error', { message: String(reason) }))
addEventListener('error', ({ message }) => report('error', { message }))

const hex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
const bytesOf = async path => new Uint8Array(await (await fetch(path)).arrayBuffer())

// The default names public STUN servers.
const client = new WebTorrent({ tracker: { rtcConfig: { iceServers: [] } } })
client.on('error', error => report('error', { message: error.message }))

async function take () {
  const torrent = client.add(await bytesOf('/content.torrent'))
  watch(torrent)
  torrent.on('done', async () => {
    const files = {}
    for (const file of torrent.files) {
      const content = await (await file.blob()).arrayBuffer()
      files[file.path] = hex(new Uint8Array(await crypto.subtle.digest('SHA-256', content)))
    }
    report('done', { sha256: files[torrent.files[0].path], files, bytes: torrent.downloaded })
  })
}

async function give () {
  const file = new File([await bytesOf('/content')], 'model.bin')
  client.seed(file, { announce: [asked.get('tracker')] }, torrent => {
    watch(torrent)
    report('seeding', { torrent: hex(torrent.torrentFile) })
  })
}

function watch (torrent) {
  torrent.on('warning', error => report('warning', { message: error.message ?? error }))
  torrent.on('wire', wire => report('wire', { type: wire.type }))
}

await (asked.get('do') === 'seed' ? give() : take())
report('ready')
