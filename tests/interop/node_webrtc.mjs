// What Node's WebRTC (npm webrtc-polyfill over node-datachannel) lacks against a browser's. The
// clients themselves stay as they are.

// The event that all candidates are gathered; without it simple-peer waits 5 s for each offer.
export async function sayEndOfCandidates (npm) {
  const { default: Connection } = await import(`${npm}/webrtc-polyfill/lib/RTCPeerConnection.js`)
  const { dispatchEvent } = Connection.prototype
  Connection.prototype.dispatchEvent = function (event) {
    const sent = dispatchEvent.call(this, event)
    const done = event.type === 'icegatheringstatechange' && this.iceGatheringState === 'complete'
    if (done) this.onicecandidate?.({ candidate: null })
    return sent
  }
}

// node-datachannel 0.33.4 on a busy machine: an answer that has come in whole may find its
// connection closed. The client would offer anew at its next interval, in two minutes: do it now.
export const lostToRace = error => String(error.message ?? error).includes('without ICE transport')
